"""The statistics of the article that the routing table comes from, with its baseline put right."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.compare.reading import FirstAsked, read_batches

_COLUMNS = (
    "request_id", "usage", "input_tokens", "output_tokens", "cost_usd", "baseline_cost_usd", "baseline_model",
    "latency_s", "model",
)  # fmt: skip


def article_stats(outputs: Path, *, prefix: str = "llm_") -> dict[str, Any]:
    """Return the article's usage statistics of *outputs*, whose answer columns begin with *prefix*.

    Requests are the distinct ones that were asked. The baseline is priced by input and output tokens, where the article
    prices every token as input (docs/cost-method.md). Money is Decimal; `savings_pct` is None where the baseline is
    free, `avg_latency_s` where no latency is known.

    Raises:
        JobError: when *outputs* cannot be read or lacks a column.
    """
    requests, baselines, asked_before = Counter[str | None](), set[str](), FirstAsked()
    actual, baseline = Decimal(0), Decimal(0)
    tokens, timed, latency = 0, 0, 0.0
    for batch in read_batches(outputs, {name: prefix + name for name in _COLUMNS}):
        spent = batch.select(pl.col("cost_usd", "baseline_cost_usd").cast(pl.Decimal(38, 12)).sum()).row(0)
        actual, baseline = actual + spent[0], baseline + spent[1]
        baselines.update(batch["baseline_model"].drop_nulls().unique())
        asked = batch.filter(asked_before.among(batch["request_id"]) & batch["usage"].is_not_null())
        requests.update(asked["model"])
        more = asked.select(
            pl.col("input_tokens").sum() + pl.col("output_tokens").sum(),
            (pl.col("latency_s") > 0).sum().alias("timed"),  # a recording without latencies has zeros
            pl.col("latency_s").sum(),
        ).row(0)
        tokens, timed, latency = tokens + more[0], timed + more[1], latency + more[2]
    return {
        "total_requests": requests.total(),
        "total_tokens": tokens,
        "actual_cost_usd": actual,
        "baseline_cost_usd": baseline,
        "baseline_models": sorted(baselines),
        "savings_pct": float(100 * (1 - actual / baseline)) if baseline else None,
        "avg_latency_s": latency / timed if timed else None,
        "model_distribution": {model: count for model, count in requests.most_common() if model is not None},
    }
