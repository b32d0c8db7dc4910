"""The policy of a job: fit to be followed, and the models it wants for each row."""

from pathlib import Path

import polars as pl

from pipeline.agreement import Cascade
from pipeline.catalogue import Catalogue
from pipeline.errors import JobError
from pipeline.plan.further import Further
from pipeline.policy import Arm, Policy, choose_arms, load_policy
from pipeline.spec import Job


class Learned:
    """The policy that a job names; without one it wants nothing.

    Raises:
        JobError: when it can't be read, asks models that the catalogue lacks, compares answers that the job does not
            say how to compare, or was not learned to keep what the job promises.
    """

    def __init__(self, job: Job, catalogue: Catalogue) -> None:
        spec = job.route
        self._policy = None if spec.policy is None else load_policy(Path(spec.policy))
        self._agree = _agree(job)
        if self._policy is not None:
            problems = [f"route.policy: {spec.policy}: {one}" for one in self._problems(self._policy, job, catalogue)]
            if problems:
                raise JobError(*problems)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that may be wanted."""
        arms = () if self._policy is None else self._policy.arms
        return tuple(dict.fromkeys(model for arm in arms for model in arm.models))

    @property
    def further(self) -> Further:
        """Return which share of the rows of each cascade goes to each of its further models, as it was learned."""
        if self._policy is None:
            return {}
        asked = self._policy.provenance.get("asked", {})
        return {
            (arm.models[0], self._cascade(arm) or ""): tuple(
                zip(arm.models[1:], asked.get(arm.name, [1.0] * len(arm.models))[1:], strict=True)
            )
            for arm in self._policy.arms
            if arm.is_cascade
        }

    def wanted(self, texts: pl.Series) -> pl.DataFrame | None:
        """Return for each of *texts* the model wanted and the cascade it begins, if any; None without a policy."""
        if self._policy is None:
            return None
        chosen = choose_arms(self._policy, texts).arm
        arms = pl.DataFrame(
            {
                "wanted_model": [arm.models[0] for arm in self._policy.arms],
                "wanted_cascade": [self._cascade(arm) for arm in self._policy.arms],
            },
            schema={"wanted_model": pl.String, "wanted_cascade": pl.String},
        )
        return arms[chosen]

    def _cascade(self, arm: Arm) -> str | None:
        return Cascade(arm.models[1:], self._agree or "").text if arm.is_cascade else None

    def _problems(self, policy: Policy, job: Job, catalogue: Catalogue) -> list[str]:
        problems = []
        if self._agree is None and any(arm.is_cascade for arm in policy.arms):
            problems.append(
                "it compares the answers of several models: say with route.agree what of an answer is compared "
                "(choice, number, normalised, exact), or give output.choices or output.schema"
            )
        unknown = sorted({model for arm in policy.arms for model in arm.models} - set(catalogue.models))
        if unknown:
            problems.append(f"it asks models that are not known: {', '.join(unknown)}; describe them in [models.NAME]")
        kept, asked = policy.promise, job.route.promise
        if asked is not None and (
            kept.reference != asked.reference or kept.quality < asked.quality or kept.confidence < asked.confidence
        ):
            problems.append(
                f"it was learned to keep {kept.quality:g} of {kept.reference} at confidence {kept.confidence:g}, not "
                f"{asked.quality:g} of {asked.reference} at {asked.confidence:g} as [route.promise] says: fit it anew"
            )
        return problems


def _agree(job: Job) -> str | None:
    """Return how answers are compared: as the job says, else by their closed form, else not at all."""
    if job.route.agree is not None:
        return job.route.agree
    if job.output.choices:
        return "exact"
    return None if job.output.answer_schema is None else "json"
