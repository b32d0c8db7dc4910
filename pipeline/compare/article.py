"""The statistics of the article that the routing table comes from, with its baseline put right."""

from typing import Any

import polars as pl

from pipeline.compare.arm import rows_where
from pipeline.compare.night import Night
from pipeline.records import PICO_USD


def article_stats(night: Night) -> dict[str, Any]:
    """Return the article's usage statistics of *night*.

    Requests are the distinct ones that were asked. The baseline is priced by input and output tokens, where the article
    prices every token as input (docs/cost-method.md). Money is Decimal; `savings_pct` is None where the baseline is
    free, `avg_latency_s` where no latency is known.
    """
    # Of the columns that count: a filter copies, and there may be a million rows.
    asked = rows_where(night.rows.select("asked", "input", "output", "latency", "model"), pl.col("asked"))
    actual, baseline = (
        int(total) * PICO_USD
        for total in night.rows.select(pl.col("cost", "baseline_estimate").cast(pl.Int128).sum()).row(0)
    )
    tokens, latency = asked.select(
        pl.col("input").cast(pl.Int64).sum() + pl.col("output").cast(pl.Int64).sum(),
        pl.col("latency").filter(pl.col("latency") > 0).mean(),  # a recording without latencies has zeros
    ).row(0)
    models = asked.get_column("model").drop_nulls().value_counts(sort=True).cast({"model": pl.String})
    return {
        "total_requests": asked.height,
        "total_tokens": tokens,
        "actual_cost_usd": actual,
        "baseline_cost_usd": baseline,
        "baseline_models": sorted(night.rows.get_column("baseline_model").unique().drop_nulls().cast(pl.String)),
        "savings_pct": float(100 * (1 - actual / baseline)) if baseline else None,
        "avg_latency_s": latency,
        "model_distribution": dict(models.iter_rows()),
    }
