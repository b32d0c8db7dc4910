"""What a policy expects of a text: of each arm, the score it would get and the price it would pay. Pure arithmetic.

Three views of the text are added: which subject it is of; which pattern of outcomes it will show, that is, which arms
do better or worse than the others on it; and its words. Subject and pattern are guessed by a linear score for each
class, made a share by a softmax; each arm has a mean score on each class, and a mean cost on each subject.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.policy.features import BITS, Floats, Ints, Terms, terms

Singles = npt.NDArray[np.float32]
_CHUNK = 2_000  # texts at a time, so that what is gathered for them stays in the cache


class Words(NamedTuple):
    """The terms a policy knows: hashed and sorted, how much each weighs, and mean and spread of the shapes."""

    known: Ints
    weight: Floats  # inverse document frequency
    shape_mean: Floats
    shape_scale: Floats


class Linear(NamedTuple):
    """Some linear functions of words and shapes, a column each."""

    of_words: Singles
    of_shapes: Floats
    constant: Floats


class Expectation(NamedTuple):
    """What is expected of each text (row) and arm (column)."""

    scores: Floats  # calibrated: of rows with 0.8, the mean score is near 0.8
    costs: Floats  # USD


class Predictor(NamedTuple):
    """Everything that is learned of texts. Columns of `linear`: subjects, patterns, level.

    Where the words themselves tell of the arms, there is a column for each of these, too, to be added.
    """

    words: Words
    linear: Linear
    sharpness: float  # of the softmax over subjects
    pattern_sharpness: float
    subject_scores: Floats  # subjects x arms, differences from the level
    subject_costs: Floats  # subjects x arms, USD
    pattern_scores: Floats  # patterns x arms, to be added

    def expect(self, texts: pl.Series) -> Expectation:
        """Return what is expected of each arm on each of *texts*."""
        parts = [
            self._expect(np.asarray(linear_of(self.words, self.linear, texts.slice(start, _CHUNK))))
            for start in range(0, len(texts), _CHUNK)
        ]
        if not parts:
            nothing = np.empty((0, self.subject_scores.shape[1]))
            return Expectation(nothing, nothing)
        return Expectation(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _expect(self, values: Floats) -> Expectation:
        ends = np.cumsum([len(self.subject_scores), len(self.pattern_scores), 1])
        subject, pattern, level, words = np.split(values, ends, axis=1)
        share = softmax(subject * self.sharpness)
        differences = share @ self.subject_scores + softmax(pattern * self.pattern_sharpness) @ self.pattern_scores
        if words.shape[1]:
            differences += words
        return Expectation(np.clip(level + differences, 0.0, 1.0), share @ self.subject_costs)


def softmax(values: Floats) -> Floats:
    """Return *values* as shares of 1 along each row."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def linear_of(words: Words, linear: Linear, texts: pl.Series) -> Floats:
    """Return the linear functions of each of *texts*."""
    counted = terms(texts)
    found, position, value = weighted(words, counted)
    summed = np.zeros((len(texts), linear.of_words.shape[1]))
    if len(found):
        products = linear.of_words[position] * value[:, None].astype(np.float32)
        firsts = np.flatnonzero(np.diff(found, prepend=-1))
        summed[found[firsts]] = np.add.reduceat(products, firsts, axis=0)
    return np.asarray(summed + scaled_shapes(words, counted) @ linear.of_shapes + linear.constant)


def weighted(words: Words, counted: Terms) -> tuple[Ints, Ints, Floats]:
    """Return row, position in *words* and weight of each known word, however often it is there; a row has length 1."""
    places = np.full(1 << BITS, -1, np.int64)
    places[words.known] = np.arange(len(words.known))
    position = places[counted.term]
    is_known = position >= 0
    row, position = counted.row[is_known], position[is_known]
    value = words.weight[position]
    length = np.sqrt(np.bincount(row, value * value, minlength=len(counted.shapes)))
    return row, position, value / length[row]


def scaled_shapes(words: Words, counted: Terms) -> Floats:
    """Return the shapes in units of their spread, at most four of them from the mean."""
    return np.asarray(np.clip((counted.shapes - words.shape_mean) / words.shape_scale, -4.0, 4.0))
