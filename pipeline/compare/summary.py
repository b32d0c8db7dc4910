"""An arm in one row of the comparison."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from pipeline.compare import intervals
from pipeline.compare.arm import Arm, rows_where
from pipeline.compare.intervals import Floats
from pipeline.compare.night import PARTS
from pipeline.compare.sampling import sampling_error
from pipeline.compare.wholes import score_whole
from pipeline.records import PICO_USD, Status

MIXED = "mixed"
_SLICE = 1 << 16
_Figures = dict[str, Any]


def summarise(scope: str, arm: Arm) -> _Figures:
    """Return the row of `COMPARISON_SCHEMA` for *arm* in *scope*."""
    figures: _Figures = {"scope": scope, "arm": arm.name, "model": arm.model, "rows": arm.lines.height}
    if arm.name == "routed" or arm.lines.height:
        # Every row has been routed; a baseline that was sampled stands for more rows than it answered.
        scored = arm.lines.drop("weight", strict=False) if arm.name == "routed" else arm.lines
        figures |= _counts(arm) | _bill(arm) | _quality(scored) | _latency(arm.lines)
    if arm.name != "baseline":
        figures |= _delta(arm.lines)
    figures |= arm.figures
    return figures | {"note": "; ".join(arm.notes) or None}


def _counts(arm: Arm) -> _Figures:
    if arm.name == "routed":
        statuses = dict(arm.lines.get_column("status").value_counts().iter_rows())
        return {status.value: statuses.get(status.value, 0) for status in Status}
    asked = arm.lines.filter("measured").get_column("answered")
    return {"ok": asked.sum(), "failed": (~asked).sum()} if len(asked) else {}


def _bill(arm: Arm) -> _Figures:
    lines = arm.lines
    measured = int(lines.get_column("measured").sum())
    cost = _usd(lines.get_column("cost"))
    if arm.name == "baseline":
        saving: _Figures = {"baseline_cost_usd": cost, "saving": 0.0 if cost else None}
    else:
        saving = _saving(lines, cost)
    return {
        "input_tokens": lines.get_column("input").cast(pl.Int64).sum(),
        "output_tokens": lines.get_column("output").cast(pl.Int64).sum(),
        "cost_usd": cost,
        "judge_cost_usd": _usd(lines.get_column("judge_cost")),
        "cost_kind": "measured" if measured == lines.height else "estimated",
        "measured_rows": measured,
        **saving,
    }


def _saving(lines: pl.DataFrame, cost: Decimal) -> _Figures:
    baseline, costs, baseline_costs = _both_costs(lines)
    if not baseline:
        return {"baseline_cost_usd": baseline}
    interval = intervals.of_saving(costs, baseline_costs)
    if interval is not None and "residual" in lines.columns:
        error = sampling_error(rows_where(lines, pl.col("answered"))) * float(PICO_USD)
        interval = intervals.widened(interval, float(1 - cost / baseline), float(cost / baseline**2) * error)
    return {
        "baseline_cost_usd": baseline,
        "saving": float(1 - cost / baseline),
        "saving_low": interval.low if interval else None,
        "saving_high": interval.high if interval else None,
        "saving_verdict": intervals.saving_verdict(interval),
    }


def _both_costs(lines: pl.DataFrame) -> tuple[Decimal, Floats, Floats]:
    """Return the baseline's cost of the rows that were answered, as a lost row is no saving, and both costs by row."""
    known = pl.col("answered") & pl.col("cost").is_not_null()
    both = lines.select(pl.col("cost").fill_null(0), pl.when(known).then("baseline_cost").fill_null(0))
    billed = rows_where(both, (pl.col("cost") != 0) | (pl.col("baseline_cost") != 0))
    return _usd(billed.get_column("baseline_cost")), _floats(billed, "cost"), _floats(billed, "baseline_cost")


def _quality(lines: pl.DataFrame) -> _Figures:
    scored = lines.select("metric", "quality", *PARTS, *_weight(lines)).drop_nulls("quality")
    if not scored.height:
        return {"scored": 0}
    metrics = scored.get_column("metric").unique()
    metric = str(metrics.item()) if len(metrics) == 1 else MIXED
    scores = _floats(scored, "quality")
    weights = _weights(scored)
    interval = intervals.of_mean(scores, weights)
    return {
        "metric": metric,
        **score_whole(scored, metric),
        "scored": scored.height,
        "quality": _mean(scores, weights),
        "quality_low": interval.low,
        "quality_high": interval.high,
    }


def _delta(lines: pl.DataFrame) -> _Figures:
    paired = lines.select("quality", "baseline_quality", *_weight(lines)).drop_nulls()
    if not paired.height:
        return {"paired": 0}
    differences = _floats(paired, "quality") - _floats(paired, "baseline_quality")
    weights = _weights(paired)
    interval = intervals.of_difference(differences, weights)
    return {
        "paired": paired.height,
        "delta": _mean(differences, weights),
        "delta_low": interval.low,
        "delta_high": interval.high,
        "verdict": intervals.verdict(interval),
    }


def _latency(lines: pl.DataFrame) -> _Figures:
    # A recording without latencies has zeros.
    known = _floats(lines.select("answered", "latency").filter(pl.col("answered") & (pl.col("latency") > 0)), "latency")
    if not len(known):
        return {}
    median, high = np.quantile(known, [0.5, 0.95])
    return {"latency_p50_s": float(median), "latency_p95_s": float(high)}


def _weight(lines: pl.DataFrame) -> list[str]:
    return [name for name in lines.columns if name == "weight"]


def _weights(lines: pl.DataFrame) -> Floats | None:
    return _floats(lines, "weight") if _weight(lines) else None


def _mean(values: Floats, weights: Floats | None) -> float:
    """Return the mean, the same in whatever order the rows come."""
    if weights is None:
        return math.fsum(values) / len(values)
    return math.fsum(values * weights) / math.fsum(weights)


def _floats(lines: pl.DataFrame, column: str) -> Floats:
    return lines.get_column(column).cast(pl.Float64).to_numpy()


def _usd(pico: pl.Series) -> Decimal:
    """Return the exact sum of *pico*-USD: 128 bits do not overflow, and slices of them take little memory."""
    slices = pico.to_frame("pico").iter_slices(_SLICE)
    total: int = sum(part.select(pl.col("pico").cast(pl.Int128).sum()).item() for part in slices)
    return total * PICO_USD
