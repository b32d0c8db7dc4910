"""Intervals and verdicts: 95%, two-sided, paired by row. Formulas and their sources are in docs/quality-method.md."""

import math
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MARGIN = 0.01  # of quality, 0 to 1: how much worse is still "not worse"
RESAMPLES = 2_000
_Z = 1.959963984540054  # 97.5% point of the normal distribution
_LEVELS = (0.975, 0.025)
_FEW = 10  # rows that must differ from the rest before a resample says more than a coin would
_FEWEST = 40  # rows that an interval of a saving takes: costs are skewed
_LEAST_ERROR = 0.25  # of a resample, as a share of the error seen
_MANY = 2_000  # rows from which the normal interval is as good as a resample


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float


class Verdict(StrEnum):
    """What may be said of quality against the baseline's."""

    BETTER = "better"
    NOT_WORSE = "not worse"  # non-inferior within MARGIN
    WORSE = "worse"
    TOO_FEW = "too few rows to say"


class SavingVerdict(StrEnum):
    """What may be said of cost against the baseline's."""

    CHEAPER = "cheaper"
    NONE = "no significant saving"
    DEARER = "dearer"
    TOO_FEW = "too few rows to say"


def verdict(delta: Interval) -> Verdict:
    """Judge a difference in quality by its interval, non-inferiority by its lower end."""
    if delta.low > 0:
        return Verdict.BETTER
    if delta.low > -MARGIN:
        return Verdict.NOT_WORSE
    return Verdict.WORSE if delta.high < 0 else Verdict.TOO_FEW


def saving_verdict(saving: Interval | None) -> SavingVerdict:
    """Judge a saving by its interval; None is none that could be had."""
    if saving is None:
        return SavingVerdict.TOO_FEW
    if saving.low > 0:
        return SavingVerdict.CHEAPER
    return SavingVerdict.DEARER if saving.high < 0 else SavingVerdict.NONE


def of_mean(scores: Floats, weights: Floats | None = None) -> Interval:
    """Return the interval of the mean of *scores*, each 0 to 1, at least one; of the weighted mean with *weights*.

    Wilson's for a proportion, and for scores nearly all alike, where it is conservative: no score between 0 and 1
    varies more than a coin of the same mean. A resample otherwise.
    """
    weights = np.ones_like(scores) if weights is None else weights
    if _is_coin(scores, (0.0, 1.0)):
        n = effective_size(weights)
        return wilson(n * math.fsum(scores * weights) / math.fsum(weights), n)
    return _within(of_ratio(scores * weights, weights), 0.0, 1.0)


def of_difference(differences: Floats, weights: Floats | None = None) -> Interval:
    """Return the interval of the mean of paired *differences*, each -1 to 1, at least one; weighted with *weights*.

    Tango's for differences of proportions, and for differences nearly all alike; a resample otherwise.
    """
    weights = np.ones_like(differences) if weights is None else weights
    if _is_coin(differences, (-1.0, 0.0, 1.0)):
        n = effective_size(weights)
        shares = weights * (n / math.fsum(weights))
        gained, lost = np.maximum(differences, 0.0), np.maximum(-differences, 0.0)
        return tango(math.fsum(gained * shares), math.fsum(lost * shares), n)
    return _within(of_ratio(differences * weights, weights), -1.0, 1.0)


def effective_size(weights: Floats) -> float:
    """Return how many rows of equal weight say as much as rows of these *weights* (Kish 1965, 8.2)."""
    return math.fsum(weights) ** 2 / math.fsum(weights * weights)


def widened(interval: Interval, centre: float, error: float) -> Interval:
    """Return *interval* about *centre* with a further, independent standard *error*."""
    low, high = centre - interval.low, interval.high - centre
    return Interval(centre - math.hypot(low, _Z * error), centre + math.hypot(high, _Z * error))


def of_saving(costs: Floats, baseline_costs: Floats) -> Interval | None:
    """Return the interval of 1 - sum of *costs* / sum of *baseline_costs*.

    Each row has a cost or a baseline cost. None for fewer than forty rows, which say too little, and for a free
    baseline, on which nothing can be saved.
    """
    if len(costs) < _FEWEST or not baseline_costs.any():
        return None
    ratio = of_ratio(costs, baseline_costs)
    if len(costs) > _MANY:
        return Interval(1 - ratio.high, 1 - ratio.low)
    # The ratio is a weighted mean of the rows' ratios, so it lies between them.
    with np.errstate(divide="ignore"):
        ratios = costs / baseline_costs
    low, high = _within(ratio, float(ratios.min()), float(ratios.max()))
    return Interval(1 - high, 1 - low)


def _is_coin(values: Floats, faces: tuple[float, ...]) -> bool:
    if np.isin(values, faces).all():
        return True
    _, counts = np.unique(values, return_counts=True)
    return len(values) - int(counts.max()) < _FEW


def _within(interval: Interval, lowest: float, highest: float) -> Interval:
    return Interval(max(interval.low, lowest), min(interval.high, highest))


def wilson(successes: float, n: float) -> Interval:
    """Return Wilson's score interval of *successes* in *n* (Wilson 1927); *successes* may be a sum of shares."""
    share, spread = successes / n, _Z * _Z / n
    centre = share + spread / 2
    half = _Z * np.sqrt(max(share * (1 - share), 0.0) / n + spread / (4 * n))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return Interval(float(min(max(low, 0.0), share)), float(max(min(high, 1.0), share)))


def tango(gained: float, lost: float, n: float) -> Interval:
    """Return the score interval of (*gained* - *lost*) / *n* in *n* pairs (Tango 1998)."""

    def distance(delta: float) -> float:
        """Return how many standard errors the data lie above *delta*, at the likeliest loss rate given *delta*."""
        linear = (2 * n - gained + lost) * delta - gained - lost
        constant = -lost * delta * (1 - delta)
        loss = (np.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * loss + delta * (1 - delta))
        above = gained - lost - n * delta
        return float(above / np.sqrt(variance)) if variance > 0 else float(np.copysign(np.inf, above))

    centre = (gained - lost) / n
    return Interval(
        _bisect(lambda delta: distance(delta) > _Z, -1.0, centre),
        _bisect(lambda delta: distance(delta) > -_Z, centre, 1.0),
    )


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return where *holds* turns from true to false, which it does at most once between *low* and *high*."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def of_ratio(numerators: Floats, denominators: Floats) -> Interval:
    """Return the interval of sum / sum over rows: a bootstrap-t, or the normal interval for more than 2,000 rows.

    It contains the ratio itself, and depends on the rows but not on their order.
    """
    ratio, error = _ratio_and_error(numerators, denominators)
    if error <= abs(ratio) * 1e-12:  # rounding alone
        return Interval(ratio, ratio)
    upper, lower = (_Z, -_Z) if len(numerators) > _MANY else _studentised(numerators, denominators)
    return Interval(min(ratio - upper * error, ratio), max(ratio - lower * error, ratio))


def _ratio_and_error(numerators: Floats, denominators: Floats) -> tuple[float, float]:
    """Return sum / sum over rows and its standard error, by linearisation (Cochran 1977, 6.4)."""
    total = math.fsum(denominators)
    ratio = math.fsum(numerators) / total
    squares = denominators * -ratio
    squares += numerators
    squares *= squares  # in place: there may be a million rows
    return ratio, math.sqrt(math.fsum(squares)) / total


def _studentised(numerators: Floats, denominators: Floats) -> tuple[float, float]:
    """Return the upper and lower quantile of (resampled ratio - ratio) / its error (Efron and Tibshirani 1993).

    Neither is nearer than Student's.
    """
    order = np.lexsort((denominators, numerators))
    top, bottom = numerators[order], denominators[order]
    ratio, error = _ratio_and_error(top, bottom)
    sums = _resamples(len(top)) @ np.stack([top, bottom, top * top, top * bottom, bottom * bottom], axis=1)
    tops, bottoms, squares, products, bottom_squares = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = tops / bottoms
        errors = np.sqrt(np.maximum(squares - 2 * ratios * products + ratios**2 * bottom_squares, 0.0)) / bottoms
        # A resample of rows all alike has no error of its own, and dividing by it would make the interval endless.
        distances = (ratios - ratio) / np.maximum(errors, _LEAST_ERROR * error)
    upper, lower = np.quantile(distances[np.isfinite(distances)], _LEVELS)
    # Where many rows are equal, a resample's own error varies so much that its distances come out too short.
    student = student_t(len(top) - 1)
    return max(float(upper), student), min(float(lower), -student)


def student_t(freedom: int) -> float:
    """Return the 97.5% point of Student's t, to 0.001 from 9 degrees of *freedom* on (Abramowitz, Stegun 26.7.5)."""
    z = _Z
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


@lru_cache(maxsize=2)
def _resamples(n: int) -> Floats:
    """Return how often each of *n* rows is drawn in each resample; the seed is fixed, so a night has one report."""
    random = np.random.default_rng(20_261_124)
    counts = np.empty((RESAMPLES, n))
    for resample in counts:
        resample[:] = np.bincount(random.integers(n, size=n), minlength=n)
    return counts
