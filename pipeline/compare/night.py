"""A night as numbers: a row per input row and a row per recorded answer. Texts are scored in batches and let go."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.compare.grading import RECORDED, Grader
from pipeline.compare.reading import FirstAsked, read_batches
from pipeline.compare.sampling import weigh
from pipeline.errors import JobError
from pipeline.records import Status, UsageStatus
from pipeline.spec import JUDGE, Job

_MAX_VALUES = 200  # of a column to group by; the rarer ones become one group

# Our name = the output column after the prefix.
_COLUMNS = {
    "status": "status",
    "task": "task",
    "model": "model",
    "input": "input_tokens",
    "output": "output_tokens",
    "usage": "usage",
    "cost": "cost_usd",
    "baseline_model": "baseline_model",
    "baseline_cost": "baseline_cost_usd",
    "latency": "latency_s",
    "request": "request_id",
}
PARTS = ("gold", "said", "counts")  # what scores of many answers together are made of, see `Score.parts`
# Of outcomes; null counts as recorded. One that is judged has the judge's score and cost, and no answer.
RECORDED_ANSWER, SAMPLED, AGAIN, JUDGED = KINDS = ("recorded", "sampled", "again", "judged")
_OUTCOMES: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.UInt32,
    "model": pl.String,
    "answer": pl.String,
    "cost_usd": pl.Decimal(38, 12),
    "input_tokens": pl.UInt32,
    "output_tokens": pl.UInt32,
    "latency_s": pl.Float64,
    "score": pl.Float64,
    "score_kind": pl.String,
    "kind": pl.Enum(KINDS),
}


class Night(NamedTuple):
    """What the arms are made of. Costs are whole pico-USD; a request asked once for several rows counts on the first.

    `rows`, in input order: row, status, task, model, input, output, cost, measured (usage was reported), asked (the
    first of its kind, and sent), judge_cost, answered, latency, metric, quality and its `PARTS`, by_policy (where the
    job has a policy), baseline_model, baseline_estimate (the same tokens at its price), baseline_cost (recorded,
    otherwise estimated), baseline_measured, of a recorded
    baseline answer, null without one, baseline_input, baseline_output, baseline_answered, baseline_latency,
    baseline_quality and its parts, and the columns of `groups`, which has the name of each in scopes. `answers`,
    recorded or sampled: row, model, kind, same (as the model's first answer), pool (the models that are recorded to
    have answered the row), input, output, cost, answered, latency, quality and its parts.
    Where the baseline was sampled, `rows` also have the columns of `weigh`.
    """

    rows: pl.DataFrame
    answers: pl.DataFrame
    groups: Mapping[str, str]


def read_night(outputs: Path, outcomes: pl.DataFrame | None, job: Job) -> Night:
    """Read and score a night.

    Raises:
        JobError: when *outputs* cannot be read or lacks a column, or a scorer or recorded score breaks its contract.
    """
    grader = Grader(job.score_rules)
    labels = {f"by {column}": column for column in job.compare.by}
    names = {ours: job.output.prefix + name for ours, name in _COLUMNS.items()}
    if job.compare.shadow:
        names["difficulty"] = job.output.prefix + "difficulty"
    if job.route.policy is not None:
        names["route"] = job.output.prefix + "route"
    if grader.reads_answers:
        names["answer"] = job.output.prefix + "answer"
    digest = _Digest(grader, _checked(outcomes), labels)
    batches = read_batches(outputs, {**names, **grader.columns, **labels})
    digested = [digest.read(batch) for batch in batches]
    answers = _with_pools(pl.concat([answers for _, answers in digested]))
    rows = _with_baseline(pl.concat([rows for rows, _ in digested]), answers)
    if job.compare.shadow:
        rows = weigh(rows)
    # An input column may be called task or model, too.
    inputs = {ours: f"input {name}" if name in ("task", "model") else name for ours, name in labels.items()}
    return Night(_fold_rare(rows, labels), answers, {"task": "task", "model": "model", **inputs})


def _checked(outcomes: pl.DataFrame | None) -> pl.DataFrame:
    """Return recorded answers in order of rows, one for a row and model; one without a cost cannot be compared."""
    if outcomes is None:
        return pl.DataFrame(schema=_OUTCOMES)
    absent = [name for name in ("score", "score_kind", "kind") if name not in outcomes.columns]
    outcomes = outcomes.with_columns(pl.lit(None, _OUTCOMES[name]).alias(name) for name in absent)
    odd = outcomes.filter(~pl.col("score").is_between(0, 1))
    if odd.height:
        row, score = odd.select("row", "score").row(0)
        raise JobError(f"recorded answers: score {score!r} of row {row}; a score is from 0 to 1")
    ordered = (
        outcomes.with_columns(pl.col("kind").fill_null(RECORDED_ANSWER))
        .select(pl.col(name).cast(kind) for name, kind in _OUTCOMES.items())
        .drop_nulls("cost_usd")
        .sort("row", maintain_order=True)
    )
    once = ordered.with_columns(second=pl.col("kind") == AGAIN)
    return once.unique(["row", "model", "second"], keep="first", maintain_order=True).drop("second")


class _Digest:
    """Turns batches, in order, into numbers."""

    def __init__(self, grader: Grader, outcomes: pl.DataFrame, labels: Mapping[str, str]) -> None:
        self._grader = grader
        self._outcomes = outcomes
        self._labels = labels
        self._asked = FirstAsked()
        self._start = 0

    def read(self, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the batch's rows and its recorded answers."""
        known = self._outcomes.filter(pl.col("row").is_between(self._start, self._start + batch.height - 1))
        recorded = known.filter(pl.col("kind") != JUDGED)
        judged = known.filter(pl.col("kind") == JUDGED).select("row", judged="score", judge_cost="cost_usd")
        numbered = batch.with_row_index("row", self._start).join(judged, on="row", how="left", maintain_order="left")
        if self._grader.uses_baseline:
            theirs = _first_time(recorded).select("row", baseline_model="model", baseline_answer="answer")
            numbered = numbered.join(theirs, on=["row", "baseline_model"], how="left", maintain_order="left")
        view = numbered.with_columns(
            self._asked.among(batch["request"]),
            *self._grader.choose(),
            pl.col("status").is_in([Status.OK, Status.TRUNCATED]).alias("answered"),
        )
        self._start += batch.height
        return self._rows(view, recorded), self._answers(view, recorded)

    def _rows(self, view: pl.DataFrame, recorded: pl.DataFrame) -> pl.DataFrame:
        scored = view.with_columns(*self._grades(view, recorded), _metric_names(view, recorded))
        return scored.select(
            "row",
            pl.col("status").cast(pl.Enum(Status)),
            pl.col("task", "model", "baseline_model", "metric").cast(pl.Categorical),
            *(pl.col(name).cast(pl.Categorical) for name in view.columns if name == "difficulty"),
            pl.col("input", "output").cast(pl.UInt32) * pl.col("first"),
            _pico("cost"),
            _pico("baseline_cost"),
            _pico("judge_cost").fill_null(0),
            # Where nothing was asked, the cost is known to be nothing.
            (pl.col("usage").fill_null(UsageStatus.MEASURED) == UsageStatus.MEASURED).alias("measured"),
            (pl.col("first") & pl.col("usage").is_not_null()).alias("asked"),
            "answered",
            pl.col("latency").cast(pl.Float64),
            "quality",
            *_parts(),
            *([(pl.col("route") == "policy").alias("by_policy")] if "route" in view.columns else []),
            *(pl.col(ours).cast(pl.String).fill_null("(none)").cast(pl.Categorical) for ours in self._labels),
        )

    def _grades(self, view: pl.DataFrame, recorded: pl.DataFrame) -> pl.DataFrame:
        """Return the routed answers' scores: 0 for a row without an answer, null for a row that still waits for one."""
        if not self._grader.reads_answers:
            return self._grader.grade(view.clear()).clear(view.height)
        said = view.with_columns(pl.when("answered").then("answer").otherwise(pl.lit("")).fill_null("").alias("answer"))
        stored = said.join(
            _first_time(recorded).select("row", "model", "score", recorded_answer="answer"),
            on=["row", "model"],
            how="left",
            maintain_order="left",
        )
        # A score belongs to a text: where the model said something else this time, it has none.
        same = pl.col("recorded_answer").is_null() | (_trimmed("recorded_answer") == _trimmed("answer"))
        by_record = pl.col("metric") == RECORDED
        score = pl.when(by_record).then(pl.when(same).then("score")).otherwise("quality")
        score = pl.when(pl.col("metric") == JUDGE).then("judged").otherwise(score)
        lost = pl.when(by_record | (pl.col("metric") == JUDGE) | pl.col("quality").is_not_null()).then(0.0)
        quality = pl.when("answered").then(score).when(pl.col("status") != Status.PENDING).then(lost)
        return stored.with_columns(self._grader.grade(said)).select(quality.alias("quality"), *PARTS)

    def _answers(self, view: pl.DataFrame, recorded: pl.DataFrame) -> pl.DataFrame:
        asked = view.select("row", *dict.fromkeys(["rule", "metric", "first", "judged", *self._grader.references]))
        before = _first_time(recorded).select("row", "model", first_answer="answer")
        answers = recorded.join(asked, on="row", maintain_order="left").join(
            before, on=["row", "model"], how="left", maintain_order="left"
        )
        blank = (_trimmed("answer") == "").fill_null(value=False)
        return answers.with_columns(self._grader.grade(answers)).select(
            "row",
            pl.col("model").cast(pl.Categorical),
            *_parts(),
            input=pl.col("input_tokens") * pl.col("first"),
            output=pl.col("output_tokens") * pl.col("first"),
            cost=_pico("cost_usd") * pl.col("first"),
            answered=~blank,
            kind="kind",
            same=_trimmed("answer") == _trimmed("first_answer"),
            latency="latency_s",
            # What the judge gave one of two answers it took from the other.
            quality=pl.when(pl.col("metric") == RECORDED)
            .then("score")
            .when((pl.col("metric") == JUDGE) & (pl.col("kind") == SAMPLED))
            .then(1 - pl.col("judged"))
            .otherwise("quality"),
        )


def _metric_names(view: pl.DataFrame, recorded: pl.DataFrame) -> pl.Series:
    """Return what is measured on each row, for people; a recorded grade says its kind, where that is known."""
    kinds = recorded.drop_nulls("score_kind").group_by("row").agg(pl.col("score_kind").first())
    grade = pl.concat_str(pl.lit("recorded grade"), pl.format(" ({})", "score_kind"), ignore_nulls=True)
    named = view.select("row", "metric").join(kinds, on="row", how="left", maintain_order="left")
    return named.select(metric=pl.when(pl.col("metric") == RECORDED).then(grade).otherwise("metric")).to_series()


def _first_time(answers: pl.DataFrame) -> pl.DataFrame:
    return answers.filter(pl.col("kind") != AGAIN)


def _parts() -> Iterator[pl.Expr]:
    """Return `PARTS`, labels as categories: there are few."""
    yield pl.col("gold", "said").cast(pl.Categorical)
    yield pl.col("counts")


def _trimmed(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars()


def _pico(column: str) -> pl.Expr:
    """Return an amount of USD as whole pico-USD; 64 bits hold nine million USD."""
    return pl.col(column).cast(pl.Decimal(38, 12)).to_physical().cast(pl.Int64)


def _with_pools(answers: pl.DataFrame) -> pl.DataFrame:
    """Add the pool of each recorded answer: the names of all models that answered the row. Sampled ones have none."""
    models = pl.col("model").cast(pl.String).sort().str.join("\n")
    by_kind = pl.when(pl.col("kind") == RECORDED_ANSWER).then(models.over("row", "kind"))
    return answers.with_columns(by_kind.cast(pl.Categorical).alias("pool"))


def _with_baseline(rows: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Add what the baseline is recorded to have said, and take its recorded cost where there is one."""
    theirs = _first_time(answers).select(
        "row",
        baseline_model="model",
        recorded_cost="cost",
        **{f"baseline_{name}": name for name in ("input", "output", "latency", "quality", "answered", *PARTS)},
    )
    if answers.is_empty():  # a join would copy a million rows for nothing
        added = rows.with_columns(pl.lit(None, kind).alias(name) for name, kind in list(theirs.schema.items())[2:])
        return added.drop("recorded_cost").with_columns(
            baseline_estimate="baseline_cost", baseline_measured=pl.lit(value=False)
        )
    joined = rows.join(theirs, on=["row", "baseline_model"], how="left", maintain_order="left")
    return joined.with_columns(
        baseline_cost=pl.coalesce("recorded_cost", "baseline_cost"),
        baseline_estimate="baseline_cost",
        baseline_measured=pl.col("recorded_cost").is_not_null(),
    ).drop("recorded_cost")


def _fold_rare(rows: pl.DataFrame, labels: Mapping[str, str]) -> pl.DataFrame:
    """Make the rarer values of a column with very many one group."""
    for ours in labels:
        values = pl.col(ours).cast(pl.String)
        counts = rows.group_by(values).len().sort(["len", ours], descending=[True, False])
        if counts.height > _MAX_VALUES:
            kept = values.is_in(counts.get_column(ours).head(_MAX_VALUES - 1).implode())
            rows = rows.with_columns(pl.when(kept).then(values).otherwise(pl.lit("(other values)")).alias(ours))
    return rows
