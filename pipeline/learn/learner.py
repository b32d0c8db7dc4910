"""Learn what to expect of each arm on a text, and what would have been expected without having seen it."""

from typing import NamedTuple

import numpy as np

from pipeline.learn.design import Design, Ridge
from pipeline.learn.menu import Candidates
from pipeline.learn.outcomes import Table
from pipeline.policy.features import Floats, Ints
from pipeline.policy.model import Expectation, Predictor, softmax

_SUBJECT_STRENGTH = 0.5  # of the ridge that guesses the subject
_SHARPNESSES = (4.0, 6.0, 8.0, 12.0, 16.0)
_STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_MEAN_STRENGTH = 30.0  # rows by which the mean of a subject is drawn to the mean of all
_ENOUGH = 1.0  # standard errors by which a model with more freedom must be better to be taken


class Learned(NamedTuple):
    """A predictor, and for each row of the table what it would expect had it not seen that row's fold."""

    predictor: Predictor
    left_out: Expectation


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
        ridge = Ridge(self._shares, self._folds)
        by_subject = ridge.left_out(differences, _MEAN_STRENGTH * self._mean_square)
        rest = differences - by_subject
        strength, own_left_out = self._best(rest)
        share = self._text_share(rest, own_left_out)
        left_out = Expectation(
            np.clip(level_left_out + by_subject + share * own_left_out, 0.0, 1.0),
            ridge.left_out(costs, _MEAN_STRENGTH * self._mean_square),
        )
        parts = [(self._subjects, _SUBJECT_STRENGTH), (level, level_strength), (rest, strength)]
        predictor = Predictor(
            words=self._design.words,
            linear=self._design.linear(parts),
            sharpness=self._sharpness,
            subject_scores=self._by_subject(ridge, differences),
            subject_costs=self._by_subject(ridge, costs),
            text_share=share,
        )
        return Learned(predictor, left_out)

    @property
    def _mean_square(self) -> float:
        """Return what a row adds to its subject's weight, so that a strength is a number of rows."""
        return float((self._shares**2).sum(axis=1).mean())

    def _by_subject(self, ridge: Ridge, targets: Floats) -> Floats:
        weights, constant = ridge.weights(targets, _MEAN_STRENGTH * self._mean_square)
        return weights + constant  # the shares add up to 1

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

    @staticmethod
    def _text_share(rest: Floats, predicted: Floats) -> float:
        """Return how far the words count: 0 unless they make left-out rows clearly better."""
        errors = {share: ((rest - share * predicted) ** 2).sum(axis=1) for share in _SHARES}
        best = min(_SHARES, key=lambda share: float(errors[share].sum()))
        gain = errors[0.0] - errors[best]
        clear = gain.mean() > _ENOUGH * gain.std() / np.sqrt(len(gain))
        return best if clear else 0.0
