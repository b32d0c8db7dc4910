"""Play a policy against recorded outcomes, every call charged, beside what needs no policy."""

from typing import Any

import numpy as np

from pipeline.errors import JobError
from pipeline.learn.metrics import aiq, mix_score, pair
from pipeline.learn.outcomes import Table
from pipeline.policy.arms import Arm, play
from pipeline.policy.deciding import choose_arms
from pipeline.policy.features import Floats
from pipeline.policy.file import Policy

_SWEEP = 100


def replay(policy: Policy, table: Table) -> dict[str, Any]:
    """Return what *policy* would have come to on *table*: totals, and the same for what it is measured against.

    Raises:
        JobError: when a model of the policy was not recorded, or answers that its cascades compare.
    """
    _check(policy, table)
    recorded = table.recorded
    arms = [play(arm, recorded) for arm in policy.arms]
    scores, costs, calls = (
        np.stack([getattr(arm, name) for arm in arms], axis=1) for name in ("scores", "costs", "calls")
    )
    choice = choose_arms(policy, table.texts)
    rows = np.arange(table.rows)
    reference = play(Arm((policy.promise.reference,)), recorded)
    score, cost = scores[rows, choice.arm], costs[rows, choice.arm]
    quality, reference_quality = float(score.mean()), float(reference.scores.mean())
    singles = recorded.scores.mean(axis=0), recorded.costs.mean(axis=0)
    result = {
        "rows": table.rows,
        "left_out": table.left_out,
        "unit": table.unit,
        "quality": quality,
        "reference": policy.promise.reference,
        "reference_quality": reference_quality,
        "quality_ratio": quality / reference_quality if reference_quality else None,
        "cost_usd": float(cost.sum()),
        "reference_cost_usd": float(reference.costs.sum()),
        "saving": _saving(float(cost.sum()), float(reference.costs.sum())),
        "promised_quality": policy.promise.quality * reference_quality,
        "promise_held": bool(quality >= policy.promise.quality * reference_quality - 1e-12),
        "calls": int(calls[rows, choice.arm].sum()),
        "capped": int(choice.capped.sum()),
        "arms": {arm.name: int((choice.arm == place).sum()) for place, arm in enumerate(policy.arms)},
        "beside": _beside(table, float(cost.mean()), singles),
    }
    return result | _curve(policy, table, (scores, costs), singles)


def _check(policy: Policy, table: Table) -> None:
    wanted = {policy.promise.reference, *(model for arm in policy.arms for model in arm.models)}
    missing = sorted(wanted - set(table.recorded.models))
    if missing:
        raise JobError(f"the policy asks models that the outcomes lack: {', '.join(missing)}")
    if table.recorded.answers is None and any(arm.is_cascade for arm in policy.arms):
        raise JobError("the policy compares answers: name their column with --answer-column")


def _beside(table: Table, cost: float, singles: tuple[Floats, Floats]) -> dict[str, Any]:
    """Return random choice, the mixture of single models at the policy's cost, the best single model, the oracle."""
    scores, costs = singles
    recorded = table.recorded
    within = [place for place in range(len(recorded.models)) if costs[place] <= cost * (1 + 1e-9)]
    best, overall = max(within, key=lambda place: scores[place], default=None), int(np.argmax(scores))
    oracle = np.lexsort((recorded.costs, -recorded.scores), axis=1)[:, 0] if table.rows else np.empty(0, np.int64)
    rows = np.arange(table.rows)
    named = {model: {"quality": float(scores[at]), "cost_usd": float(costs[at] * table.rows)}
             for at, model in enumerate(recorded.models)}  # fmt: skip
    return {
        "random": {"quality": float(scores.mean()), "cost_usd": float(costs.mean() * table.rows)},
        "single_model_mix_at_its_cost": {"quality": mix_score(costs, scores, cost), "cost_usd": cost * table.rows},
        "best_single_at_its_cost": None
        if best is None
        else {"model": recorded.models[best], **named[recorded.models[best]]},
        "best_single": {"model": recorded.models[overall], **named[recorded.models[overall]]},
        "oracle": {
            "quality": float(recorded.scores[rows, oracle].mean()),
            "cost_usd": float(recorded.costs[rows, oracle].sum()),
        },
        "models": named,
    }


def _curve(
    policy: Policy, table: Table, played: tuple[Floats, Floats], singles: tuple[Floats, Floats]
) -> dict[str, Any]:
    """Return the figures over all operating points: AIQ, and those of the pair of cheapest model and reference."""
    scores, costs = played
    expected = policy.predictor.expect(table.texts)
    rows = np.arange(table.rows)
    dearest = float(costs.mean(axis=0).max()) or 1.0
    points = []
    for price in [0.0, *(np.geomspace(1e-3, 10.0, _SWEEP) / dearest)]:
        arm = np.argmax(expected.scores - price * expected.costs, axis=1)
        points.append((costs[rows, arm].mean(), scores[rows, arm].mean()))
    swept = np.array(points)
    single_scores, single_costs = singles
    span = {"cheapest": float(single_costs.min()), "dearest": float(single_costs.max())}
    figures: dict[str, Any] = {
        "aiq": aiq(swept[:, 0], swept[:, 1], **span),
        "aiq_single_model_mix": aiq(single_costs, single_scores, **span),
    }
    return figures | _pair_figures(policy, table, expected.scores)


def _pair_figures(policy: Policy, table: Table, expected: Floats) -> dict[str, Any]:
    """Return APGR, CPT50 and CPT80 of the cheapest single model of the policy against its reference."""
    singles = {arm.models[0]: place for place, arm in enumerate(policy.arms) if not arm.is_cascade}
    reference = policy.promise.reference
    weak = next((model for model in singles if model != reference), None)
    figures = None
    if weak is not None and reference in singles:
        columns = table.recorded.models
        figures = pair(
            expected[:, singles[reference]] - expected[:, singles[weak]],
            table.recorded.scores[:, columns.index(weak)],
            table.recorded.scores[:, columns.index(reference)],
        )
    empty = {"apgr": None, "cpt50": None, "cpt80": None, "pair": None}
    return empty if figures is None else figures._asdict() | {"pair": f"{weak} > {reference}"}


def _saving(cost: float, reference_cost: float) -> float | None:
    return 1 - cost / reference_cost if reference_cost else None
