"""The article's statistics with the baseline put right, and its tables recomputed as the cost method prints them."""

import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.compare import article_stats, read_night
from pipeline.errors import JobError
from pipeline.spec import Job, validate

PAGE = (Path(__file__).parent.parent / "docs" / "cost-method.md").read_text()
REQUIRED = {"name": "night", "input": {"path": "in"}, "prompt": {"column": "prompt"}, "output": {"path": "out"}}
JOB = validate(Job, REQUIRED, where="test")
MONEY = pa.decimal128(18, 12)
SCHEMA = pa.schema(
    [
        ("llm_request_id", pa.string()),
        ("llm_usage", pa.string()),
        ("llm_model", pa.string()),
        ("llm_input_tokens", pa.int64()),
        ("llm_output_tokens", pa.int64()),
        ("llm_cost_usd", MONEY),
        ("llm_baseline_model", pa.string()),
        ("llm_baseline_cost_usd", MONEY),
        ("llm_latency_s", pa.float64()),
        ("llm_status", pa.string()),
        ("llm_task", pa.string()),
    ]
)


def a_row(number, **changes):
    return {
        "llm_request_id": f"{number:032x}",
        "llm_usage": "measured",
        "llm_model": "glm-4-flash",
        "llm_input_tokens": 1_000,
        "llm_output_tokens": 500,
        "llm_cost_usd": Decimal("0.00003"),
        "llm_baseline_model": "gpt-4o",
        "llm_baseline_cost_usd": Decimal("0.0075"),
        "llm_latency_s": 1.5,
        "llm_status": "ok",
        "llm_task": "general",
    } | changes


def stats(folder, rows):
    path = folder / "outputs.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return article_stats(read_night(path, None, JOB))


def test_the_articles_statistics_are_all_there(tmp_path) -> None:
    """Requests are counted once however many rows share one, and what was never asked is none."""
    shared = {"llm_cost_usd": Decimal(0), "llm_baseline_cost_usd": Decimal(0)}
    rows = [
        a_row(1),
        a_row(1, **shared),
        a_row(2, llm_model="deepseek-chat", llm_latency_s=0.5, llm_cost_usd=Decimal("0.00028")),
        a_row(3, llm_latency_s=None),
        a_row(4, llm_request_id=None, llm_usage=None, llm_model=None, llm_latency_s=None, **shared),
    ]
    rows[4] |= {"llm_input_tokens": None, "llm_output_tokens": None}
    assert stats(tmp_path, rows) == {
        "total_requests": 3,
        "total_tokens": 4_500,
        "actual_cost_usd": Decimal("0.00034"),
        "baseline_cost_usd": Decimal("0.0225"),
        "baseline_models": ["gpt-4o"],
        "savings_pct": pytest.approx(100 * (1 - 34 / 2250)),
        "avg_latency_s": 1.0,
        "model_distribution": {"glm-4-flash": 2, "deepseek-chat": 1},
    }


@pytest.mark.parametrize("rows", [[], [a_row(1, llm_baseline_cost_usd=Decimal(0), llm_latency_s=None)]])
def test_a_share_of_nothing_is_none(tmp_path, rows) -> None:
    """A free baseline and a night without latencies divide nothing."""
    found = stats(tmp_path, rows)
    assert (found["savings_pct"], found["avg_latency_s"]) == (None, None)


def test_a_missing_column_is_named(tmp_path) -> None:
    """Outputs with another prefix say which columns there are."""
    pq.write_table(pa.table({"answer": ["yes"]}), tmp_path / "outputs.parquet")
    with pytest.raises(JobError, match="no column 'llm_model'"):
        read_night(tmp_path / "outputs.parquet", None, JOB)


def cells(heading):
    """Return the rows of the table under *heading* of the page."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return lines[2:]


def usd(text):
    return Decimal(re.sub(r"[$*]", "", text))


@pytest.mark.parametrize("heading", ["By its own models", "By its own router"])
def test_the_monthly_table_follows_from_its_prices(heading) -> None:
    """Every row of the page's tables is volume x (input + output price), and the totals and shares are their sums."""
    *rows, total = cells(heading)
    baseline = cost = Decimal(0)
    for _, volume, _, input_price, output_price, theirs, ours in rows:
        millions = Decimal(volume.removesuffix("M"))
        assert usd(theirs) == millions * (Decimal("2.50") + Decimal("10.00"))
        assert usd(ours) == millions * (usd(input_price) + usd(output_price))
        baseline, cost = baseline + usd(theirs), cost + usd(ours)
    assert (usd(total[-2]), usd(total[-1])) == (baseline, cost)
    saving = 100 * (1 - cost / baseline)
    assert f"{saving:.1f}%" in PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
