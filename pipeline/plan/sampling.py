"""A random sample of the plan's rows, stratified by task and difficulty, the same on every run of the same rows."""

import hashlib
from pathlib import Path

import polars as pl

from pipeline.plan.rows import read_rows

STRATA = ("task", "difficulty")
_LEAST = 5  # rows of a stratum, where it has them: one row has no variance


def draw_sample(rows_path: Path, size: int, seed: int) -> list[int]:
    """Return the numbers of about *size* rows, ascending, of those that can be asked and have a baseline.

    Each stratum has its share of *size*, and five rows at least, or all it has. Within a stratum a hash of *seed* and
    the row's id decides, so a run that goes on, or a night with a few new rows, asks the same rows again for nothing.
    """
    rows = pl.concat([_eligible(pl.DataFrame(pl.from_arrow(batch))) for batch in read_rows(rows_path)])
    numbered = rows.with_row_index("row").filter("eligible")
    key = seed.to_bytes(8, "big", signed=True)
    lots = [
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=key).digest() for text in numbered["row_id"]
    ]
    drawn = (
        numbered.with_columns(lot=pl.Series(lots, dtype=pl.Binary))
        .sort(*STRATA, "lot", "row")
        .with_columns(place=pl.int_range(pl.len()).over(STRATA), rows=pl.len().over(STRATA))
        .filter(pl.col("place") < share_of(pl.col("rows"), size, numbered.height))
    )
    return sorted(drawn.get_column("row"))


def share_of(rows: pl.Expr, size: int, total: int) -> pl.Expr:
    """Return how many of a stratum's *rows* a sample of *size* out of *total* takes."""
    return (rows * size / max(total, 1)).round().clip(min(_LEAST, size))


def _eligible(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select(
        pl.col("row_id"),
        pl.col("task", "difficulty").cast(pl.String),
        eligible=pl.col("problem").is_null() & pl.col("baseline").is_not_null(),
    )
