"""What the command says of a plan and of a run, as plain text."""

import re
from typing import Any


def plan_text(planned: Any) -> str:
    """Return the plan as a table with its totals."""
    lines = [
        (
            "model",
            "provider",
            "lane",
            "rows",
            "reused",
            "new",
            "retried",
            "tokens in",
            "out",
            "cost USD",
            "low",
            "high",
            "minutes",
        )
    ]
    for group in planned.groups:
        minutes = "" if group.minutes_at_limits is None else f"{group.minutes_at_limits:.1f}"
        money = (f"{amount:.4f}" for amount in (group.cost_usd, group.cost_low_usd, group.cost_high_usd))
        counts = (group.rows, group.reused, group.new, group.retried, group.input_tokens, group.output_tokens)
        lines.append((group.model, group.provider, group.lane, *map(str, counts), *money, minutes))
    text = [table(lines)]
    text.append(
        f"{planned.rows} rows, {planned.requests} distinct requests: {planned.total('reused')} reused, "
        f"{planned.total('new')} new, {planned.total('retried')} retried; about {planned.total('cost_usd'):.4f} USD "
        f"({planned.total('cost_low_usd'):.4f} to {planned.total('cost_high_usd'):.4f}), "
        f"baseline {planned.total('baseline_cost_usd'):.4f} USD"
    )
    exact = [group.model for group in planned.groups if group.input_exact]
    if exact:
        others = "" if len(exact) == len(planned.groups) else ", and estimated for the others"
        text.append(f"tokens in are exact for {', '.join(exact)}{others}")
    if planned.shadow is not None:
        text.append(
            f"shadow sample: {planned.shadow['rows']} rows to the baseline as well, {planned.shadow['new']} requests "
            f"to send, about {float(planned.shadow['cost_usd']):.4f} USD more"
        )
        if "judge_requests" in planned.shadow:
            text.append(f"judge: at most {planned.shadow['judge_requests']} requests more, not in the estimate")
    if planned.total("peak_cost_usd") > planned.total("cost_usd"):
        text.append(f"in the dearest hours of the week it would be about {planned.total('peak_cost_usd'):.4f} USD")
    text += planned.notes
    text += [f"{count} rows can't be asked: {code}" for code, count in planned.unanswerable.items()]
    text += [f"{count} requests ended {status} before and are not asked again (--retry-failed asks them)"
             for status, count in planned.earlier.items() if status != "ok"]  # fmt: skip
    return "\n".join(text)


def report_text(summary: dict[str, Any]) -> str:
    """Return the line that a finished run ends with."""
    statuses = summary["statuses"] or {}
    twice = summary["paid_twice_at_most"]
    most = "at most " if twice else ""
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items() if count)
    cache = summary["cache"]
    read = ""
    if cache["cached_tokens"]:
        read = f"; {cache['hit_rate']:.1%} of the input came from a cache and saved {float(cache['saved_usd']):.4f} USD"
    return (
        f"{summary['rows']} rows: {counts or 'not written'}; {summary['attempts']} requests sent, "
        f"{summary['reused']} reused, {most}{twice} requests paid twice; {float(summary['spent_usd']):.4f} USD spent"
        f"{read}"
    )


def cascades_text(told: dict[str, Any]) -> str:
    """Return how often two models agreed, and what the answers cost that do not count."""
    return (
        f"cascades: of {told['kept'] + told['asked_up']} requests two models agreed on {told['kept']} "
        f"({told['share_kept']:.1%}); the answers that do not count cost {float(told['discarded_usd']):.4f} USD"
    )


def promise_text(told: dict[str, Any]) -> str:
    """Return what the policy promised, and whether the night kept it."""
    text = f"promise: {told['quality']:.1%} of {told['reference']}'s quality at confidence {told['confidence']:.0%}: "
    if told["held"] is None:
        return text + f"can't be told: {told['why']}"
    return text + (
        f"{'held' if told['held'] else 'missed'}, {told['reached']:.1%} (95% interval {told['reached_low']:.1%} to "
        f"{told['reached_high']:.1%}) on {told['paired']} rows of the policy, saving {told['saving'] or 0:.1%}"
    )


def table(lines: Any) -> str:
    """Return lines of cells as aligned columns; numbers stand to the right."""
    rows = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if re.fullmatch(r"[-\d.,%]+", cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
