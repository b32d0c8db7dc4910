"""Give every text a task and a difficulty, and say why.

The rules are data (`rules.toml`). Whatever decides in front of them later keeps the signature of `classify`.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.difficulty import difficulties
from pipeline.classify.rules import Rules, built_in_rules
from pipeline.classify.votes import Tally, count_votes
from pipeline.records import Task

__all__ = ["SCHEMA", "classify"]

SCHEMA = {"task": pl.String, "difficulty": pl.String, "confidence": pl.Float64, "rule": pl.String}

Places = npt.NDArray[np.intp]
Shares = npt.NDArray[np.float64]

_SLICE_ROWS = 65_536  # what is looked at is a copy, so only so many texts at a time
_NONE, _EMPTY, _IMAGE = range(3)
_REASONS = ["none", "empty", "image"]  # stand beside the ids of the rules, in this order


def classify(texts: pl.Series, has_image: pl.Series | None = None, *, rules: Rules | None = None) -> pl.DataFrame:
    """Return one row per text, with the columns of `SCHEMA`.

    `task` and `difficulty` are values of `records.Task` and `records.Difficulty`. `rule` is the id of the strongest
    rule behind the task, or "image" (where *has_image* is true the task is vision), "empty" (null or white space) or
    "none" (no rule holds); the last two are general tasks. `confidence` is (lead + 1) / (lead + 2), Laplace's rule of
    succession for the votes by which the task leads the next one, and 1 for an image.

    Every text gets a label, and other texts have no influence on it. Of a long text only the two ends are looked at, as
    the rules say. A call has some milliseconds of its own, so tens of thousands of texts a call are quickest.
    """
    rules = rules or built_in_rules()
    texts = texts.cast(pl.String).fill_null("")
    images = pl.repeat(value=False, n=len(texts), eager=True) if has_image is None else has_image.fill_null(value=False)
    parts = [
        _classify(texts.slice(start, _SLICE_ROWS), images.slice(start, _SLICE_ROWS), rules)
        for start in range(0, len(texts), _SLICE_ROWS)
    ]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts])


def _classify(texts: pl.Series, images: pl.Series, rules: Rules) -> pl.DataFrame:
    chars = texts.str.len_chars()
    searched = _searched(texts, chars, rules)
    tally = count_votes(searched, rules)
    task, rule, confidence = _decide(tally, rules, empty=searched == "", image=images)
    names = [*_REASONS, *(rule.id for rule in rules.rule)]
    return pl.DataFrame(
        {
            "task": pl.Series(rules.order, dtype=pl.String).gather(task),
            "difficulty": difficulties(searched, chars, task, rules),
            "confidence": confidence,
            "rule": pl.Series(names).gather(rule),
        }
    )


def _searched(texts: pl.Series, chars: pl.Series, rules: Rules) -> pl.Series:
    """Return what is looked at: lower case, stripped on the left, of a long text only its head and its tail."""
    long = (chars > rules.head_chars + rules.tail_chars).arg_true()
    if len(long):
        text = pl.col("text")
        ends = pl.concat_str(text.str.head(rules.head_chars), text.str.tail(rules.tail_chars), separator="\n")
        cut = texts.gather(long).to_frame("text").select(ends).to_series()
        places = np.arange(len(texts))
        places[long] = len(texts) + np.arange(len(cut))
        texts = pl.concat([texts, cut]).gather(places)
    return texts.str.to_lowercase().str.strip_chars_start()


def _decide(tally: Tally, rules: Rules, *, empty: pl.Series, image: pl.Series) -> tuple[Places, Places, Shares]:
    """Return per row the place of the task in the order, the place of the rule in the names, and the confidence."""
    rows = np.arange(len(empty))
    task = tally.votes.argmax(axis=0)
    rule = len(_REASONS) + tally.rule[task, rows]
    second, first = np.partition(tally.votes, -2, axis=0)[-2:].astype(np.int64)
    confidence = (first - second + 1) / (first - second + 2)
    special = [
        (first == 0, Task.GENERAL, _NONE),
        (empty.to_numpy(), Task.GENERAL, _EMPTY),
        (image.to_numpy(), Task.VISION, _IMAGE),
    ]
    for where, its_task, reason in special:
        task[where] = rules.order.index(its_task)
        rule[where] = reason
    confidence[image.to_numpy()] = 1.0
    return task, rule, confidence
