"""Cost and quality beside the baseline and beside the best and the cheapest single model, on the same rows."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline.compare.arm import rows_where
from pipeline.compare.arms import arms_of
from pipeline.compare.article import article_stats
from pipeline.compare.night import Night, read_night
from pipeline.compare.nights import drift, headline, is_worse, side_by_side
from pipeline.compare.promise import POLICY_SCOPE, check_promise
from pipeline.compare.schema import COMPARISON_SCHEMA
from pipeline.compare.summary import summarise
from pipeline.compare.table import to_markdown, to_text
from pipeline.spec import Job

__all__ = [
    "COMPARISON_SCHEMA",
    "POLICY_SCOPE",
    "Night",
    "article_stats",
    "check_promise",
    "compare",
    "drift",
    "headline",
    "is_worse",
    "read_night",
    "side_by_side",
    "tabulate",
    "to_markdown",
    "to_text",
]


def compare(outputs: Path, *, outcomes: pl.DataFrame | None, job: Job) -> pa.Table:
    """Compare the answers in *outputs* with what other models answered on the same rows (`COMPARISON_SCHEMA`).

    *outcomes* holds row (place in *outputs*, from 0), model, answer, cost_usd, input_tokens, output_tokens, latency_s,
    score and score_kind. Scopes are all rows, those that a policy decided, each task, each model that answered, and
    each value of `[compare] by`; each has its arms. The scorers are those of `[[score]]`.

    Raises:
        JobError: when *outputs* cannot be read or lacks a column, or a scorer or recorded score breaks its contract.
    """
    return tabulate(read_night(outputs, outcomes, job))


def tabulate(night: Night) -> pa.Table:
    """Return the comparison of a night that was read (`COMPARISON_SCHEMA`)."""
    lines = [summarise(scope, arm) for scope, rows in _scopes(night) for arm in arms_of(rows, night.answers)]
    return pa.Table.from_pylist(lines, schema=COMPARISON_SCHEMA)


def _scopes(night: Night) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "all", night.rows
    if "by_policy" in night.rows.columns:
        yield POLICY_SCOPE, rows_where(night.rows, pl.col("by_policy"))
    for column, name in night.groups.items():
        for value in night.rows.get_column(column).unique().drop_nulls().cast(pl.String).sort():
            yield f"{name}={value}", rows_where(night.rows, pl.col(column) == value)
