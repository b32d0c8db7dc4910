"""The rows that got worse: what was asked, what was answered, and what the baseline had said."""

from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from pipeline.compare import Night
from pipeline.records import Status
from pipeline.render import Renderer
from pipeline.spec import Job

MOST_ROWS = 20
_MOST_CHARS = 1_500
_READ_ROWS = 1_024


class Worse(NamedTuple):
    """A row whose routed answer scored less than the baseline's."""

    row: int
    task: str
    metric: str
    prompt: str
    model: str
    quality: float
    answer: str
    baseline_model: str
    baseline_quality: float
    baseline_answer: str


def worse_rows(night: Night, outputs: Path, outcomes: pl.DataFrame | None, job: Job) -> tuple[list[Worse], int]:
    """Return the rows that lost most against the baseline, at most twenty, and how many there are."""
    lost = night.rows.filter(pl.col("quality") < pl.col("baseline_quality"), pl.col("status") != Status.PENDING).select(
        "row", "task", "metric", "model", "quality", "baseline_model", "baseline_quality"
    )
    if outcomes is None or lost.is_empty():
        return [], 0
    by_loss = (pl.col("quality") - pl.col("baseline_quality")).round(9)
    chosen = lost.sort(by_loss, "row").head(MOST_ROWS)
    texts = _texts(outputs, sorted(chosen["row"]), job)
    said = outcomes.filter(pl.col("row").is_in(chosen["row"].implode()))
    answers = {(row, model): answer for row, model, answer in said.select("row", "model", "answer").iter_rows()}
    found = [
        Worse(
            row=line["row"],
            task=line["task"] or "",
            metric=line["metric"] or "",
            prompt=texts[line["row"]][0],
            model=line["model"] or "",
            quality=line["quality"],
            answer=texts[line["row"]][1],
            baseline_model=line["baseline_model"],
            baseline_quality=line["baseline_quality"],
            baseline_answer=_short(answers.get((line["row"], line["baseline_model"]))),
        )
        for line in chosen.iter_rows(named=True)
    ]
    return found, lost.height


def _texts(outputs: Path, rows: list[int], job: Job) -> dict[int, tuple[str, str]]:
    """Return prompt and answer of *rows*, which ascend, reading no more of the file at a time than a batch."""
    answer = f"{job.output.prefix}answer"
    wanted = [name for name in Renderer(job.prompt).columns if name != job.prompt.image]
    found: dict[int, tuple[str, str]] = {}
    with pq.ParquetFile(outputs, pre_buffer=False) as file:
        start = 0
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=[*wanted, answer], use_threads=False):
            for row in rows:
                if start <= row < start + batch.num_rows:
                    line = batch.slice(row - start, 1).to_pylist()[0]
                    found[row] = (_prompt(line, wanted), _short(line[answer]))
            start += batch.num_rows
            if len(found) == len(rows):
                break
    return found


def _prompt(line: dict[str, object], columns: list[str]) -> str:
    given = [name for name in columns if line[name] is not None]
    if len(given) == 1:
        return _short(line[given[0]])
    return _short("\n".join(f"{name}: {line[name]}" for name in given))


def _short(text: object) -> str:
    """Return *text* without control characters, and cut."""
    plain = "".join(sign for sign in str(text or "") if sign in "\n\t" or sign.isprintable()).strip()
    return plain if len(plain) <= _MOST_CHARS else plain[:_MOST_CHARS] + " …"
