"""What is said of a policy and of a replay, as plain text."""

from typing import Any

from pipeline.policy import Policy


def policy_text(policy: Policy) -> str:
    """Return what *policy* does, what it promises, and what it was learned from."""
    promise, made = policy.promise, policy.provenance
    nights = f"a night of {promise.night_rows} rows" if promise.night_rows else "the mean of all nights"
    aim = f"{promise.quality:.1%} of {promise.reference}'s quality, for {nights} like those learned from"
    if promise.kept:
        kept = f"promise: at least {aim}, with confidence {promise.confidence:.0%}"
    else:
        kept = f"no cheaper way keeps {aim}, with confidence {promise.confidence:.0%}"
    ratio = promise.expected_quality / promise.reference_quality if promise.reference_quality else 1.0
    saving = _percent(_saving(promise.expected_cost, promise.reference_cost))
    fixed = f"every row: {policy.fixed} ({made['why']})"
    lines = [
        kept,
        f"on rows not seen: quality {promise.expected_quality:.4f}, {ratio:.1%} of the reference's; saving {saving}",
        "arms: " + "; ".join(arm.name for arm in policy.arms) if policy.fixed is None else fixed,
        f"learned from {made['rows']} prompts, seed {made['seed']}, data {made['data'][:12]}, cost in {made['unit']}",
    ]
    return "\n".join(lines)


def replay_text(result: dict[str, Any]) -> str:
    """Return a replay as a table: the policy, and what it is measured against."""
    reference = result["reference"]
    lines = [("", "quality", f"of {reference}", f"cost {result['unit']}", "saving")]
    rows: list[tuple[str, Any, Any]] = [
        ("policy", result["quality"], result["cost_usd"]),
        (f"reference {reference}", result["reference_quality"], result["reference_cost_usd"]),
    ]
    for name, one in result["beside"].items():
        if one is not None and name != "models":
            told = name.replace("_", " ") + (f" ({one['model']})" if "model" in one else "")
            rows.append((told, one["quality"], one["cost_usd"]))
    for name, quality, cost in rows:
        share = quality / result["reference_quality"] if result["reference_quality"] else None
        saving = _saving(cost, result["reference_cost_usd"])
        lines.append((name, f"{quality:.4f}", _percent(share), f"{cost:.6g}", _percent(saving)))
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.append(f"AIQ {result['aiq']:.4f} (single-model mix {result['aiq_single_model_mix']:.4f})")
    if result["pair"]:
        text.append(
            f"{result['pair']}: APGR {result['apgr']:.3f}, CPT50 {result['cpt50']:.1%}, CPT80 {result['cpt80']:.1%}"
        )
    text.append(f"promised quality {result['promised_quality']:.4f}: {'held' if result['promise_held'] else 'missed'}")
    return "\n".join(text)


def _saving(cost: float, reference_cost: float) -> float | None:
    return 1 - cost / reference_cost if reference_cost else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
