"""The rates that the headers of an answer tell. Nothing is required of them, and nothing in them is an error."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_KINDS = frozenset({"limit", "remaining", "reset"})
_INPUT = frozenset({"input", "prompt"})
_OUTPUT = frozenset({"output", "generated"})
_PER_MIN = {"second": 60.0, "minute": 1.0}
# A count of a longer time is a quota, not a pace; "5-minute" and the like are no minutes either.
_NO_PACE = re.compile(r"-(hour|day|week|month|\d+)(-|$)")
_LONGEST_WINDOW_S = 3600.0

_NUMBER = re.compile(r"\s*(\d+(\.\d+)?)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def told_rates(headers: Mapping[str, str], now_s: float) -> dict[Unit, float]:
    """Return what may be used per minute, as far as *headers* (lower-case names) tell; *now_s* is Unix time.

    Known are OpenAI's names (`x-ratelimit-limit-requests`), Anthropic's (`anthropic-ratelimit-input-tokens-limit`) and
    variants of both. Of several limits on one unit the lowest counts.
    """
    readings: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in headers.items():
        words = name.split("-")
        for kind in _KINDS.intersection(words):
            words.remove(kind)
            readings["-".join(words)][kind] = value
    told: dict[Unit, float] = {}
    for name, reading in readings.items():
        unit = _unit(name)
        if unit is not None and (per_min := _per_min(name, reading, now_s)) is not None:
            told[unit] = min(per_min, told.get(unit, math.inf))
    if "input_tokens" in told and "output_tokens" in told:
        told.pop("tokens", None)  # Anthropic's sum of the two, which cached input would use up
    return told


def reset_s(text: str, now_s: float) -> float | None:
    """Return in how many seconds a limit is whole again: from a number, a Go duration (`6m0s`) or an RFC 3339 time."""
    text = text.strip()
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        seconds = float(text)
    except ValueError:
        return _until(text, now_s)
    if seconds > 1e9:
        seconds = (seconds / 1000 if seconds > 1e12 else seconds) - now_s
    return seconds if math.isfinite(seconds) else None


def _until(text: str, now_s: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp() - now_s


def _unit(name: str) -> Unit | None:
    words = set(name.split("-"))
    if words & {"requests", "req"}:
        return "requests"
    if "tokens" not in words:
        return None
    if words & _INPUT:
        return "input_tokens"
    return "output_tokens" if words & _OUTPUT else "tokens"


def _per_min(name: str, reading: Mapping[str, str], now_s: float) -> float | None:
    limit = _count(reading.get("limit", ""))
    if not limit or _NO_PACE.search(name):
        return None
    for word, times in _PER_MIN.items():
        if word in name:
            return limit * times
    # Some providers show a day's quota under the same name. It gives itself away by how long it takes to refill.
    remaining, reset = _count(reading.get("remaining", "")), reset_s(reading.get("reset", ""), now_s)
    if remaining is not None and reset is not None and remaining < limit:
        window_s = reset * limit / (limit - remaining)
        if window_s > _LONGEST_WINDOW_S:
            return None
    return limit


def _count(text: str) -> float | None:
    found = _NUMBER.match(text)
    return float(found[1]) if found and math.isfinite(float(found[1])) else None
