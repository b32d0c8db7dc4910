"""Whether a night kept what its policy promises, on the rows that the policy decided."""

from typing import Any

import pyarrow as pa

from pipeline.spec import Promise

POLICY_SCOPE = "policy"


def check_promise(comparison: pa.Table, promise: Promise) -> dict[str, Any]:
    """Return what was promised and what was reached, as shares of the reference's quality on the same rows.

    `held` is None where it can't be told: no row of the policy has both its own score and one of the reference.
    """
    lines = [line for line in comparison.to_pylist() if line["scope"] == POLICY_SCOPE]
    routed, baseline = (next((line for line in lines if line["arm"] == arm), None) for arm in ("routed", "baseline"))
    told: dict[str, Any] = {**promise.model_dump(), "rows": routed["rows"] if routed else 0, "paired": 0, "held": None}
    if routed is None or baseline is None or not routed["paired"]:
        return told | {"why": "no row that the policy decided has a score of its own and one of the reference"}
    if baseline["model"] != promise.reference:
        return told | {"why": f"the baseline of these rows is {baseline['model']}, not {promise.reference}"}
    quality = baseline["quality"]
    if not quality:
        return told | {"why": "the reference scored nothing on these rows"}
    shares = {
        name: 1 + routed[delta] / quality
        for name, delta in (("reached", "delta"), ("reached_low", "delta_low"), ("reached_high", "delta_high"))
    }
    held = shares["reached"] >= promise.quality
    return told | {"paired": routed["paired"], "held": held, **shares, "saving": routed["saving"]}
