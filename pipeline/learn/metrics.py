"""How good a router is, whatever its operating point. Definitions are in docs/routing-policies.md."""

from typing import NamedTuple

import numpy as np

from pipeline.policy.features import Floats


class Pair(NamedTuple):
    """How a router splits rows between a weak and a strong model, in shares of strong calls, 0 to 1."""

    apgr: float  # share of the gap recovered, averaged over the share of strong calls; 0.5 is random
    cpt50: float  # share of strong calls that recovers half of the gap
    cpt80: float


def pair(gain: Floats, weak: Floats, strong: Floats) -> Pair | None:
    """Return the figures of sending the rows of highest *gain* to the strong model, at ten thresholds.

    As RouteLLM measures them (routellm/evals): thresholds at the deciles of *gain*, trapezoid over the share of strong
    calls, linear interpolation of the share that reaches a quality. None where the strong model is not better.
    """
    low, high = float(weak.mean()), float(strong.mean())
    if high <= low:
        return None
    edges = np.unique(np.quantile(gain, np.linspace(0.0, 1.0, 11)))
    masks = [gain >= edge for edge in edges[:-1]] + [gain > edges[-1]]
    shares = np.array([mask.mean() for mask in masks])[::-1]
    quality = np.array([np.where(mask, strong, weak).mean() for mask in masks])[::-1]
    area = np.trapezoid(quality, shares) if len(shares) > 1 else (low + high) / 2
    reached = np.maximum.accumulate(quality)
    cpt50, cpt80 = (float(np.interp(low + part * (high - low), reached, shares)) for part in (0.5, 0.8))
    return Pair(float((area - low) / (high - low)), cpt50, cpt80)


def hull(costs: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return cost and score of the corners of the rising concave hull, from the cheapest point on."""
    corners: list[tuple[float, float]] = []
    for cost, score in sorted(zip(costs.tolist(), scores.tolist(), strict=True), key=lambda one: (one[0], -one[1])):
        if corners and score <= corners[-1][1]:
            continue
        while len(corners) > 1 and _above(corners[-2], corners[-1], (cost, score)):
            corners.pop()
        corners.append((cost, score))
    return np.array([cost for cost, _ in corners]), np.array([score for _, score in corners])


def _above(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Tell whether the line from *left* to *right* passes over *middle*."""
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])


def aiq(costs: Floats, scores: Floats, *, cheapest: float, dearest: float) -> float:
    """Return the mean height of the hull between the costs *cheapest* and *dearest* (RouterBench's AIQ, on that range).

    The hull is held flat beyond its last corner; below its first, the first one's score counts.
    """
    at, height = hull(costs, scores)
    if dearest <= cheapest:
        return float(height[-1])
    grid = np.union1d(np.clip(at, cheapest, dearest), [cheapest, dearest])
    return float(np.trapezoid(np.interp(grid, at, height), grid) / (dearest - cheapest))


def mix_score(costs: Floats, scores: Floats, cost: float) -> float:
    """Return the score that a random mixture of the given points reaches for *cost*."""
    at, height = hull(costs, scores)
    return float(np.interp(cost, at, height))
