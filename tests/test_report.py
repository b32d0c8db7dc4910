"""The report: what a browser makes of it, whether its figures are those of the comparison, and what no row can do to it."""

import json
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.compare import COMPARISON_SCHEMA
from pipeline.report import Told, Worse, write_report
from pipeline.report.figures import FORMATS
from pipeline.run import ExitCode, RunOptions, run_job
from tests.browser import needs_chromium, open_page

ROOT = Path(__file__).parent.parent
HOSTILE = "</script></pre><img src=http://127.0.0.1:9/x onerror=\"document.title='pwned'\"><svg onload=alert(1)>\x1b[2J{{ 7*7 }}"


class Page(HTMLParser):
    """The figures, tags, attributes and text of a page."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.figures: dict[tuple[str, str, str], set[str]] = {}
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._in: tuple[str, str, str] | None = None
        self.feed(dom)

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.attributes |= given.keys()
        if "data-figure" in given:
            self._in = (given["data-scope"], given["data-arm"], given["data-figure"])

    def handle_endtag(self, tag) -> None:
        self._in = None if tag == "span" else self._in

    def handle_data(self, data) -> None:
        self.text += data
        if self._in is not None:
            self.figures.setdefault(self._in, set()).add(data.strip())


def by_hand(name, value, *, estimated=False):
    """Return a figure as it must be shown, said here once more."""
    if value is None:
        return "–"
    if name.endswith("cost_usd"):
        places = 2 if value >= 100 else 4 if value >= Decimal("0.01") else 6
        return f"{'~' * estimated}${value:,.{places}f}"
    if name in ("saving", "quality", "corpus_score"):
        return f"{value * 100:.1f}%"
    if name in ("delta", "gain"):
        return f"{value * 100:+.1f}".replace("-0.0", "+0.0")
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f} s"


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """Run a part of the night; return its folder."""
    out = tmp_path_factory.mktemp("report")
    from pipeline.plan import Selection

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        options = RunOptions(ROOT / "jobs" / "night.toml", output=str(out), selection=Selection(limit=400))
        assert run_job(options).exit_code == ExitCode.OK
    return out


@needs_chromium
def test_a_browser_shows_the_figures_of_the_comparison(night, tmp_path) -> None:
    """Opened from its file there is no complaint, no request and no script, and each figure is that of the Parquet file."""
    opened = open_page(night / "report.html", tmp_path)
    assert opened.console == []
    assert opened.requested == set()
    page = Page(opened.dom)
    lines = {(line["scope"], line["arm"]): line for line in pq.read_table(night / "comparison.parquet").to_pylist()}
    for (scope, arm, name), shown in page.figures.items():
        line = lines[scope, arm]
        estimated = name == "cost_usd" and line["cost_kind"] == "estimated"
        assert shown == {by_hand(name, line[name], estimated=estimated)}, (scope, arm, name)
    with_rows = {key for key, line in lines.items() if line["rows"] or key[1] == "routed"}
    assert {(scope, arm) for scope, arm, _ in page.figures} == with_rows
    assert {name for _, _, name in page.figures} >= {"rows", "cost_usd", "saving", "scored", "quality", "delta"}
    assert "script" not in page.tags
    assert {"cost_quality", "by_task", "by_model", "estimate"} <= set(re.findall(r'id="chart-(\w+)"', opened.dom))


def a_line(scope="all", arm="routed", **changes):
    line = dict.fromkeys(COMPARISON_SCHEMA.names) | {
        "scope": scope, "arm": arm, "model": "m", "rows": 50, "ok": 48, "failed": 2, "blocked": 0, "truncated": 0,
        "pending": 0, "cost_usd": Decimal("0.5"), "cost_kind": "measured", "measured_rows": 50, "saving": 0.5,
        "saving_low": 0.4, "saving_high": 0.6, "saving_verdict": "cheaper", "metric": "label", "scored": 50,
        "quality": 0.9, "quality_low": 0.8, "quality_high": 0.95, "paired": 50, "delta": -0.01, "delta_low": -0.05,
        "delta_high": 0.03, "verdict": "too few rows to say", "latency_p50_s": 0.5, "latency_p95_s": 1.25,
    }  # fmt: skip
    return line | changes


def told(*lines, **changes) -> Told:
    group = {"model": "m", "new": 50, "retried": 0, "cost_usd": "0.4", "cost_low_usd": "0.2", "cost_high_usd": "2"}
    plan = {"groups": [group], "reused": 0, "cost_usd": "0.4", "cost_low_usd": "0.2", "cost_high_usd": "2"}
    summary = {"job": "job", "night": 1, "run": 2, "rows": 50, "catalogue": "abcdef0123456789", "spent_usd": "0.5"}
    given = Told(lines or (a_line(),), plan, summary, {"failed: server": 2}, [], 0, "1.0")
    return given._replace(**changes)


def hostile() -> Told:
    """Return a report in which every text that is not ours is an attack."""
    worse = Worse(3, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 0.0, HOSTILE, HOSTILE, 1.0, HOSTILE)
    confusion = [{"label": HOSTILE, "answer": HOSTILE, "rows": 3}]
    names = {"model": HOSTILE, "metric": HOSTILE, "note": HOSTILE, "corpus_metric": HOSTILE, "corpus_score": 0.5}
    lines = [
        a_line(scope, arm, **names)
        for scope in ("all", f"task={HOSTILE}", f"model={HOSTILE}")
        for arm in ("routed", "baseline")
    ]
    lines[0] |= {"confusion": confusion, "verdict": "worse"}
    base = told(*lines)
    group = base.plan["groups"][0] | {"model": HOSTILE}
    return base._replace(
        plan={**base.plan, "groups": [group]},
        summary={**base.summary, "job": HOSTILE},
        failures={HOSTILE: 2},
        worse=[worse],
        worse_count=1,
    )


@needs_chromium
def test_a_hostile_answer_is_inert(tmp_path) -> None:
    """Whatever stands in rows, names and notes is shown as text: nothing runs, loads or leaves its place."""
    write_report(tmp_path / "report.html", hostile())
    opened = open_page(tmp_path / "report.html", tmp_path)
    page = Page(opened.dom)
    assert opened.requested == set()
    assert opened.console == []
    assert "<title>pwned</title>" not in opened.dom
    assert not {"img", "script", "iframe", "link", "object"} & page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    assert page.text.count("</script></pre><img src=http://127.0.0.1:9/x") > 15
    assert "{{ 7*7 }}" in page.text


def test_the_page_needs_nothing_from_elsewhere(night) -> None:
    """No address of another host stands where a browser would follow it, and the policy forbids to load anything."""
    text = (night / "report.html").read_text()
    assert re.findall(r"<(?:script|link|iframe|img|object|embed|base)\b", text) == []
    assert [url for url in re.findall(r'\b(?:src|href)="([^"]*)"', text) if not url.startswith("#")] == []
    assert "default-src 'none'" in text
    assert "@import" not in text


def test_ids_are_unique(night) -> None:
    """Charts drawn one by one do not share ids, so that none takes its clipping from another."""
    text = (night / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:xlink:href=\"#|url\(#)([^\")]*)", text)) <= set(ids)


def test_rows_that_got_worse_show_both_answers(night) -> None:
    """The rows that lost most come first, each with its prompt, the routed answer and the baseline's."""
    outputs = pq.read_table(night / "outputs.parquet").to_pylist()
    text = (night / "report.html").read_text()
    numbers = [int(number) for number in re.findall(r"<h3>Row (\d+)", text)]
    assert 0 < len(numbers) <= 20
    recorded = pq.read_table(ROOT / "data" / "night" / "answers.parquet").to_pylist()
    said = {(row["prompt_id"], row["model"]): row["answer"] for row in recorded}
    page = Page(text)
    for number in numbers:
        row = outputs[number]
        for answer in (row["prompt"], row["llm_answer"], said[row["prompt_id"], row["llm_baseline_model"]]):
            assert answer.strip()[:200] in page.text


def test_without_matplotlib_the_tables_are_there(tmp_path, monkeypatch) -> None:
    """The report says what is missing and how to get it, and has every figure all the same."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(tmp_path / "report.html", told())
    text = (tmp_path / "report.html").read_text()
    assert "pip install &#39;rowroute[report]&#39;" in text or "pip install 'rowroute[report]'" in text
    assert "<svg" not in text
    assert ">90.0%</span>" in text
    assert "failed: server: 2" in text


def test_where_routing_did_not_help_is_said(tmp_path) -> None:
    """No saving, worse answers and no more than a coin gives are each named with their group."""
    lines = [
        a_line("all"),
        a_line("task=a", saving=0.01, saving_low=-0.02, saving_verdict="no significant saving"),
        a_line("task=b", verdict="worse", delta=-0.1, delta_low=-0.2, delta_high=-0.05),
        a_line("task=c"),
        a_line("task=c", "single_mix", gain=-0.03, gain_low=-0.05, gain_high=-0.01),
        a_line("task=d"),
        a_line("task=d", "single_mix", gain=0.03, gain_low=0.01, gain_high=0.05),
    ]
    write_report(tmp_path / "report.html", told(*lines))
    text = Page((tmp_path / "report.html").read_text()).text
    section = re.sub(r"\s+", " ", text.split("Where routing did not help")[1].split("Arms")[0])
    assert "task=a: no significant saving: 1.0% [-2.0, 60.0]" in section
    assert "task=b: worse answers: -10.0 [-20.0, -5.0] points" in section
    assert "task=c: a coin between two models is better: -3.0 [-5.0, -1.0] points" in section
    assert "task=d" not in section


@pytest.mark.parametrize(
    "changes",
    [
        dict.fromkeys(COMPARISON_SCHEMA.names)
        | {"scope": "all", "arm": "routed", "rows": 0, "ok": 0, "cost_usd": Decimal(0)},
        {"saving": -12345.6, "saving_low": -99999.9, "cost_usd": Decimal("123456789.123456789012")},
        {"cost_kind": "estimated", "quality": None, "quality_low": None, "quality_high": None, "scored": 0},
    ],
    ids=["empty", "huge", "unscored"],
)
def test_any_night_makes_a_report(tmp_path, changes) -> None:
    """An empty night, absurd amounts and a night that nobody scored are shown, too."""
    write_report(tmp_path / "report.html", told(a_line(**changes)))
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_a_night_of_free_models_makes_a_report(tmp_path) -> None:
    """Where nothing has a price the page is made without a warning, and draws no estimate."""
    base = told(a_line(cost_usd=Decimal(0)))
    free = {"cost_usd": "0", "cost_low_usd": "0", "cost_high_usd": "0"}
    groups = [base.plan["groups"][0] | free]
    write_report(tmp_path / "report.html", base._replace(plan={**base.plan, **free, "groups": groups}))
    assert "USD, logarithmic" not in (tmp_path / "report.html").read_text()


def test_every_figure_has_a_format() -> None:
    """What is shown is a column of the comparison."""
    assert FORMATS.keys() <= set(COMPARISON_SCHEMA.names)


def test_a_job_may_do_without(tmp_path) -> None:
    """With `output.report = false` nothing is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        from pipeline.plan import Selection

        run_job(
            RunOptions(
                ROOT / "jobs" / "night.toml",
                overrides=("output.report=false",),
                output=str(tmp_path),
                selection=Selection(limit=5),
            )
        )
    assert not (tmp_path / "report.html").exists()
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == 5
