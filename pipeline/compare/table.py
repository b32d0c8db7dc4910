"""The comparison as text for a terminal and as Markdown. A share stands with its interval and its number of rows."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any
from unicodedata import combining, east_asian_width

import pyarrow as pa

from pipeline.compare.intervals import MARGIN

WIDTH = 140
_MODEL, _LEAST = 1, 12  # place and least width of the one column that gives way
_LEFT = frozenset({0, _MODEL})  # columns of text
_HEADINGS = ("arm", "model", "rows", "cost USD", "saving %", "scored", "quality %", "to baseline", "p50/p95 s")
_LEGEND = (
    "[low, high]: 95% interval. ~: estimated. to baseline: points of quality on the same rows, with their number where "
    f"it is not that of the scored. not worse: by less than {100 * MARGIN:g} point."
)

_SCORED = {None: "not scored", "mixed": "scored by several, mixed"}
_Line = Mapping[str, Any]


def to_text(table: pa.Table) -> str:
    """Return *table* (`COMPARISON_SCHEMA`) as lines of at most 140 characters."""
    scopes = list(_scopes(table))
    widths = _widths([_cells(line) for lines in scopes for line in lines])
    parts = [_row(_HEADINGS, widths)]
    for lines in scopes:
        parts += ["", _heading(lines), *(_row(_cells(line), widths) for line in _shown(lines))]
        parts += [part for remark in _remarks(lines) for part in _wrapped(remark, indent="  ")]
    return "".join(f"{_cut(part, WIDTH)}\n" for part in [*parts, "", *_wrapped(_LEGEND)])


def to_markdown(table: pa.Table) -> str:
    """Return *table* (`COMPARISON_SCHEMA`) as a Markdown table, with what there is to say below it."""
    rows, remarks = [("scope", *_HEADINGS), ("---",) * (1 + len(_HEADINGS))], []
    for lines in _scopes(table):
        scope = _escaped(_printable(lines[0]["scope"]))
        rows += [(scope, *map(_escaped, _cells(line))) for line in _shown(lines)]
        remarks += [f"- {_escaped(_heading(lines))}", *(f"  - {_escaped(remark)}" for remark in _remarks(lines))]
    grid = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*grid, "", *remarks, "", _escaped(_LEGEND)]) + "\n"


def _scopes(table: pa.Table) -> Iterator[list[_Line]]:
    for _, lines in groupby(table.to_pylist(), key=lambda line: line["scope"]):
        yield list(lines)


def _shown(lines: Sequence[_Line]) -> Iterator[_Line]:
    """Leave out the arms without rows; why they have none, a remark on the first scope says."""
    return (line for line in lines if line["rows"] or line["arm"] == "routed")


def _heading(lines: Sequence[_Line]) -> str:
    routed = lines[0]
    scored = _SCORED.get(routed["metric"], f"scored by {routed['metric']}")
    lost = ", ".join(
        f"{routed[kind]:,} {kind}" for kind in ("failed", "blocked", "truncated", "pending") if routed[kind]
    )
    return _printable(f"{routed['scope']}: {routed['rows']:,} rows{', ' if lost else ''}{lost}; {scored}")


def _cells(line: _Line) -> tuple[str, ...]:
    return (
        "  " + line["arm"].replace("_", " "),
        _printable(line["model"] or ""),
        f"{line['rows']:,}",
        _money(line["cost_usd"], line["cost_kind"]),
        _percent(line, "saving"),
        f"{line['scored'] or 0:,}",
        _percent(line, "quality"),
        _percent(line, "delta", sign="+") + _other_number(line),
        "/".join(f"{line[name]:.2f}" for name in ("latency_p50_s", "latency_p95_s") if line[name] is not None),
    )


def _remarks(lines: Sequence[_Line]) -> list[str]:
    routed = lines[0]
    judged = [
        f"quality: {routed['verdict']} (n = {routed['paired']:,})" if routed["verdict"] else "",
        f"cost: {routed['saving_verdict']} (n = {routed['rows']:,})" if routed["saving_verdict"] else "",
    ]
    verdict = "; ".join(filter(None, judged))
    whole = [
        f"{line['arm'].replace('_', ' ')} {_points(line['corpus_score'], '')}"
        for line in lines
        if line["corpus_score"] is not None and line["corpus_metric"] == routed["corpus_metric"]
    ]
    noted = lines if routed["scope"] == "all" else _shown(lines)
    notes = [f"{line['arm'].replace('_', ' ')}: {line['note']}" for line in noted if line["note"]]
    remarks = [f"verdict against the baseline: {verdict}"] * bool(verdict)
    remarks += [f"{routed['corpus_metric']} %: {', '.join(whole)}"] * bool(whole)
    return [_printable(remark) for remark in remarks + notes]


def _money(cost: Decimal | None, kind: str | None) -> str:
    if cost is None:
        return ""
    exact = f"{cost:,.2f}" if cost >= 100 else f"{cost:.6f}"
    return f"{'~' if kind == 'estimated' else ''}{exact}"


def _percent(line: _Line, name: str, *, sign: str = "") -> str:
    value, low, high = line[name], line[f"{name}_low"], line[f"{name}_high"]
    if value is None:
        return ""
    interval = "" if low is None else f" [{_points(low, sign)}, {_points(high, sign)}]"
    return _points(value, sign) + interval


def _points(share: float, sign: str) -> str:
    # The zero keeps "-0.0" away; a saving has no lower bound.
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}" if share > -10 else "<-999"


def _other_number(line: _Line) -> str:
    return f" ({line['paired']:,})" if line["paired"] and line["paired"] != line["scored"] else ""


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the widths of the columns, 0 for one with nothing in it; the models get what the others leave."""
    widths = [
        max(map(_length, (heading, *column))) if any(column) else 0
        for heading, *column in zip(_HEADINGS, *rows, strict=True)
    ]
    excess = sum(widths) + 2 * (sum(map(bool, widths)) - 1) - WIDTH
    widths[_MODEL] = max(widths[_MODEL] - max(excess, 0), _LEAST)
    return widths


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        if not width:
            continue
        shown = _cut(cell, width)
        room = " " * (width - _length(shown))
        padded.append(shown + room if place in _LEFT else room + shown)
    return "  ".join(padded).rstrip()


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _length(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _cut(text: str, width: int) -> str:
    """Cut *text* to *width* columns, and to as many characters, since marks that take no column can be endless."""
    if max(_length(text), len(text)) <= width:
        return text
    kept = text[: width - 1]
    while _length(kept) > width - 1:
        kept = kept[:-1]
    return kept + "…"


def _printable(text: str) -> str:
    """Replace what could steer a terminal or break a line: names of scopes are the user's data."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_~\[\]|<>&])", r"\\\1", text.strip())
