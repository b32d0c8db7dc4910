"""The operating point: the cheapest price of money at which the promised quality still holds on rows not seen.

The cheapest point that merely passed would miss its aim in two of three trials (winner's curse). So the points are
tested in a fixed order, from the dearest to the cheapest, each by a one-sided test at the full level, and the first
that fails ends the testing: the chance that any of the passed points is a false one is at most 1 - confidence
(fixed-sequence testing; Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, "Learn then Test").
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pipeline.policy.features import Floats

_STEPS = 60
FEWEST = 50  # rows, below which nothing is promised of anything but the reference itself


class Aim(NamedTuple):
    """What is promised: mean score at least `quality` times the reference's, on a night of `night_rows` rows."""

    reference: str
    quality: float
    confidence: float
    night_rows: int  # 0: of the mean over endless nights


class Point(NamedTuple):
    """One operating point on the rows that were not seen: what it costs, and how sure its quality is."""

    price: float  # score that must be gained for a unit of cost
    quality: float  # mean score
    cost: float  # mean cost
    bound: float  # lower confidence bound of mean(score - quality x reference's score)


def prices(costs: Floats) -> Floats:
    """Return the prices of money to try, from 0, where quality alone counts, to where cost alone does."""
    dearest = float(costs.mean(axis=0).max())
    if dearest <= 0:
        return np.zeros(1)
    return np.concatenate([[0.0], np.geomspace(1e-3, 3.0, _STEPS) / dearest])


def lower_bound(differences: Floats, *, confidence: float, night_rows: int) -> float:
    """Return the one-sided lower bound of the mean of paired *differences*.

    The bound is of the mean of *night_rows* further rows, or of all rows to come where that is 0: normal, with two
    further differences of 1 and -1 in the variance, so that a few rows that happen to agree do not count as certainty
    (after Agresti and Min 2005).
    """
    n = len(differences)
    if not differences.any():
        return 0.0
    mean = float(differences.mean())
    squares = float(((differences - mean) ** 2).sum()) + (1 - mean) ** 2 + (1 + mean) ** 2
    variance = squares / (n + 2)
    share = 1 / n + (1 / night_rows if night_rows else 0.0)
    return mean - NormalDist().inv_cdf(confidence) * float(np.sqrt(variance * share))


def sweep(chosen: list[tuple[float, Floats, Floats]], reference: Floats, aim: Aim) -> list[Point]:
    """Return the points of *chosen*: price, and score and cost of each row at that price."""
    return [
        Point(
            price,
            float(scores.mean()),
            float(costs.mean()),
            lower_bound(scores - aim.quality * reference, confidence=aim.confidence, night_rows=aim.night_rows),
        )
        for price, scores, costs in chosen
    ]


def cheapest_kept(points: list[Point]) -> Point | None:
    """Return the cheapest of the points passed before the first failure, None when the first one fails already."""
    passed: list[Point] = []
    for point in points:
        if point.bound < 0:
            break
        passed.append(point)
    return min(passed, key=lambda point: point.cost, default=None)
