"""How a figure of the comparison is shown: one place, so that table, tile and text agree."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Line = Mapping[str, Any]


def _money(value: Decimal) -> str:
    return f"${value:,.2f}" if value >= 100 else f"${value:,.4f}" if value >= Decimal("0.01") else f"${value:.6f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%" if value > -10 else "< -999%"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "rows": "{:,}".format,
    "cost_usd": _money,
    "baseline_cost_usd": _money,
    "saving": _percent,
    "scored": "{:,}".format,
    "quality": _percent,
    "delta": _points,
    "gain": _points,
    "corpus_score": _percent,
    "latency_p50_s": "{:.2f} s".format,
    "latency_p95_s": "{:.2f} s".format,
}


def shown(line: Line, name: str) -> str:
    """Return the figure *name* of *line* as people read it, "–" where there is none, with a ~ where it is estimated."""
    if line[name] is None:
        return "–"
    estimated = name == "cost_usd" and line["cost_kind"] == "estimated"
    return ("~" if estimated else "") + FORMATS[name](line[name])


def interval(line: Line, name: str) -> str:
    """Return the 95% interval of the figure *name* in brackets, nothing where it has none."""
    ends = [line.get(f"{name}_{end}") for end in ("low", "high")]
    if None in ends:
        return ""
    return f"[{', '.join(FORMATS[name](end).removesuffix('%') for end in ends)}]"
