"""A sampled baseline: what its answers on some rows say of all, by stratum (Cochran 1977, 5A and 6)."""

import math

import polars as pl

from pipeline.records import Status

STRATA = ("task", "difficulty")
_PICO = pl.col("baseline_cost")


def weigh(rows: pl.DataFrame) -> pl.DataFrame:
    """Let each row with a baseline answer stand for its stratum's rows, and scale the estimates of the others.

    Added are `weight`, the rows that a row with a baseline answer stands for (null for the others), and `residual`, by
    how much its cost misses its own scaled estimate, in pico-USD. `baseline_cost` of a row without such an answer is
    its estimate times the stratum's ratio of measured to estimated costs: a separate ratio estimate (Cochran, 6.10).
    """
    settled = pl.col("status") != Status.PENDING
    sampled = settled & pl.col("baseline_measured")
    both = sampled & pl.col("baseline_estimate").is_not_null()
    measured_sum = _PICO.filter(both).cast(pl.Float64).sum().over(STRATA)
    estimated_sum = pl.col("baseline_estimate").filter(both).cast(pl.Float64).sum().over(STRATA)
    ratio = pl.when(estimated_sum > 0).then(measured_sum / estimated_sum).otherwise(1.0)
    scaled = pl.col("baseline_estimate") * ratio
    return rows.with_columns(
        weight=pl.when(sampled).then(settled.sum().over(STRATA) / sampled.sum().over(STRATA)),
        residual=pl.when(both).then(_PICO - scaled),
        baseline_cost=pl.when("baseline_measured").then(_PICO).otherwise(scaled.round().cast(pl.Int64)),
    )


def sampling_error(answered: pl.DataFrame) -> float:
    """Return the standard error, in pico-USD, of the baseline's cost of the *answered* rows, which were `weigh`ed.

    The sum over strata of N² (1 - n/N) s² / n, s² of the residuals (Cochran 1977, 6.10); a stratum with one sampled row
    lends its own residual.
    """
    strata = answered.group_by(STRATA).agg(
        rows=pl.len().cast(pl.Float64),
        sampled=pl.col("residual").count().cast(pl.Float64),
        squares=(pl.col("residual") ** 2).sum(),
    )
    rows, sampled = pl.col("rows"), pl.col("sampled")
    spread = pl.col("squares") / (sampled - 1).clip(1)
    variance = strata.filter(sampled > 0).select(rows * (rows - sampled).clip(0) * spread / sampled).to_series()
    return math.sqrt(math.fsum(variance))
