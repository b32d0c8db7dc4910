"""The policy of a job: fit to be followed, and the model it wants for each row."""

from pathlib import Path

import polars as pl

from pipeline.catalogue import Catalogue
from pipeline.errors import JobError
from pipeline.policy import Policy, decide, load_policy
from pipeline.spec import Route


class Learned:
    """The policy that a job names; without one it wants nothing.

    Raises:
        JobError: when it can't be read, asks models that the catalogue lacks or more than one for a row, or was not
            learned to keep what the job promises.
    """

    def __init__(self, spec: Route, catalogue: Catalogue) -> None:
        self._policy = None if spec.policy is None else load_policy(Path(spec.policy))
        if self._policy is not None:
            problems = [f"route.policy: {spec.policy}: {one}" for one in _problems(self._policy, spec, catalogue)]
            if problems:
                raise JobError(*problems)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that may be wanted."""
        arms = () if self._policy is None else self._policy.arms
        return tuple(dict.fromkeys(model for arm in arms for model in arm.models))

    def wanted(self, texts: pl.Series) -> pl.Series | None:
        """Return the model wanted for each of *texts*, None without a policy."""
        if self._policy is None:
            return None
        return decide(self._policy, texts)["model"].alias("wanted_model")


def _problems(policy: Policy, spec: Route, catalogue: Catalogue) -> list[str]:
    problems = []
    if any(arm.is_cascade for arm in policy.arms):
        problems.append(
            "it asks several models a row and compares their answers; a job needs one of `fit --no-cascades`"
        )
    unknown = sorted({model for arm in policy.arms for model in arm.models} - set(catalogue.models))
    if unknown:
        problems.append(f"it asks models that are not known: {', '.join(unknown)}; describe them in [models.NAME]")
    kept, asked = policy.promise, spec.promise
    if asked is not None and (
        kept.reference != asked.reference or kept.quality < asked.quality or kept.confidence < asked.confidence
    ):
        problems.append(
            f"it was learned to keep {kept.quality:g} of {kept.reference} at confidence {kept.confidence:g}, not "
            f"{asked.quality:g} of {asked.reference} at {asked.confidence:g} as [route.promise] says: fit it anew"
        )
    return problems
