"""Label the rows of a job: rows of one template vote, so that an odd row is not labelled otherwise than the rest."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify import SCHEMA, classify, label_as
from pipeline.classify.learned import TASKS
from pipeline.records import Task

Rows = npt.NDArray[np.intp]

_SAMPLE_ROWS = 50  # of a template are looked at
_TEMPLATE_LETTERS = 12  # fewer say no more than where the columns go
_JOB_AGREES, _JOB_NEARLY_AGREES = 0.6, 0.5
_GROUP_AGREES = 0.8  # more, because a group's template is only guessed
_GROUP_ROWS = 200  # fewer are looked at one by one
_MOST_GROUPS = 10_000  # are remembered; so many templates make no job of few
_LIKE_CHARS, _LIKE_SEEN = 32, 48  # texts that share so many characters at an end, numbers apart, are of one template
_EXPRESSIONS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class _Verdict(NamedTuple):
    task: Task
    share: float


def _letters(character: str) -> int:
    """Return 1 for a letter, and for a CJK character, which says as much as several letters, 4."""
    return (4 if character >= "\u3040" else 1) if character.isalpha() else 0


class JobClassifier:
    """Gives rows a task and a difficulty, batch after batch.

    A pinned *task* is every row's. Else, where the job has *templates* (of system and user message, in Jinja2) with
    words of their own, 50 rows of the first batch are labelled, and what 60% of them agree on, or 50% and the words of
    the templates alone, is the task of every row of the job. Where they do not agree, or the job has no template, 50
    rows are labelled of each 200 or more of a batch that begin alike, or else end alike, and what 80% of them agree on
    is the task of all these, also in later batches. All other rows are labelled for themselves. A row with an image is
    a vision row.
    """

    def __init__(self, *, task: Task | None = None, templates: tuple[str | None, ...] = ()) -> None:
        self._pinned = task
        self._template = "\n\n".join(_EXPRESSIONS.sub(" ", template).strip() for template in templates if template)
        self._may_vote = sum(map(_letters, self._template)) >= _TEMPLATE_LETTERS
        self._verdict: _Verdict | None = None
        self._groups = _Groups()

    def label(self, texts: pl.Series, has_image: pl.Series, systems: pl.Series | None = None) -> pl.DataFrame:
        """Return a row of `classify.SCHEMA` per text; *systems* are the system messages the texts go with.

        `rule` is "pinned", "template" or "group" where the label is not the row's own.
        """
        if self._pinned is not None:
            return _all_as(self._pinned, texts).with_columns(confidence=pl.lit(1.0), rule=pl.lit("pinned"))
        if self._may_vote and len(texts):
            self._verdict = self._vote_of_job(texts, has_image, systems)
            self._may_vote = False
        if self._verdict is None:
            return self._groups.label(texts, has_image)
        labels = _all_as(self._verdict.task, texts).with_columns(
            confidence=pl.lit(self._verdict.share), rule=pl.lit("template")
        )
        images = has_image.arg_true()
        if not len(images):
            return labels
        own = classify(texts.gather(images), has_image.gather(images))
        return labels.with_columns(labels[name].scatter(images, own[name]) for name in SCHEMA)

    def _vote_of_job(self, texts: pl.Series, has_image: pl.Series, systems: pl.Series | None) -> _Verdict | None:
        rows = _sample((~has_image).arg_true().to_numpy())
        sample = texts.gather(rows)
        if systems is not None:
            both = pl.concat_str(systems.gather(rows), sample, separator="\n\n", ignore_nulls=True)
            sample = pl.select(both).to_series()
        verdict = _verdict(classify(sample), _JOB_NEARLY_AGREES)
        if verdict is None or verdict.share >= _JOB_AGREES:
            return verdict
        return verdict if classify(pl.Series([self._template]))["task"][0] == verdict.task else None


class _Groups:
    """Texts that begin alike, or else end alike, are taken for rows of one template and vote, once a job."""

    def __init__(self) -> None:
        self._ends = (pl.col("text").str.head(_LIKE_SEEN), pl.col("text").str.tail(_LIKE_SEEN))
        self._verdicts: tuple[dict[str, _Verdict | None], ...] = ({}, {})

    def label(self, texts: pl.Series, has_image: pl.Series) -> pl.DataFrame:
        """Label the groups by vote, and the other texts for themselves."""
        left = (~has_image).arg_true().to_numpy().astype(np.intp)
        task = np.zeros(len(texts), dtype=np.intp)
        share = np.zeros(len(texts))
        for end, verdicts in zip(self._ends, self._verdicts, strict=True):
            for rows, verdict in _voted(texts, left, end, verdicts):
                task[rows] = TASKS.index(verdict.task)
                share[rows] = verdict.share
            left = left[share[left] == 0]
        voted, own = np.flatnonzero(share), np.flatnonzero(share == 0)
        if not len(voted):
            return classify(texts, has_image)
        tasks = pl.Series(TASKS, dtype=pl.String).gather(task[voted])
        labels = label_as(texts.gather(voted), tasks).with_columns(confidence=share[voted], rule=pl.lit("group"))
        if not len(own):
            return labels
        both = pl.concat([labels, classify(texts.gather(own), has_image.gather(own))])
        return both[np.argsort(np.concatenate([voted, own]))]


def _voted(
    texts: pl.Series, rows: Rows, end: pl.Expr, verdicts: dict[str, _Verdict | None]
) -> Iterator[tuple[Rows, _Verdict]]:
    """Yield those of *rows* whose *end* is alike and that agree on a task; new votes are added to *verdicts*."""
    like = end.str.replace_all("[0-9]+", "0").str.head(_LIKE_CHARS).fill_null("").alias("like")
    frame = pl.DataFrame({"text": texts.gather(rows), "row": rows}).select("row", like)
    large = (pl.len() >= _GROUP_ROWS) if len(verdicts) < _MOST_GROUPS else pl.lit(value=False)
    known = pl.col("like").first().is_in(list(verdicts))
    found = frame.group_by("like", maintain_order=True).agg("row", chosen=large | known).filter("chosen")
    groups = dict(zip(found["like"].to_list(), (group.to_numpy() for group in found["row"]), strict=True))
    samples = {name: texts.gather(_sample(its_rows)) for name, its_rows in groups.items() if name not in verdicts}
    verdicts.update(zip(samples, _votes(list(samples.values()), _GROUP_AGREES), strict=True))
    for name, its_rows in groups.items():
        verdict = verdicts[name]
        if verdict is not None:
            yield its_rows, verdict


def _votes(samples: list[pl.Series], agree: float) -> Iterator[_Verdict | None]:
    """Yield the verdict of each sample; all are labelled in one call, which has some milliseconds of its own."""
    labels = classify(pl.concat(samples)) if samples else None
    start = 0
    for sample in samples:
        assert labels is not None
        yield _verdict(labels[start : start + len(sample)], agree)
        start += len(sample)


def _verdict(labels: pl.DataFrame, agree: float) -> _Verdict | None:
    """Return the task that most of *labels* name, weighed by confidence, or None where too few *agree*."""
    votes = labels.group_by("task").agg(pl.col("confidence").sum())
    if not len(votes):
        return None
    task, most = votes.sort("confidence", "task", descending=True).row(0)
    share = most / votes["confidence"].sum()
    return _Verdict(Task(task), share) if share >= agree else None


def _sample(rows: Rows) -> Rows:
    """Return at most `_SAMPLE_ROWS` of *rows*, evenly spread."""
    places = np.linspace(0, max(0, len(rows) - 1), num=min(len(rows), _SAMPLE_ROWS)).astype(np.intp)
    return rows[places]


def _all_as(task: Task, texts: pl.Series) -> pl.DataFrame:
    return label_as(texts, pl.Series([task], dtype=pl.String).new_from_index(0, len(texts)))
