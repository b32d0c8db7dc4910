"""What the ledger of a job knows of several models on the same rows, and what another policy would change."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl

from pipeline.compare import read_night
from pipeline.errors import JobError
from pipeline.plan import BaselineOnly, PlanOptions, make_plan, read_rows, select_rows
from pipeline.records import PICO_USD
from pipeline.render import Renderer
from pipeline.run.night import Night, open_night
from pipeline.run.options import RunOptions
from pipeline.run.outcomes import ANSWERED, answered, recorded_outcomes
from pipeline.spec import AGREEMENT, ScoreRule
from pipeline.write import Answers

FEWEST_PAIRED = 50  # rows, below which a learned policy promises nothing


class Evidence(NamedTuple):
    """Prompts (prompt_id, prompt) and outcomes (prompt_id, model, score, cost_usd) of the rows all models answered."""

    prompts: pl.DataFrame
    outcomes: pl.DataFrame
    rows: int  # of the night


def gather_evidence(options: RunOptions, reference: str) -> Evidence:
    """Return what earlier nights tell of *reference* and the models that answered the same rows, scored by the job.

    Without a scorer the score is whether an answer agrees with the baseline's.

    Raises:
        JobError: when no night was run, or fewer than `FEWEST_PAIRED` rows were answered by a second model too.
    """
    with open_night(options, create=False) as (night, connection), TemporaryDirectory() as scratch:
        outputs = night.folder / "outputs.parquet"
        if connection is None or not outputs.exists():
            raise JobError(f"{night.folder}: no finished night to learn from; run the job first")
        plan = make_plan(night.job, night.source, night.catalogue, Path(scratch) / "rows", PlanOptions())
        answers = Answers(connection, night.ledger_path, night.done.records, night.kept)
        told = [one for one in (recorded_outcomes(night.catalogue, plan.rows_path),) if one is not None]
        models = [name for (name,) in connection.execute("SELECT DISTINCT model FROM attempts ORDER BY model")]
        for model in models:
            if model in night.catalogue.models:
                lines = list(_answered_by(night, model, plan.summary.rows, answers, Path(scratch) / "model"))
                told.append(pl.DataFrame(lines, schema=ANSWERED, orient="row"))
        job = night.job
        if not job.score_rules:
            job = job.model_copy(update={"score": [ScoreRule(scorer=AGREEMENT)]})
        graded = read_night(outputs, pl.concat(told, how="diagonal"), job).answers.select(
            pl.col("row").cast(pl.String).alias("prompt_id"),
            pl.col("model").cast(pl.String),
            score="quality",
            cost_usd=pl.col("cost") * float(PICO_USD),
        )
        prompts = _prompts(night)
    return Evidence(prompts, _paired(graded.drop_nulls(), reference), prompts.height)


def _answered_by(night: Night, model: str, rows: int, answers: Answers, folder: Path) -> Iterator[tuple[Any, ...]]:
    """Yield what *model* itself answered to the very requests that the rows would make of it."""
    job = night.job.model_copy(update={"route": night.job.route.model_copy(update={"baseline": model})})
    known = PlanOptions(known=night.done.records, baseline=BaselineOnly(range(rows)))
    numbers = itertools.count()
    for batch in read_rows(make_plan(job, night.source, night.catalogue, folder, known).rows_path):
        for attempt in answers.settled(batch["request_id"].to_pylist()):
            row = next(numbers)
            # The answer to a row that escalated is another model's.
            if attempt is not None and attempt.model == model:
                yield answered(row, model, attempt)


def _prompts(night: Night) -> pl.DataFrame:
    renderer = Renderer(night.job.prompt)
    texts: list[str] = []
    for batch in select_rows(night.source, list(renderer.columns), night.options.selection):
        table = pl.from_arrow(batch.table)
        assert isinstance(table, pl.DataFrame)
        texts += renderer.render(table)["user"].fill_null("").to_list()
    return pl.DataFrame({"prompt_id": map(str, range(len(texts))), "prompt": texts})


def _paired(graded: pl.DataFrame, reference: str) -> pl.DataFrame:
    """Return the outcomes of *reference* and of as many models as share enough rows, those with most rows first."""
    rows = {name: set(own["prompt_id"]) for (name,), own in graded.group_by("model")}
    shared, models = rows.pop(reference, set()), [reference]
    for name in sorted(rows, key=lambda name: (-len(rows[name] & shared), name)):
        if len(rows[name] & shared) >= FEWEST_PAIRED:
            shared, models = shared & rows[name], [*models, name]
    if len(models) == 1:
        most = max((len(own & shared) for own in rows.values()), default=0)
        raise JobError(
            f"{most} rows have a score of {reference} and of another model; {FEWEST_PAIRED} are the fewest to learn "
            "from: raise [compare] shadow and run more nights"
        )
    return graded.filter(pl.col("model").is_in(models), pl.col("prompt_id").is_in(list(shared)))


def rows_per_model(options: RunOptions, policy: Path | None = None) -> dict[str, int]:
    """Return how many rows the job gives each model, with *policy* instead of its own where that is given.

    Raises:
        JobError: when the job can't run as written, or the policy doesn't fit it.
    """
    with open_night(options, create=False) as (night, _), TemporaryDirectory() as scratch:
        job = night.job
        if policy is not None:
            route = job.route.model_copy(update={"policy": str(policy), "promise": None})
            job = job.model_copy(update={"route": route})
        plan = make_plan(job, night.source, night.catalogue, Path(scratch) / "plan", PlanOptions())
        counts: Counter[str] = Counter()
        for batch in read_rows(plan.rows_path):
            counts.update(model or "none" for model in batch["model"].to_pylist())
        return dict(counts)
