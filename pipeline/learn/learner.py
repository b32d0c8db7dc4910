"""Learn what to expect of each arm on a text, and what would have been expected without having seen it."""

from typing import NamedTuple

import numpy as np

from pipeline.learn.design import Design
from pipeline.learn.menu import Candidates
from pipeline.learn.outcomes import Table
from pipeline.learn.patterns import Patterns, best_view
from pipeline.policy.features import Floats, Ints
from pipeline.policy.model import Expectation, Predictor, softmax

_SUBJECT_STRENGTH = 0.5  # of the ridge that guesses the subject
_SHARPNESSES = (4.0, 6.0, 8.0, 12.0, 16.0)
_STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
_MEAN_STRENGTH = 30.0  # rows by which the mean of a subject is drawn to the mean of all


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
        by_subject = self._left_out_by_subject(differences)
        patterns = Patterns.of(scores)
        words_strength, by_words = self._best(differences)
        view = best_view(patterns, self._design.ridge, differences, by_subject, by_words)
        expected = np.clip(level_left_out + view.left_out, 0.0, 1.0)
        left_out = Expectation(expected, self._left_out_by_subject(costs))
        parts = [
            (self._subjects, _SUBJECT_STRENGTH),
            (patterns.members, view.strength),
            (level, level_strength),
        ]
        if view.words_share:
            parts.append((differences * view.words_share, words_strength))
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

    def _means(self, targets: Floats, rows: Ints | slice = slice(None)) -> Floats:
        """Return the mean of *targets* on each subject by *rows*, drawn to the mean of all."""
        members = self._subjects[rows]
        sums = members.T @ targets[rows] + _MEAN_STRENGTH * targets[rows].mean(axis=0)
        return np.asarray(sums / (members.sum(axis=0)[:, None] + _MEAN_STRENGTH))

    def _left_out_by_subject(self, targets: Floats) -> Floats:
        """Return what the guessed subjects say of each row, by means without the row's fold."""
        told = np.empty_like(targets)
        for fold in np.unique(self._folds):
            mine = self._folds == fold
            told[mine] = self._shares[mine] @ self._means(targets, np.flatnonzero(~mine))
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
