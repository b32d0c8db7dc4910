"""Read recorded outcomes: which model got which score at what cost on which prompt."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.errors import JobError
from pipeline.policy.arms import Recorded
from pipeline.policy.features import Ints
from pipeline.readers import open_source
from pipeline.spec import Input

_COSTS = ("cost_usd", "cost", "price_usd")
_SUBJECTS = ("subject", "category", "topic", "domain", "dataset")
_FEWEST_OF_SUBJECT = 5  # rows, below which a subject is not told apart from the rest
_MOST_SUBJECTS = 60


class Table(NamedTuple):
    """Prompts with what every model made of them."""

    ids: pl.Series
    texts: pl.Series
    subjects: Ints  # numbers from 0, by `subject_names`
    subject_names: tuple[str, ...]
    recorded: Recorded
    unit: str  # of the costs: "USD", or "calls of NAME" where no costs are recorded
    left_out: int  # prompts without an outcome of every model, or with a text that stood there before
    digest: str

    def take(self, rows: Ints) -> "Table":
        """Return some of the rows."""
        return self._replace(
            ids=self.ids.gather(rows),
            texts=self.texts.gather(rows),
            subjects=self.subjects[rows],
            recorded=self.recorded.take(rows),
        )

    @property
    def rows(self) -> int:
        """Return how many prompts there are."""
        return len(self.ids)


def read_frame(path: str) -> pl.DataFrame:
    """Return the whole file or files at *path*, Parquet, CSV or JSONL. Raises JobError like `open_source`."""
    source = open_source(Input(path=[path]))
    batches = [pl.from_arrow(batch.table) for batch in source.batches(source.schema.names)]
    frames = [batch for batch in batches if isinstance(batch, pl.DataFrame)]
    return pl.concat(frames) if frames else pl.DataFrame(pl.from_arrow(source.schema.empty_table()))


def read_prompts(path: str) -> pl.DataFrame:
    """Return prompt_id, prompt and whatever else the table of prompts has.

    Raises:
        JobError: when it can't be read, lacks a column, or names two prompts alike.
    """
    prompts = _with_columns(read_frame(path), path, ("prompt_id", "prompt"))
    prompts = prompts.with_columns(pl.col("prompt_id", "prompt").cast(pl.String))
    if prompts["prompt_id"].is_duplicated().any():
        raise JobError(f"{path}: column prompt_id is not unique")
    return prompts


def read_table(prompts_path: str, outcomes_path: str, *, reference: str, answer_column: str | None) -> Table:
    """Join prompts and outcomes on prompt_id. Prompts that not every model was recorded on are left out.

    Without costs a call of the *reference* counts as 1 and any other as 0.

    Raises:
        JobError: naming the file and what it lacks.
    """
    prompts = read_prompts(prompts_path)
    outcomes = read_frame(outcomes_path)
    wanted = ("prompt_id", "model", "score", *filter(None, [answer_column]))
    outcomes = _with_columns(outcomes, outcomes_path, wanted).with_columns(pl.col("prompt_id", "model").cast(pl.String))
    outcomes, unit = _with_costs(outcomes, outcomes_path, reference)
    models = tuple(sorted(outcomes["model"].unique()))
    if reference not in models:
        raise JobError(f"{outcomes_path}: no outcome of the reference {reference}; the models are {', '.join(models)}")
    if outcomes.select("prompt_id", "model").is_duplicated().any():
        raise JobError(f"{outcomes_path}: two outcomes of one model on one prompt_id")
    numbered = outcomes.with_columns(_numbers(outcomes, answer_column), pl.col("score").cast(pl.Float64))
    whole = _joined(prompts, numbered, models)
    if not whole.height:
        raise JobError(f"{outcomes_path}: no prompt_id of {prompts_path} has a score and a cost of every model")
    names, subjects = _subjects(whole, prompts.columns)
    return Table(
        ids=whole["prompt_id"],
        texts=whole["prompt"],
        subjects=subjects,
        subject_names=names,
        recorded=_recorded(whole, models, has_answers=answer_column is not None),
        unit=unit,
        left_out=prompts.height - whole.height,
        digest=_digest(prompts_path, outcomes_path),
    )


def _recorded(whole: pl.DataFrame, models: tuple[str, ...], *, has_answers: bool) -> Recorded:
    scores, costs, answers = (
        np.stack([whole[f"{name} {model}"].to_numpy() for model in models], axis=1)
        for name in ("score", "_cost", "_answer")
    )
    return Recorded(models, scores, costs, answers if has_answers else None)


def _joined(prompts: pl.DataFrame, outcomes: pl.DataFrame, models: tuple[str, ...]) -> pl.DataFrame:
    joined = prompts.unique("prompt", keep="first", maintain_order=True)
    for model in models:
        own = outcomes.filter(pl.col("model") == model).select(
            "prompt_id", pl.col("score", "_cost", "_answer").name.suffix(f" {model}")
        )
        joined = joined.join(own, on="prompt_id", how="inner", maintain_order="left")
    measures = [f"{name} {model}" for name in ("score", "_cost") for model in models]
    return joined.drop_nulls(measures).filter(pl.all_horizontal(pl.col(measures).is_finite()))


def _with_columns(frame: pl.DataFrame, path: str, wanted: tuple[str, ...]) -> pl.DataFrame:
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise JobError(f"{path}: no column {', '.join(missing)}; there are: {', '.join(frame.columns)}")
    return frame


def _with_costs(outcomes: pl.DataFrame, path: str, reference: str) -> tuple[pl.DataFrame, str]:
    column = next((name for name in _COSTS if name in outcomes.columns), None)
    if column is None:
        raise JobError(f"{path}: no column {' or '.join(_COSTS[:2])}, the cost of a call in USD")
    costs = outcomes[column].cast(pl.Float64, strict=False)
    if costs.null_count() == len(costs):
        calls = (outcomes["model"] == reference).cast(pl.Float64)
        return outcomes.with_columns(_cost=calls), f"calls of {reference}"
    if (costs < 0).any():
        raise JobError(f"{path}: column {column} has a negative cost")
    return outcomes.with_columns(_cost=costs), "USD"


def _numbers(outcomes: pl.DataFrame, answer_column: str | None) -> pl.Series:
    """Return a number for every distinct answer, -1 for none: null, empty, or nothing but space."""
    if answer_column is None:
        return pl.Series("_answer", np.full(outcomes.height, -1))
    answers = outcomes[answer_column].cast(pl.String).str.strip_chars()
    ranks = answers.set(answers == "", None).rank("dense").cast(pl.Int64)
    return (ranks.fill_null(0) - 1).alias("_answer")


def _subjects(whole: pl.DataFrame, columns: list[str]) -> tuple[tuple[str, ...], Ints]:
    """Return the names of the subjects and each row's, from the first column that looks like one; else all alike."""
    for name in _SUBJECTS:
        if name in columns and whole[name].dtype == pl.String:
            values = whole[name].fill_null("")
            common = values.value_counts(sort=True).filter(pl.col("count") >= _FEWEST_OF_SUBJECT)[name]
            if 1 < len(common) <= _MOST_SUBJECTS:
                names = tuple(sorted(common))
                rest = len(names)
                numbers = values.replace_strict({one: at for at, one in enumerate(names)}, default=rest)
                has_rest = bool((numbers == rest).any())
                return (*names, *(["other"] if has_rest else [])), numbers.to_numpy().astype(np.int64)
    return ("all",), np.zeros(whole.height, np.int64)


def _digest(*paths: str) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if Path(path).is_file():
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()
