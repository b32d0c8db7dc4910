"""The arms of a scope: what was routed, the baseline, and the best and the cheapest single model, on the same rows."""

from collections.abc import Iterator, Mapping

import polars as pl

from pipeline.compare.arm import Arm, rows_where
from pipeline.compare.mix import mix_of
from pipeline.compare.night import AGAIN, PARTS
from pipeline.records import Status

_SHOWN_MODELS = 3


def arms_of(rows: pl.DataFrame, answers: pl.DataFrame) -> Iterator[Arm]:
    """Yield the arms for the *rows* of a scope, with *answers* recorded on any rows; each bears the judge's cost."""
    judged = pl.col("judge_cost")
    for arm in _answered_arms(rows, answers):
        # After the choice of models and of the mix, which it can't change: it is the same whoever answers.
        lines = arm.lines.with_columns(pl.col("cost") + judged, pl.col("baseline_cost") + judged)
        yield arm._replace(lines=lines)


def _answered_arms(rows: pl.DataFrame, answers: pl.DataFrame) -> Iterator[Arm]:
    settled = rows_where(rows, pl.col("status") != Status.PENDING)
    weight = [name for name in rows.columns if name == "weight"]
    compared = settled.select("row", "metric", "baseline_cost", "baseline_quality", "judge_cost", *weight)
    joined = answers.join(compared, on="row").with_columns(measured=pl.lit(value=True))
    recorded = rows_where(joined, pl.col("pool").is_not_null())
    yield _routed(rows)
    yield _baseline(settled)
    models = recorded.group_by("pool", "model").agg(
        pl.col("cost").cast(pl.Int128).sum(),
        pl.col("quality").mean().round(12),  # means that differ by rounding alone are equal
    )
    cheapest_first = [pl.col("cost"), -pl.col("quality"), pl.col("model")]
    best_first = [-pl.col("quality"), pl.col("cost"), pl.col("model")]
    best = _single("best_single", recorded, models.drop_nulls("quality").sort(best_first), settled.height)
    cheapest = _single("cheapest_single", recorded, models.sort(cheapest_first, nulls_last=True), settled.height)
    yield from (best, cheapest, mix_of(best, cheapest, settled))
    again = joined.filter(pl.col("kind") == AGAIN)
    if again.height:
        yield _again(again)


def _routed(rows: pl.DataFrame) -> Arm:
    answered = pl.col("answered")
    pending, lost, unscored, unpriced, scored = rows.select(
        (pl.col("status") == Status.PENDING).sum().alias("pending"),
        (~answered & (pl.col("status") != Status.PENDING)).sum().alias("lost"),
        (answered & pl.col("metric").is_not_null() & pl.col("quality").is_null()).sum().alias("unscored"),
        (answered & pl.col("cost").is_null()).sum().alias("unpriced"),
        pl.col("metric").count().alias("scored"),
    ).row(0)
    notes = {
        f"pending rows, left out: {pending:,}": pending,
        f"rows without an answer, at quality 0 and no baseline cost: {lost:,}": lost,
        f"answers not scored, for want of a recorded grade or a usable reference: {unscored:,}": unscored,
        f"answers of unknown cost, taken as 0: {unpriced:,}": unpriced,
        "no references to score answers with": not scored,
    }
    return Arm("routed", _names(rows.get_column("model")), rows, _true(notes))


def _baseline(settled: pl.DataFrame) -> Arm:
    priced = rows_where(settled, pl.col("baseline_cost").is_not_null())
    lines = priced.select(
        "metric",
        "baseline_cost",
        "baseline_quality",
        "judge_cost",
        measured="baseline_measured",
        cost="baseline_cost",
        input=pl.coalesce("baseline_input", "input"),
        output=pl.coalesce("baseline_output", "output"),
        answered=pl.col("baseline_answered").fill_null(value=True),
        latency="baseline_latency",
        quality="baseline_quality",
        **{part: f"baseline_{part}" for part in PARTS},
        **{name: name for name in settled.columns if name == "weight"},
    )
    estimated = lines.height - int(lines.get_column("measured").sum())
    unscored = lines.select((pl.col("metric").is_not_null() & pl.col("quality").is_null()).sum()).item()
    scaled = ", scaled by task and difficulty as the sample says" if "weight" in settled.columns else ""
    notes = {
        f"rows estimated, the same tokens at its price{scaled}: {estimated:,}": estimated,
        f"rows without an answer of its own to score: {unscored:,}": unscored,
    }
    return Arm("baseline", _names(priced.get_column("baseline_model")), lines, _true(notes))


def _single(name: str, recorded: pl.DataFrame, models: pl.DataFrame, rows: int) -> Arm:
    """Take the first of *models* in each pool: the rows that the same models answered."""
    if not recorded.height:
        return Arm(name, None, recorded, ("no recorded answers to choose from",))
    chosen = models.group_by("pool", maintain_order=True).first().select("pool", "model")
    lines = recorded.join(chosen, on=["pool", "model"])
    notes = {
        "no scored recorded answers to choose from": not lines.height,
        f"rows with answers to choose from: {lines.height:,} of {rows:,}": 0 < lines.height < rows,
    }
    return Arm(name, _names(lines.get_column("model")), lines, _true(notes))


def _again(lines: pl.DataFrame) -> Arm:
    """Return what the baseline said when it was asked once more: how much of a difference is noise."""
    same = lines.get_column("same").drop_nulls()
    note = f"answers that differ from the baseline's first: {len(same) - int(same.sum()):,} of {len(same):,}"
    return Arm("baseline_again", _names(lines.get_column("model")), lines, (note,))


def _names(models: pl.Series) -> str | None:
    """Name the models, the one with most rows first, and a few of them only."""
    counts = models.rename("model").value_counts(name="rows").drop_nulls()
    names = counts.sort("rows", "model", descending=[True, False]).get_column("model").to_list()
    more = [f"+{len(names) - _SHOWN_MODELS} more"] if len(names) > _SHOWN_MODELS else []
    return ", ".join(names[:_SHOWN_MODELS] + more) or None


def _true(notes: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(note for note, holds in notes.items() if holds)
