"""The shadow sample: some rows are asked of their baseline too, within the same budget and through the same ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.catalogue import Catalogue
from pipeline.plan import BaselineOnly, Group, Plan, PlanOptions, draw_sample, make_plan, read_rows
from pipeline.readers import Source
from pipeline.run.outcomes import ANSWERED, answered
from pipeline.spec import Job
from pipeline.write import Answers

SAMPLED, AGAIN = "sampled", "again"


class Shadow(NamedTuple):
    """The sampled rows, by ascending number, and a plan of asking their baselines, or one for each time."""

    rows: list[int]
    plans: dict[str, Plan]  # kind of answer -> plan

    @property
    def groups(self) -> tuple[Group, ...]:
        """Return the requests that are not settled yet, a group a model, those of the first time first."""
        groups: dict[str, Group] = {}
        for model, requests, parts in (group for plan in self.plans.values() for group in plan.groups):
            before = groups.get(model, Group(model, 0, ()))
            groups[model] = Group(model, before.requests + requests, before.parts + parts)
        return tuple(groups.values())

    def models(self) -> set[str]:
        """Return the models to ask."""
        return {group.model for group in self.groups}

    def estimate(self) -> dict[str, Any] | None:
        """Return what the plan says of the sample, None without one: rows, requests still to send, their cost."""
        if not self.rows:
            return None
        totals = [plan.summary for plan in self.plans.values()]
        return {
            "rows": len(self.rows),
            "new": sum(total.total("new") + total.total("retried") for total in totals),
            "cost_usd": str(sum(total.total("cost_usd") for total in totals)),
        }


def plan_shadow(job: Job, source: Source, catalogue: Catalogue, plan: Plan, options: PlanOptions) -> Shadow:
    """Draw the sample of `[compare] shadow` from the rows of *plan*, and plan to ask it of the baselines."""
    if not job.compare.shadow:
        return Shadow([], {})
    rows = draw_sample(plan.rows_path, job.compare.shadow, job.compare.seed)
    plans = {}
    for kind in (SAMPLED, AGAIN) if job.compare.shadow_twice else (SAMPLED,):
        folder = plan.folder.with_name(f"shadow-{kind}")
        baseline = BaselineOnly(rows, again=kind == AGAIN)
        plans[kind] = make_plan(job, source, catalogue, folder, options._replace(baseline=baseline))
    return Shadow(rows, plans)


def shadow_outcomes(shadow: Shadow, answers: Answers) -> pl.DataFrame | None:
    """Return what the baselines said on the sampled rows, None without a sample."""
    lines = [line for kind, plan in shadow.plans.items() for line in _lines(kind, plan.rows_path, shadow.rows, answers)]
    return pl.DataFrame(lines, schema={**ANSWERED, "kind": pl.String}, orient="row") if shadow.plans else None


def _lines(kind: str, rows_path: Path, rows: list[int], answers: Answers) -> Iterator[tuple[Any, ...]]:
    numbers = iter(rows)
    for batch in read_rows(rows_path):
        found = answers.settled(batch["request_id"].to_pylist())
        for model, attempt in zip(batch["model"].to_pylist(), found, strict=True):
            row = next(numbers)
            if attempt is not None:
                yield (*answered(row, model, attempt), kind)
