"""The patterns in which arms succeed and fail, a second view of a text beside its subject."""

from typing import NamedTuple

import numpy as np

from pipeline.learn.design import Ridge
from pipeline.policy.features import Floats
from pipeline.policy.model import softmax

_MOST = 24  # patterns, the most frequent; other rows count to the nearest of them
_STEP = 0.25  # scores are rounded to it before they are compared
# The first ones hold unless others are clearly better: picking the least error outright follows chance.
_STRENGTHS = (10.0, 3.0, 30.0)
_SHARPNESSES = (3.0, 1.0, 2.0, 4.0, 6.0)
_CLEARLY = 1.0  # standard errors of the gain
_MOST_WORTH = 1.5


class Patterns(NamedTuple):
    """Which pattern each row shows, and how far each arm is above or below the row's mean on a pattern."""

    members: Floats  # row x pattern, a 1 in each row
    centres: Floats  # pattern x arm

    @classmethod
    def of(cls, scores: Floats) -> "Patterns":
        """Find the patterns in the *scores* of the arms (row x arm)."""
        rounded = np.round(scores / _STEP) * _STEP
        shapes, own, times = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
        kept = np.sort(np.argsort(-times, kind="stable")[:_MOST])
        distances = ((shapes[:, None, :] - shapes[None, kept, :]) ** 2).sum(axis=2)
        members = np.eye(len(kept))[distances.argmin(axis=1)[own.reshape(-1)]]
        differences = scores - scores.mean(axis=1, keepdims=True)
        return cls(members, (members.T @ differences) / members.sum(axis=0)[:, None])


class View(NamedTuple):
    """What is told of the arms' differences: the mean of what pattern and subject (else: words) are worth."""

    strength: float  # of the ridge that guesses the pattern
    sharpness: float  # of the softmax over patterns
    subject_share: float
    pattern_share: float
    words_share: float
    constant: Floats  # of each arm
    left_out: Floats  # row x arm
    errors: Floats  # squared, of each row

    @classmethod
    def of(
        cls, differences: Floats, told: tuple[Floats, Floats, Floats], *, strength: float, sharpness: float
    ) -> "View":
        """Weigh what was *told* of rows left out by subject, pattern and words against *differences* (row x arm)."""
        target = differences - differences.mean(axis=0)
        worths = [_worth(one - one.mean(axis=0), target) for one in told]
        if worths[0] > 0:
            worths[2] = 0.0  # a third view beside these two only adds its noise
        views = max(1, sum(worth > 0 for worth in worths))
        shares = [worth / views for worth in worths]
        together = sum((share * one for share, one in zip(shares, told, strict=True)), np.zeros_like(differences))
        constant = (differences - together).mean(axis=0)
        errors = ((differences - together - constant) ** 2).sum(axis=1)
        return cls(strength, sharpness, shares[0], shares[1], shares[2], constant, together + constant, errors)


def best_view(patterns: Patterns, ridge: Ridge, differences: Floats, by_subject: Floats, by_words: Floats) -> View:
    """Return the view that tells most of *differences* on rows left out of *ridge*; if in doubt, the usual one."""
    views = []
    for strength in _STRENGTHS:
        guessed = ridge.left_out(patterns.members, strength)
        for sharpness in _SHARPNESSES:
            by_pattern = softmax(guessed * sharpness) @ patterns.centres
            told = by_subject, by_pattern, by_words
            views.append(View.of(differences, told, strength=strength, sharpness=sharpness))
    best = min(views, key=lambda view: float(view.errors.sum()))
    gain = views[0].errors - best.errors
    return best if gain.mean() > _CLEARLY * gain.std() / np.sqrt(len(gain)) else views[0]


def _worth(view: Floats, target: Floats) -> float:
    """Return the factor, at most 1.5, with which *view* has the least squared error; 0 where it tells nothing."""
    own = float((view * view).sum())
    return min(_MOST_WORTH, max(0.0, float((view * target).sum()) / own)) if own > 1e-12 else 0.0
