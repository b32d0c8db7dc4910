"""Nights beside each other: did quality, saving or failures change, and is the last night unlike those before?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.compare.intervals import Interval, Verdict, wilson

Line = Mapping[str, Any]
ALARM = (
    2.5758293035489004 / 1.959963984540054
)  # 99% in 95% intervals: three tests a night, and nobody reads false alarms
MOST_NIGHTS = 7  # before the last, to measure it by


class Level(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def headline(table: pa.Table) -> dict[str, Any]:
    """Return what a ledger remembers of a comparison: the figures of scope "all", arm "routed", money as text."""
    (line,) = table.slice(0, 1).to_pylist()
    wanted = (
        "rows",
        "ok",
        "cost_usd",
        "baseline_cost_usd",
        "saving",
        "metric",
        "scored",
        "quality",
        "delta",
        "verdict",
    )
    ends = [f"{name}_{end}" for name in ("saving", "quality", "delta") for end in ("low", "high")]
    return {name: str(line[name]) if name.endswith("usd") else line[name] for name in (*wanted, *ends)}


def is_worse(table: pa.Table) -> bool:
    """Tell whether the routed answers to all rows are worse than the baseline's."""
    return bool(table.num_rows) and table.slice(0, 1).to_pylist()[0]["verdict"] == Verdict.WORSE


def change(before: Level, after: Level, *, scale: float = 1.0) -> Interval:
    """Return the interval of *after* less *before*, two independent figures (MOVER: Zou and Donner 2008).

    *scale* stretches it from 95% to another level. Where both nights have the same rows, it is wider than need be.
    """
    difference = after.value - before.value
    low = math.hypot(after.value - after.low, before.high - before.value)
    high = math.hypot(after.high - after.value, before.value - before.low)
    return Interval(difference - scale * low, difference + scale * high)


def level(line: Line, name: str) -> Level | None:
    """Return the figure *name* of *line* with its interval, None where it has none."""
    values = (line[name], line[f"{name}_low"], line[f"{name}_high"])
    return None if None in values else Level(*values)


def failed_share(line: Line) -> Level | None:
    """Return the share of rows without a whole answer, with Wilson's interval."""
    if not line["rows"]:
        return None
    failed = line["rows"] - line["ok"]
    return Level(failed / line["rows"], *wilson(failed, line["rows"]))


def side_by_side(before: pa.Table, after: pa.Table) -> list[dict[str, Any]]:
    """Return, for each scope and arm of both comparisons, its figures in each and the change of quality."""
    known = {(line["scope"], line["arm"]): line for line in before.to_pylist()}
    both = [
        (known[line["scope"], line["arm"]], line) for line in after.to_pylist() if (line["scope"], line["arm"]) in known
    ]
    return [_pair(old, new) for old, new in both if old["rows"] or new["rows"]]


def _pair(old: Line, new: Line) -> dict[str, Any]:
    figures = {
        f"{name}_{night}": line[name]
        for name in ("rows", "cost_usd", "saving", "scored", "quality")
        for night, line in (("a", old), ("b", new))
    }
    levels = level(old, "quality"), level(new, "quality")
    interval = None if None in levels or old["metric"] != new["metric"] else change(levels[0], levels[1])  # type: ignore[arg-type]
    return {
        "scope": new["scope"],
        "arm": new["arm"],
        **figures,
        "change": None if interval is None else new["quality"] - old["quality"],
        "change_low": interval and interval.low,
        "change_high": interval and interval.high,
        "verdict": _verdict(interval),
    }


def _verdict(interval: Interval | None) -> str:
    if interval is None:
        return "not comparable"
    return "worse" if interval.high < 0 else "better" if interval.low > 0 else "no difference to be seen"


def drift(nights: Sequence[Line]) -> list[str]:
    """Return how the last of *nights* (`headline`s, in order) differs from the up to seven before it, a sentence each.

    Quality, saving and the share of failed rows are each tested at 99%: an interval of the difference to the mean of
    the nights before that does not hold 0. Quality only among nights scored in the same way.
    """
    if len(nights) < 2:
        return []
    *earlier, last = nights[-MOST_NIGHTS - 1 :]
    alike = [night for night in earlier if night["metric"] == last["metric"]]
    tests = (
        ("quality", [level(night, "quality") for night in alike], level(last, "quality")),
        ("saving", [level(night, "saving") for night in earlier], level(last, "saving")),
        ("share of failed rows", [failed_share(night) for night in earlier], failed_share(last)),
    )
    return [sentence for name, before, now in tests if (sentence := _alarm(name, before, now))]


def _alarm(name: str, before: Sequence[Level | None], now: Level | None) -> str:
    known = [one for one in before if one is not None]
    if not known or now is None:
        return ""
    mean = _mean(known)
    interval = change(mean, now, scale=ALARM)
    if interval.low <= 0 <= interval.high:
        return ""
    return (
        f"{name}: {100 * now.value:.1f}%, {100 * (now.value - mean.value):+.1f} points "
        f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] from the mean of {len(known)} earlier nights (99%)"
    )


def _mean(levels: Sequence[Level]) -> Level:
    n = len(levels)
    value = math.fsum(one.value for one in levels) / n
    low = math.sqrt(math.fsum((one.value - one.low) ** 2 for one in levels)) / n
    high = math.sqrt(math.fsum((one.high - one.value) ** 2 for one in levels)) / n
    return Level(value, value - low, value + high)
