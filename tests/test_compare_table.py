"""The comparison as text and as Markdown: what a reader sees, and what no data can do to it."""

import re
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare import COMPARISON_SCHEMA, to_markdown, to_text
from pipeline.compare.table import WIDTH

ROUTED = {
    "scope": "all",
    "arm": "routed",
    "model": "small",
    "rows": 3_000,
    "ok": 2_990,
    "failed": 10,
    "blocked": 0,
    "truncated": 0,
    "pending": 0,
    "cost_usd": Decimal("1.234567"),
    "cost_kind": "measured",
    "saving": 0.789,
    "saving_low": 0.771,
    "saving_high": 0.802,
    "saving_verdict": "cheaper",
    "metric": "label",
    "scored": 2_400,
    "quality": 0.8125,
    "quality_low": 0.797,
    "quality_high": 0.828,
    "corpus_metric": "macro-F1",
    "corpus_score": 0.7981,
    "confusion": None,
    "paired": 2_000,
    "delta": -0.004,
    "delta_low": -0.0151,
    "delta_high": 0.007,
    "verdict": "too few rows to say",
    "latency_p50_s": 1.1,
    "latency_p95_s": 2.345,
    "note": "rows without an answer, at quality 0 and no baseline cost: 10",
}
NOTHING = dict.fromkeys(COMPARISON_SCHEMA.names)
BASELINE = NOTHING | {
    "scope": "all",
    "arm": "baseline",
    "model": "large",
    "rows": 3_000,
    "cost_usd": Decimal("1851.2"),
    "cost_kind": "estimated",
    "saving": 0.0,
    "scored": 0,
}
EMPTY = NOTHING | {
    "scope": "all",
    "arm": "best_single",
    "rows": 0,
    "paired": 0,
    "note": "no recorded answers to choose from",
}


def a_table(*lines):
    return pa.Table.from_pylist(list(lines), schema=COMPARISON_SCHEMA)


def test_a_table_says_it_all() -> None:
    """Costs, intervals, numbers of rows, verdicts and notes stand where a reader looks for them."""
    lines = to_text(a_table(ROUTED, BASELINE, EMPTY)).splitlines()
    assert [re.split(r"  +", line.strip()) for line in lines[:9]] == [
        ["arm", "model", "rows", "cost USD", "saving %", "scored", "quality %", "to baseline", "p50/p95 s"],
        [""],
        ["all: 3,000 rows, 10 failed; scored by label"],
        [
            "routed", "small", "3,000", "1.234567", "78.9 [77.1, 80.2]", "2,400",
            "81.2 [79.7, 82.8]", "-0.4 [-1.5, +0.7] (2,000)", "1.10/2.35",
        ],
        ["baseline", "large", "3,000", "~1,851.20", "0.0", "0"],
        ["verdict against the baseline: quality: too few rows to say (n = 2,000); cost: cheaper (n = 3,000)"],
        ["macro-F1 %: routed 79.8"],
        ["routed: rows without an answer, at quality 0 and no baseline cost: 10"],
        ["best single: no recorded answers to choose from"],
    ]  # fmt: skip
    assert lines[10].startswith("[low, high]: 95% interval. ~: estimated.")


def test_a_column_without_a_figure_is_left_out() -> None:
    """Recordings know no latency, and the width of an empty column goes to the names of the models."""
    line = ROUTED | {"latency_p50_s": None, "latency_p95_s": None, "model": "m" * 200}
    (heading, *_), (*_, cells) = (to_text(a_table(line)).splitlines()[place : place + 1] for place in (0, 3))
    assert heading.endswith("to baseline")
    assert len(cells) == WIDTH


def test_no_significant_saving_is_said_when_so() -> None:
    """The verdict on cost is printed with its number of rows."""
    line = ROUTED | {
        "saving": 0.01,
        "saving_low": -0.02,
        "saving_high": 0.04,
        "saving_verdict": "no significant saving",
    }
    for page in (to_text(a_table(line)), to_markdown(a_table(line))):
        assert "cost: no significant saving (n = 3,000)" in page


def test_markdown_has_one_row_for_each_arm_with_rows() -> None:
    """The table parses as one: as many cells in every row, and an arm without rows only in the notes."""
    page = to_markdown(a_table(ROUTED, BASELINE, EMPTY, ROUTED | {"scope": "task=code"}))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[:2] for row in rows[2:]] == [
        ["| all", "routed"],
        ["| all", "baseline"],
        ["| task=code", "routed"],
    ]
    assert {row.count(" | ") for row in rows} == {9}
    assert "  - best single: no recorded answers to choose from" in page


def test_a_huge_loss_does_not_break_the_table() -> None:
    """A saving has no lower bound, and a tenfold cost is as much as fits."""
    assert "<-999" in to_text(a_table(ROUTED | {"saving_low": -12345.6}))


names = st.text(min_size=1, max_size=200)


@given(scope=names, model=names, note=names, cost=st.decimals(0, 10**15, places=12))
def test_no_name_breaks_a_line_or_steers_a_terminal(scope, model, note, cost) -> None:
    """Names are the user's data: no line grows beyond 140 characters, no control character and no cell gets through."""
    line = ROUTED | {"scope": scope, "model": model, "note": note, "cost_usd": cost}
    text, page = to_text(a_table(line, BASELINE | {"scope": scope})), to_markdown(a_table(line))
    assert max(map(len, text.split("\n"))) <= WIDTH
    assert text.replace("\n", "").isprintable()
    assert page.replace("\n", "").isprintable()
    (row,) = [part for part in page.split("\n")[2:] if part.startswith("|")]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 11


def test_marks_that_take_no_column_do_not_make_a_line_longer() -> None:
    """A name of letters with accents of their own is cut by characters, too."""
    line = ROUTED | {"scope": "e\u0301" * 100, "model": "a" * 60 + "\u0301" * 90, "note": "o\u0308" * 150}
    assert max(map(len, to_text(a_table(line)).split("\n"))) <= WIDTH


def test_wide_characters_keep_the_columns() -> None:
    """Chinese names take two columns a character, and are cut by columns."""
    text = to_text(a_table(ROUTED | {"model": "模型" * 60}, BASELINE))
    routed, baseline = text.split("\n")[3:5]
    assert "…" in routed
    assert len(routed) + sum(sign in "模型" for sign in routed) == WIDTH
    assert routed.index("3,000") + sum(sign in "模型" for sign in routed) == baseline.index("3,000")
