"""The charts, as SVG to stand in a page: its ink and colours are the page's, light or dark."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline.report.figures import Line
from pipeline.report.page import Told

# Colours that stand for variables of the page's style sheet.
INK, MUTED, ROUTED, BASELINE, BEST, CHEAPEST = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", ROUTED: "routed", BASELINE: "baseline", BEST: "best", CHEAPEST: "cheapest"}
_ARMS = {
    "routed": (ROUTED, "o"),
    "baseline": (BASELINE, "s"),
    "best_single": (BEST, "^"),
    "cheapest_single": (CHEAPEST, "v"),
}
_MOST_BARS = 14
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, sharp, and to be found
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": MUTED,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
}
_Draw = Callable[[Any, Told], bool]


def draw_all(told: Told) -> dict[str, str]:
    """Return the charts by name; one with nothing to show is left out."""
    drawers: dict[str, tuple[_Draw, int]] = {
        "cost_quality": (_cost_quality, 0),
        "by_task": (lambda axes, told: _costs(axes, told, "task"), len(told.scopes("task"))),
        "by_model": (lambda axes, told: _costs(axes, told, "model"), min(len(told.scopes("model")), _MOST_BARS)),
        "estimate": (_estimate, min(len(told.plan["groups"]), _MOST_BARS) + 1),
        "latency": (_latency, min(len(told.scopes("model")), _MOST_BARS)),
        "failures": (_failures, len(told.failures)),
    }
    charts = {}
    for name, (draw, bars) in drawers.items():
        with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
            figure = Figure(figsize=(7.2, 4.2 if not bars else 1.2 + 0.42 * bars), layout="constrained")
            if draw(figure.add_subplot(), told):
                charts[name] = _svg(figure, name)
    return charts


def _svg(figure: Figure, name: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids are the page's, so each chart has its own; a style sheet in a chart would be the whole page's.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg role="img" aria-label="{name}" viewBox="\1">', svg, count=1
    )
    return re.sub("|".join(_VARIABLES), lambda found: f"var(--{_VARIABLES[found[0]]})", svg)


def _cost_quality(axes: Any, told: Told) -> bool:
    """Draw the arms of all rows by cost and quality, with intervals, and the line of mixes between two of them."""
    lines = {arm: told.line("all", arm) for arm in _ARMS}
    known = {arm: line for arm, line in lines.items() if line is not None and line["quality"] is not None}
    if "routed" not in known:
        return False
    if {"best_single", "cheapest_single"} <= known.keys():
        ends = [known[arm] for arm in ("cheapest_single", "best_single")]
        axes.plot(
            [float(line["cost_usd"]) for line in ends], [100 * line["quality"] for line in ends],
            color=MUTED, linestyle="--", linewidth=1, label="mix of the two single models",
        )  # fmt: skip
    for arm, line in known.items():
        colour, marker = _ARMS[arm]
        quality = 100 * line["quality"]
        errors = [[quality - 100 * line["quality_low"]], [100 * line["quality_high"] - quality]]
        axes.errorbar(
            float(line["cost_usd"]), quality, yerr=errors, color=colour, marker=marker, markersize=9, capsize=3,
            linestyle="none", label=arm.replace("_", " "),
        )  # fmt: skip
    axes.set_xlabel("cost, USD")
    axes.set_ylabel("quality, %")
    axes.set_xlim(left=0)
    axes.legend(loc="best")
    return True


def _costs(axes: Any, told: Told, kind: str) -> bool:
    """Draw what each task or model cost, beside what the baseline costs on the same rows."""
    scopes = [(scope, told.line(scope), told.line(scope, "baseline")) for scope in told.scopes(kind)]
    known = [(scope, line, base) for scope, line, base in scopes if line is not None and line["cost_usd"] is not None]
    known.sort(key=lambda found: -max(_usd(found[1]), _usd(found[2])))
    known = known[:_MOST_BARS][::-1]
    if not known:
        return False
    _bars(axes, [scope.partition("=")[2] for scope, _, _ in known])
    places = range(len(known))
    axes.barh(
        [place + 0.2 for place in places], [_usd(line) for _, line, _ in known], 0.36, color=ROUTED, label="routed"
    )
    axes.barh(
        [place - 0.2 for place in places], [_usd(base) for *_, base in known], 0.36, color=BASELINE, label="baseline"
    )
    axes.set_xlabel("cost, USD")
    axes.legend(loc="best")
    return True


def _usd(line: Line | None) -> float:
    return 0.0 if line is None or line["cost_usd"] is None else float(line["cost_usd"])


def _estimate(axes: Any, told: Told) -> bool:
    """Draw the plan's estimates with their bands, and what was spent on what was sent."""
    groups = [group for group in told.plan["groups"] if group["new"] + group["retried"]]
    if not any(float(group["cost_high_usd"]) for group in groups):  # free models have no place on a scale of powers
        return False
    lines = [
        (group["model"], *(float(group[name]) for name in ("cost_low_usd", "cost_usd", "cost_high_usd")))
        for group in groups
    ]
    lines = sorted(lines, key=lambda line: line[2])[-_MOST_BARS:]
    lines.append(("all", *(float(told.plan[name]) for name in ("cost_low_usd", "cost_usd", "cost_high_usd"))))
    _bars(axes, [line[0] for line in lines])
    for place, (_, low, middle, high) in enumerate(lines):
        axes.plot([low, high], [place, place], color=MUTED, linewidth=5, solid_capstyle="butt")
        axes.plot(middle, place, marker="|", markersize=16, color=INK, linestyle="none")
    actual = [(place, spent) for place, line in enumerate(lines) if (spent := _spent(told, line[0])) is not None]
    axes.plot(
        [spent for _, spent in actual], [place for place, _ in actual],
        marker="o", color=ROUTED, linestyle="none", label="spent",
    )  # fmt: skip
    axes.plot([], [], marker="|", markersize=12, color=INK, linestyle="none", label="estimate, with its band")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("USD, logarithmic")
    axes.legend(loc="best")
    return True


def _spent(told: Told, model: str) -> float | None:
    """Return what was spent on *model* in this run; None where it can't be told from what earlier nights spent."""
    if model == "all":
        sampled = told.plan.get("shadow") is not None  # its cost is in what was spent, and not in the estimate
        return None if sampled else float(told.summary["spent_usd"]) or None
    line = told.line(f"model={model}")
    fresh = not told.plan["reused"] and line is not None
    return _usd(line) or None if fresh else None


def _latency(axes: Any, told: Told) -> bool:
    """Draw the median and the 95th percentile of each model that answered."""
    lines = [line for scope in told.scopes("model") if (line := told.line(scope)) and line["latency_p50_s"] is not None]
    lines = sorted(lines, key=lambda line: line["latency_p50_s"])[:_MOST_BARS][::-1]
    if not lines:
        return False
    _bars(axes, [line["scope"].partition("=")[2] for line in lines])
    places = range(len(lines))
    axes.hlines(
        places, [line["latency_p50_s"] for line in lines], [line["latency_p95_s"] for line in lines], color=MUTED
    )
    for name, colour, label in (("latency_p50_s", ROUTED, "median"), ("latency_p95_s", BASELINE, "95th percentile")):
        axes.plot([line[name] for line in lines], places, marker="o", color=colour, linestyle="none", label=label)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.legend(loc="best")
    return True


def _failures(axes: Any, told: Told) -> bool:
    """Draw the rows that did not come out ok, by class."""
    classes = sorted(told.failures.items(), key=lambda item: (item[1], item[0]))[-_MOST_BARS:]
    if not classes:
        return False
    _bars(axes, [name for name, _ in classes])
    axes.barh(range(len(classes)), [count for _, count in classes], 0.6, color=CHEAPEST)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("rows")
    return True


def _bars(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [name if len(name) <= 28 else f"{name[:27]}…" for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")
