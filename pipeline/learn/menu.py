"""Which arms are worth choosing among: those on the upper hull of mean score over mean cost."""

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np

from pipeline.policy.arms import Arm, Played, Recorded, play
from pipeline.policy.features import Floats, Ints

_MOST = 10  # arms of a menu: each further one is one more guess that may be wrong


class Candidates(NamedTuple):
    """Every arm that could be played, with what it made of each row (row x arm)."""

    arms: tuple[Arm, ...]
    scores: Floats
    costs: Floats


def candidates(recorded: Recorded, *, cascades: bool) -> Candidates:
    """Return every single model and, where there are answers to compare, every cascade of two or three steps."""
    arms = [Arm((model,)) for model in recorded.models]
    if cascades and recorded.answers is not None:
        arms += _cascades(recorded)
    played: list[Played] = [play(arm, recorded) for arm in arms]
    return Candidates(
        tuple(arms),
        np.stack([one.scores for one in played], axis=1),
        np.stack([one.costs for one in played], axis=1),
    )


def _cascades(recorded: Recorded) -> list[Arm]:
    """Return the cascades: two models, the better first, then one or two dearer than either."""
    means, costs = recorded.scores.mean(axis=0), recorded.costs.mean(axis=0)
    models = range(len(recorded.models))
    found: list[tuple[int, ...]] = []
    for pair in combinations(models, 2):
        better, other = sorted(pair, key=lambda model: (-means[model], costs[model]))
        dearer = [model for model in models if model not in pair and means[model] > means[better]]
        for last in dearer:
            found.append((better, other, last))
            found += [
                (better, other, middle, last) for middle in dearer if middle != last and costs[middle] < costs[last]
            ]
        # The dear model may be one of the pair as well: where a cheap one confirms it, the third is spared.
        found += [(better, other, last) for last in models if last not in pair and means[last] > means[other]]
    return [Arm(tuple(recorded.models[model] for model in arm)) for arm in dict.fromkeys(found)]


def shares_asked(arms: Iterable[Arm], recorded: Recorded) -> dict[str, list[float]]:
    """Return, by the name of each cascade, which share of the rows each of its models is asked."""
    return {
        arm.name: [float((played.calls > place).mean()) for place in range(len(arm.models))]
        for arm in arms
        if arm.is_cascade and (played := play(arm, recorded))
    }


def choose_menu(known: Candidates, rows: Ints, reference: str) -> list[int]:
    """Return which of the arms to choose among, judged by *rows* only, in order of mean cost.

    The hull of all arms, the hull of the single models, and the reference; the least useful of them go first when
    they are too many.
    """
    scores, costs = known.scores[rows].mean(axis=0), known.costs[rows].mean(axis=0)
    singles = [place for place, arm in enumerate(known.arms) if not arm.is_cascade]
    menu = set(upper_hull(scores, costs, range(len(known.arms))))
    own = next(place for place in singles if known.arms[place].models == (reference,))
    for place in [own, *reversed(upper_hull(scores, costs, singles))]:
        if len(menu) < _MOST or place == own:
            menu.add(place)
    return sorted(menu, key=lambda place: costs[place])


def upper_hull(scores: Floats, costs: Floats, places: Iterable[int]) -> list[int]:
    """Return the *places* on the rising concave hull of score over cost, from cheap to dear."""
    order = sorted(places, key=lambda place: (costs[place], -scores[place]))
    hull: list[int] = []
    for place in order:
        if hull and scores[place] <= scores[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(scores, costs, hull[-2], hull[-1]) <= _slope(scores, costs, hull[-2], place):
            hull.pop()
        hull.append(place)
    return hull


def _slope(scores: Floats, costs: Floats, left: int, right: int) -> float:
    rise, run = scores[right] - scores[left], costs[right] - costs[left]
    return float(rise / run) if run > 0 else float("inf")
