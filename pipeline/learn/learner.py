"""Learn what to expect of each arm on a text, and what would have been expected without having seen it."""

from typing import NamedTuple

import numpy as np

from pipeline.learn.design import Design, Ridge
from pipeline.learn.menu import Candidates
from pipeline.learn.outcomes import Table
from pipeline.learn.patterns import Patterns
from pipeline.policy.features import Floats, Ints
from pipeline.policy.model import Expectation, Predictor, softmax

_SUBJECT_STRENGTH = 1.0
_SHARPNESSES = (4.0, 6.0, 8.0, 12.0)
_STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
_PATTERN_STRENGTHS = (10.0, 3.0, 30.0)  # the first one unless another is clearly better
_PATTERN_SHARPNESSES = (3.0, 1.0, 2.0, 4.0, 6.0)
_MEAN_STRENGTH = 30.0  # rows by which the mean of a subject is drawn to the mean of all
_ENOUGH = 1.0  # standard errors by which a model with more freedom must be better to be taken


class Learned(NamedTuple):
    """A predictor, and for each row of the table what it would expect had it not seen that row's fold."""

    predictor: Predictor
    left_out: Expectation


class View(NamedTuple):
    """What subjects and patterns tell together: each view's departures from its mean, as far as they can be believed."""

    strength: float
    sharpness: float
    subject_share: float
    pattern_share: float
    constant: Floats  # of each arm
    left_out: Floats
    errors: Floats  # squared, of each row

    @classmethod
    def of(
        cls, differences: Floats, by_subject: Floats, by_pattern: Floats, strength: float, sharpness: float
    ) -> "View":
        """Take the mean of the two, each stretched or shrunk to what it has been worth."""
        subject, pattern = by_subject - by_subject.mean(axis=0), by_pattern - by_pattern.mean(axis=0)
        shares = _worth(subject, differences) / 2, _worth(pattern, differences) / 2
        told = differences.mean(axis=0) + shares[0] * subject + shares[1] * pattern
        constant = differences.mean(axis=0) - shares[0] * by_subject.mean(axis=0) - shares[1] * by_pattern.mean(axis=0)
        return cls(strength, sharpness, *shares, constant, told, ((differences - told) ** 2).sum(axis=1))


class Learner:
    """The texts of a table and the subjects guessed from them, ready to learn any arms."""

    def __init__(self, table: Table, folds: Ints, rng: np.random.Generator) -> None:
        self._table = table
        self._folds = folds
        self._design = Design(table.texts, folds, rng)
        self._subjects = np.eye(len(table.subject_names))[table.subjects]
        self._sharpness, self._shares = self._guess_subjects()

    def learn(self, known: Candidates, menu: list[int]) -> Learned:
        """Learn the arms *menu* of *known*."""
        scores, costs = known.scores[:, menu], known.costs[:, menu]
        level = scores.mean(axis=1, keepdims=True)
        differences = scores - level
        level_strength, level_left_out = self._best(level)
        by_subject = self._left_out_by_subject(differences)
        patterns = Patterns.of(scores)
        view = self._view(patterns, differences, by_subject)
        left_out = Expectation(
            np.clip(level_left_out + view.left_out, 0.0, 1.0),
            self._left_out_by_subject(costs),
        )
        parts = [(self._subjects, _SUBJECT_STRENGTH), (level, level_strength), (patterns.members, view.strength)]
        predictor = Predictor(
            words=self._design.words,
            linear=self._design.linear(parts),
            sharpness=self._sharpness,
            pattern_sharpness=view.sharpness,
            subject_scores=self._means(differences) * view.subject_share + view.constant,
            subject_costs=self._means(costs),
            pattern_scores=patterns.centres * view.pattern_share,
        )
        return Learned(predictor, left_out)

    def _view(self, patterns: Patterns, differences: Floats, by_subject: Floats) -> View:
        """Return how patterns and subjects together tell most of *differences* on left-out rows."""
        views = []
        for strength in _PATTERN_STRENGTHS:
            guessed = self._design.ridge.left_out(patterns.members, strength)
            for sharpness in _PATTERN_SHARPNESSES:
                by_pattern = softmax(guessed * sharpness) @ patterns.centres
                views.append(View.of(differences, by_subject, by_pattern, strength, sharpness))
        best = min(views, key=lambda view: float(view.errors.sum()))
        gain = views[0].errors - best.errors
        clear = gain.mean() > _ENOUGH * gain.std() / np.sqrt(len(gain))
        return best if clear else views[0]

    def _means(self, targets: Floats, rows: Ints | slice = slice(None)) -> Floats:
        """Return the mean of *targets* on each subject by *rows*, drawn to the mean of all."""
        members = self._subjects[rows]
        sums = members.T @ targets[rows] + _MEAN_STRENGTH * targets[rows].mean(axis=0)
        return sums / (members.sum(axis=0)[:, None] + _MEAN_STRENGTH)

    def _left_out_by_subject(self, targets: Floats) -> Floats:
        """Return what the guessed subjects say of each row, by means without the row's fold."""
        told = np.empty_like(targets)
        for fold in np.unique(self._folds):
            told[self._folds == fold] = self._shares[self._folds == fold] @ self._means(targets, np.flatnonzero(self._folds != fold))
        return told

    def _guess_subjects(self) -> tuple[float, Floats]:
        """Return the sharpness that gives the true subjects the most likelihood, and each row's shares of subjects."""
        guessed = self._design.ridge.left_out(self._subjects, _SUBJECT_STRENGTH)
        own = np.arange(self._table.rows), self._table.subjects
        likelihoods = {sharpness: float(np.log(softmax(guessed * sharpness)[own]).mean()) for sharpness in _SHARPNESSES}
        sharpness = max(_SHARPNESSES, key=lambda one: likelihoods[one])
        return sharpness, softmax(guessed * sharpness)

    def _best(self, targets: Floats) -> tuple[float, Floats]:
        """Return the strength with the least squared error on left-out rows, and its predictions of them."""
        tried = {strength: self._design.ridge.left_out(targets, strength) for strength in _STRENGTHS}
        best = min(_STRENGTHS, key=lambda strength: float(((targets - tried[strength]) ** 2).sum()))
        return best, tried[best]


def _worth(view: Floats, target: Floats) -> float:
    """Return the factor, from 0 to 1.5, with which *view* has the least squared error."""
    own = float((view * view).sum())
    return min(1.5, max(0.0, float((view * target).sum()) / own)) if own > 0 else 0.0
