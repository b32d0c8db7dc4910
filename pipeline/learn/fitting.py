"""From outcomes to a policy: menu, predictor, operating point, and the promise that goes with it."""

from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import JobError
from pipeline.learn.learner import Learned, Learner
from pipeline.learn.menu import Candidates, candidates, choose_menu, shares_asked
from pipeline.learn.outcomes import Table
from pipeline.learn.promise import FEWEST, Aim, Point, cheapest_kept, lower_bound, prices, sweep
from pipeline.policy.arms import Arm, Played, play
from pipeline.policy.deciding import choose
from pipeline.policy.features import Floats, Ints
from pipeline.policy.file import Policy, Promise

_FOLDS = 10
_LEAST_SAVING = 0.001  # below it there is nothing to promise
_UPGRADE_ROOM = 2.0  # times the share of upgraded rows among those learned from


class Tried(NamedTuple):
    """What the rows would have come to at each price, each decided by what was learned without it (price x row)."""

    prices: Floats
    scores: Floats
    costs: Floats
    arms: Ints  # positions in the candidates


class Fitted(NamedTuple):
    """A policy, and the points its operating point was chosen from."""

    policy: Policy
    points: list[Point]


def fit(table: Table, aim: Aim, *, cascades: bool = True, seed: int = 0, provenance: dict[str, Any]) -> Fitted:
    """Learn a policy from *table* that keeps *aim*. Equal tables, aims and seeds give equal policies.

    Raises:
        JobError: for fewer than ten rows, of which nothing can be learned.
    """
    if table.rows < 10:
        raise JobError(f"{table.rows} prompts have an outcome of every model; 10 are the fewest to learn from")
    rng = np.random.default_rng(seed)
    known = candidates(table.recorded, cascades=cascades)
    folds = rng.permutation(table.rows) % _FOLDS
    learner = Learner(table, folds, rng)
    menu = choose_menu(known, np.arange(table.rows), aim.reference)
    learned = learner.learn(known, menu)
    tried = _try(known, learner, aim.reference, folds)
    own = play(Arm((aim.reference,)), table.recorded)
    points = sweep(list(zip(tried.prices.tolist(), tried.scores, tried.costs, strict=True)), own.scores, aim)
    settled = _settle(known, points, own, aim)
    usual, cap = _upgrades(known, menu, tried, settled.point)
    promise = Promise(
        **aim._asdict(),
        kept=settled.fixed != aim.reference,
        expected_quality=settled.point.quality,
        reference_quality=float(own.scores.mean()),
        expected_cost=settled.point.cost,
        reference_cost=float(own.costs.mean()),
    )
    data: dict[str, Any] = {"asked": shares_asked([known.arms[place] for place in menu], table.recorded)}
    data |= {"rows": table.rows, "seed": seed, "data": table.digest, "unit": table.unit, "why": settled.why}
    policy = Policy(
        arms=tuple(known.arms[place] for place in menu),
        predictor=learned.predictor,
        price=settled.point.price,
        fixed=settled.fixed,
        usual=usual,
        upgrade_cap=cap,
        mean_costs=tuple(known.costs[:, menu].mean(axis=0).tolist()),
        promise=promise,
        provenance={**provenance, **data},
    )
    return Fitted(policy, points)


class _Settled(NamedTuple):
    point: Point
    fixed: str | None
    why: str


def _settle(known: Candidates, points: list[Point], own: Played, aim: Aim) -> _Settled:
    """Return the operating point: a single model where a mixture is no better, the reference where nothing is sure."""
    reference_cost = float(own.costs.mean())
    point = cheapest_kept(points) if len(own.scores) >= FEWEST else None
    if point is not None and point.cost >= reference_cost * (1 - _LEAST_SAVING):
        point = None
    best = _best_single(known, own, aim, point)
    if best is not None:
        return _Settled(best[0], best[1], "this model alone is as good as any mixture, at no higher cost")
    if point is not None:
        return _Settled(point, None, "the cheapest point whose quality holds on rows not seen")
    why = "nothing cheaper is sure to keep the promise: too few rows, or too little to be learned"
    return _Settled(Point(0.0, float(own.scores.mean()), reference_cost, 0.0), aim.reference, why)


def _best_single(known: Candidates, own: Played, aim: Aim, point: Point | None) -> tuple[Point, str] | None:
    """Return the single model that makes a mixture needless: no dearer, no worse, and as sure to keep the promise.

    It stands outside the order of the other tests and is tested at half their level.
    """
    most_cost, least = (float(own.costs.mean()), -1.0) if point is None else (point.cost, point.quality)
    found = None
    for place, arm in enumerate(known.arms):
        scores, cost = known.scores[:, place], float(known.costs[:, place].mean())
        if arm.is_cascade or arm.models == (aim.reference,) or cost > most_cost or scores.mean() < least:
            continue
        differences = scores - aim.quality * own.scores
        bound = lower_bound(differences, confidence=(1 + aim.confidence) / 2, night_rows=aim.night_rows)
        if bound >= 0 and len(scores) >= FEWEST and (found is None or scores.mean() > found[0].quality):
            found = Point(0.0, float(scores.mean()), cost, bound), arm.name
    return found


def _upgrades(known: Candidates, menu: list[int], tried: Tried, point: Point) -> tuple[int, float]:
    """Return the arm that most rows would get, as a position in *menu*, and how many rows may get a dearer one."""
    arms = tried.arms[int(np.flatnonzero(tried.prices == point.price)[0])]
    counts = [int((arms == place).sum()) for place in menu]
    usual = int(np.argmax(counts))
    costs = known.costs[:, menu].mean(axis=0)
    dearer = sum(count for count, cost in zip(counts, costs, strict=True) if cost > costs[usual])
    return usual, min(1.0, _UPGRADE_ROOM * dearer / len(arms))


def _try(known: Candidates, learner: Learner, reference: str, folds: Ints) -> Tried:
    """Decide every row by what was learned without it, the menu included, at every price."""
    rows = len(known.scores)
    tried_prices = prices(known.costs)
    arms = np.zeros((len(tried_prices), rows), np.int64)
    learned: dict[tuple[int, ...], Learned] = {}
    for fold in range(_FOLDS):
        mine = np.flatnonzero(folds == fold)
        menu = tuple(choose_menu(known, np.flatnonzero(folds != fold), reference))
        if menu not in learned:
            learned[menu] = learner.learn(known, list(menu))
        scores, costs = (values[mine] for values in learned[menu].left_out)
        for place, price in enumerate(tried_prices):
            arms[place, mine] = np.array(menu)[choose(scores, costs, price)]
    each = np.arange(rows)
    return Tried(tried_prices, known.scores[each, arms], known.costs[each, arms], arms)
