"""An arm: one way to have answered the rows of a scope."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl


class Arm(NamedTuple):
    """One way to have answered the rows of a scope.

    `lines` has a line per row: cost (pico-USD), measured, input, output, answered, latency, metric, quality and its
    `PARTS`, baseline_cost, baseline_quality and judge_cost, which is in both costs; of the routed arm also
    status; where the baseline was sampled, weight.
    """

    name: str
    model: str | None
    lines: pl.DataFrame
    notes: tuple[str, ...]
    figures: Mapping[str, Any] = {}  # columns of the comparison that this arm alone has


def rows_where(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """Return the rows that meet *condition*, without a copy where all do."""
    meets = rows.select(condition).to_series()
    return rows if meets.all() else rows.filter(meets)
