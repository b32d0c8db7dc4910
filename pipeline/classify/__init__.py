"""Give every text a task and a difficulty, and say why: rules (`rules.toml`), and where they waver a learned model."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.difficulty import difficulties
from pipeline.classify.features import looked_at
from pipeline.classify.learned import TASKS, Model, built_in_model, probabilities
from pipeline.classify.rules import Rules, built_in_rules
from pipeline.classify.votes import Tally, count_votes
from pipeline.records import Task

__all__ = ["SCHEMA", "classify", "label_as", "rule_votes"]

SCHEMA = {"task": pl.String, "difficulty": pl.String, "confidence": pl.Float64, "rule": pl.String}

Places = npt.NDArray[np.intp]
Shares = npt.NDArray[np.float64]

_SLICE_ROWS = 65_536  # what is looked at is a copy, so only so many texts at a time
_UNSURE = 0.3  # with less confidence than this the default route is as good a guess
_NONE, _EMPTY, _IMAGE, _LEARNED, _DOUBT = range(5)
_REASONS = ["none", "empty", "image", "learned", "unsure"]  # stand beside the ids of the rules, in this order


def classify(texts: pl.Series, has_image: pl.Series | None = None, *, rules: Rules | None = None) -> pl.DataFrame:
    """Return one row per text, with the columns of `SCHEMA`.

    `task` and `difficulty` are values of `records.Task` and `records.Difficulty`. `rule` says why the task: "image"
    (where *has_image* is true the task is vision), "empty" (null or white space, a general task), the id of the
    strongest rule for the task, "learned" where no rule speaks for the task that the learned model chose, or "unsure":
    with a confidence below 0.3 the task is general, the default route. `confidence` is the share of labels as sure as
    this one that were right on sources the model had not seen, and 1 for an image.

    Other *rules* than the built-in ones decide alone, since the model was fitted to those: the task with most votes
    wins, `rule` is "none" where no rule holds, and `confidence` is (lead + 1) / (lead + 2), Laplace's rule of
    succession for the votes by which the task leads the next one.

    Every text gets a label, and other texts have no influence on it. Of a long text only the two ends are looked at.
    A call has some milliseconds of its own, so tens of thousands of texts a call are quickest.
    """
    model = built_in_model() if rules is None else None
    rules = rules or built_in_rules()
    texts = texts.cast(pl.String).fill_null("")
    images = pl.repeat(value=False, n=len(texts), eager=True) if has_image is None else has_image.fill_null(value=False)
    parts = [
        _classify(texts.slice(start, _SLICE_ROWS), images.slice(start, _SLICE_ROWS), rules, model)
        for start in range(0, len(texts), _SLICE_ROWS)
    ]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts])


def label_as(texts: pl.Series, tasks: pl.Series) -> pl.DataFrame:
    """Return the task and difficulty that `classify` would give to *texts* if it gave them *tasks*."""
    rules = built_in_rules()
    texts = texts.cast(pl.String).fill_null("")
    chars = texts.str.len_chars()
    places = tasks.replace_strict(rules.order, range(len(rules.order))).to_numpy().astype(np.intp)
    return pl.DataFrame(
        {
            "task": tasks.cast(pl.String),
            "difficulty": difficulties(_searched(texts, chars, rules), chars, places, rules),
        }
    )


def rule_votes(texts: pl.Series) -> npt.NDArray[np.int16]:
    """Return the votes of the built-in rules, a row a task in the order of `learned.TASKS`, a column a text."""
    rules = built_in_rules()
    tally = count_votes(_searched(texts, texts.str.len_chars(), rules), rules)
    return tally.votes[[rules.order.index(task) for task in TASKS]]


def _classify(texts: pl.Series, images: pl.Series, rules: Rules, model: Model | None) -> pl.DataFrame:
    chars = texts.str.len_chars()
    searched = _searched(texts, chars, rules)
    tally = count_votes(searched, rules)
    labels = _by_rules(tally, rules)
    empty = searched == ""
    if model is not None:
        _ask_model(labels, model, texts, tally, rules, ~(empty | images))
    labels.put(empty.to_numpy(), rules.order.index(Task.GENERAL), _EMPTY)
    labels.put(images.to_numpy(), rules.order.index(Task.VISION), _IMAGE)
    labels.confidence[images.to_numpy()] = 1.0
    names = [*_REASONS, *(rule.id for rule in rules.rule)]
    return pl.DataFrame(
        {
            "task": pl.Series(rules.order, dtype=pl.String).gather(labels.task),
            "difficulty": difficulties(searched, chars, labels.task, rules),
            "confidence": labels.confidence,
            "rule": pl.Series(names).gather(labels.rule),
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


class _Labels(NamedTuple):
    """Per row the place of the task in the order, the place of the rule in the names, and the confidence."""

    task: Places
    rule: Places
    confidence: Shares

    def put(self, where: npt.NDArray[np.bool_] | Places, task: int | Places, rule: int | Places) -> None:
        self.task[where] = task
        self.rule[where] = rule


def _by_rules(tally: Tally, rules: Rules) -> _Labels:
    task = tally.votes.argmax(axis=0)
    rule = len(_REASONS) + tally.rule[task, np.arange(len(task))]
    lead = tally.lead()
    labels = _Labels(task, rule, (lead + 1) / (lead + 2))
    labels.put(tally.votes.max(axis=0) == 0, rules.order.index(Task.GENERAL), _NONE)
    return labels


def _ask_model(labels: _Labels, model: Model, texts: pl.Series, tally: Tally, rules: Rules, asked: pl.Series) -> None:
    """Let *model* label the texts that are *asked* for and that the rules are not certain of."""
    lead = tally.lead()
    certain = lead >= model.certain_lead
    labels.confidence[certain] = model.certain[np.minimum(lead[certain], len(model.certain) - 1)]
    rows = np.flatnonzero(asked.to_numpy() & ~certain)
    places = np.array([rules.order.index(task) for task in TASKS])
    shares = probabilities(model.scores(looked_at(texts.gather(rows)), tally.votes[places][:, rows]))
    task = places[shares.argmax(axis=1)]
    confidence = shares.max(axis=1).astype(np.float64)
    backed = tally.votes[task, rows] > 0
    labels.put(rows, task, np.where(backed, len(_REASONS) + tally.rule[task, rows], _LEARNED))
    labels.put(rows[confidence < _UNSURE], rules.order.index(Task.GENERAL), _DOUBT)
    labels.confidence[rows] = confidence
