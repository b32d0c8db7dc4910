"""From texts to decisions: the arm of each row, what is expected of it, and the reason."""

from math import sqrt
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.policy.features import Floats, Ints
from pipeline.policy.file import Policy

DECISION_SCHEMA = {
    "model": pl.String,  # the model that is asked first
    "arm": pl.String,
    "expected_score": pl.Float64,
    "expected_cost": pl.Float64,
    "reason": pl.String,
}


class Choice(NamedTuple):
    """The arm of each row, as a position in `Policy.arms`, and what is expected of it there."""

    arm: Ints
    score: Floats
    cost: Floats
    capped: Floats  # True where the row would have got a dearer arm, had not too many asked for one


def choose(scores: Floats, costs: Floats, price: float) -> Ints:
    """Return the arm of each row: the most expected score after paying *price* for each unit of expected cost."""
    return np.asarray(np.argmax(scores - price * costs, axis=1))


def choose_arms(policy: Policy, texts: pl.Series) -> Choice:
    """Return the arm of each of *texts*.

    No text can talk a night onto a dearer model: at most a share `upgrade_cap` of the rows, and three standard errors
    of chance, gets an arm dearer than the usual one, those that gain most; the others get the best of the rest.
    """
    scores, costs = policy.predictor.expect(texts)
    rows = np.arange(len(texts))
    if policy.fixed is not None:
        place = [arm.name for arm in policy.arms].index(policy.fixed)
        arm, capped = np.full(len(texts), place), np.zeros(len(texts), dtype=bool)
    else:
        arm, capped = _capped(policy, scores - policy.price * costs)
    return Choice(arm, scores[rows, arm], costs[rows, arm], capped)


def _capped(policy: Policy, worth: Floats) -> tuple[Ints, Floats]:
    arm = np.argmax(worth, axis=1)
    dear = np.array(policy.mean_costs) > policy.mean_costs[policy.usual]
    modest = np.argmax(np.where(dear, -np.inf, worth), axis=1)
    rows = np.arange(len(arm))
    gain = np.where(dear[arm], worth[rows, arm] - worth[rows, modest], -np.inf)
    cap = policy.upgrade_cap
    most = int(cap * len(arm) + 3 * sqrt(cap * (1 - cap) * len(arm)) + 1)
    capped = np.zeros(len(arm), dtype=bool)
    capped[np.argsort(-gain, kind="stable")[most:]] = True
    capped &= dear[arm]
    return np.where(capped, modest, arm), capped


def decide(policy: Policy, texts: pl.Series) -> pl.DataFrame:
    """Return the columns of `DECISION_SCHEMA` for each of *texts*, in order."""
    choice = choose_arms(policy, texts)
    names = pl.Series("arm", [arm.name for arm in policy.arms], dtype=pl.String).gather(choice.arm)
    first = pl.Series([arm.models[0] for arm in policy.arms], dtype=pl.String).gather(choice.arm)
    why = "every row: " + str(policy.provenance["why"]) if policy.fixed is not None else "most expected for its price"
    return pl.DataFrame(
        {"model": first, "arm": names, "expected_score": choice.score, "expected_cost": choice.cost},
    ).with_columns(
        reason=pl.when(pl.Series(choice.capped, dtype=pl.Boolean)).then(pl.lit("capped: too many rows ask for more"))
        .otherwise(pl.lit(why))
    )  # fmt: skip
