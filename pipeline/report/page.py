"""What the page says, worked out from the comparison."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.compare.intervals import SavingVerdict, Verdict
from pipeline.report.figures import Line, interval, shown
from pipeline.report.rows import Worse

_MOST_LABELS = 20
_COLUMNS = (
    ("rows", "rows"), ("cost_usd", "cost"), ("saving", "saving"), ("scored", "scored"), ("quality", "quality"),
    ("delta", "to baseline, points"), ("latency_p50_s", "latency p50"), ("latency_p95_s", "p95"),
)  # fmt: skip


class Told(NamedTuple):
    """Everything the report is made from."""

    comparison: Sequence[Line]  # rows of comparison.parquet
    plan: Mapping[str, Any]  # plan.json
    summary: Mapping[str, Any]  # summary.json
    failures: Mapping[str, int]  # rows that are not ok, by class
    worse: Sequence[Worse]
    worse_count: int
    version: str

    def line(self, scope: str, arm: str = "routed") -> Line | None:
        """Return the line of *scope* and *arm*, None where there is none or it has no rows."""
        found = [line for line in self.comparison if (line["scope"], line["arm"]) == (scope, arm)]
        return found[0] if found and (found[0]["rows"] or arm == "routed") else None

    def scopes(self, kind: str) -> list[str]:
        """Return the scopes of a *kind*, as in task or model."""
        return list(dict.fromkeys(line["scope"] for line in self.comparison if line["scope"].startswith(f"{kind}=")))


def page_of(told: Told) -> dict[str, Any]:
    """Return what the template shows."""
    routed = told.line("all")
    assert routed is not None
    return {
        "told": told,
        "routed": routed,
        "baseline": told.line("all", "baseline"),
        # A column without a figure, as latencies of recordings, would only take room.
        "columns": [
            (name, title) for name, title in _COLUMNS if any(line[name] is not None for line in told.comparison)
        ],
        "scopes": list(_scopes(told)),
        "no_help": list(_no_help(told)),
        "confusion": _confusion(told),
        "interval": interval,
        "sentences": [*_sentences(routed, told.line("all", "single_mix")), *_cascades(told.summary.get("cascades"))],
    }


def _sentences(routed: Line, mix: Line | None) -> Iterator[str]:
    if routed["saving_verdict"]:
        yield f"Cost: {routed['saving_verdict']}. {_figure(routed, 'saving')} saved (n = {routed['rows']:,})."
    if routed["verdict"]:
        paired = f"(n = {routed['paired']:,})"
        yield f"Quality: {routed['verdict']}. {_figure(routed, 'delta')} points to the baseline {paired}."
    if mix is not None and mix["gain"] is not None:
        yield f"Against a coin between two single models: {_figure(mix, 'gain')} points (n = {mix['scored']:,})."


def _cascades(told: Mapping[str, Any] | None) -> Iterator[str]:
    if told:
        asked = told["kept"] + told["asked_up"]
        yield (
            f"Cascades: of {asked:,} requests of this run two models agreed on {told['share_kept']:.1%}; the answers "
            f"that do not count cost {float(told['discarded_usd']):.4f} USD, which are in the cost."
        )


def _figure(line: Line, name: str) -> str:
    return f"{shown(line, name)} {interval(line, name)}".strip()


def _scopes(told: Told) -> Iterator[tuple[str, list[Line]]]:
    for scope in dict.fromkeys(line["scope"] for line in told.comparison):
        yield (
            scope,
            [line for line in told.comparison if line["scope"] == scope and (line["rows"] or line["arm"] == "routed")],
        )


def _no_help(told: Told) -> Iterator[tuple[str, list[str]]]:
    """Yield the tasks and groups in which routing saved nothing, cost quality, or was no better than a coin."""
    for scope, lines in _scopes(told):
        if scope.startswith("model="):  # rows chosen by their model: every router is that model there
            continue
        arms = {line["arm"]: line for line in lines}
        routed, mix = arms["routed"], arms.get("single_mix")
        reasons = []
        if routed["saving_verdict"] in (SavingVerdict.NONE, SavingVerdict.DEARER):
            reasons.append(f"{routed['saving_verdict']}: {shown(routed, 'saving')} {interval(routed, 'saving')}")
        if routed["verdict"] == Verdict.WORSE:
            reasons.append(f"worse answers: {shown(routed, 'delta')} {interval(routed, 'delta')} points")
        if mix is not None and mix["gain_low"] is not None and mix["gain_low"] <= 0:
            worse = (
                "a coin between two models is better"
                if mix["gain_high"] < 0
                else "no better than a coin between two models"
            )
            reasons.append(f"{worse}: {shown(mix, 'gain')} {interval(mix, 'gain')} points")
        if reasons:
            yield scope, [*reasons, f"n = {routed['rows']:,}"]


def _confusion(told: Told) -> dict[str, Any] | None:
    """Return the confusion table of the largest scope that has one, its commonest labels only."""
    lines = [line for line in told.comparison if line["arm"] == "routed" and line["confusion"]]
    if not lines:
        return None
    line = max(lines, key=lambda line: (line["scored"], not line["scope"].startswith("model=")))
    counts = {(pair["label"], pair["answer"]): pair["rows"] for pair in line["confusion"]}
    totals: dict[str, int] = {}
    wrong: dict[str, int] = {}
    for (label, answer), rows in counts.items():
        totals[label] = totals.get(label, 0) + rows
        wrong[label] = wrong.get(label, 0) + rows * (label != answer)
    labels = sorted(totals, key=lambda label: (-wrong[label], -totals[label], label))[:_MOST_LABELS]
    answers = [*labels, *sorted({answer for label, answer in counts if label in labels} - set(labels))][
        : _MOST_LABELS + 5
    ]
    return {
        "scope": line["scope"],
        "line": line,
        "answers": answers,
        "rows": [(label, [counts.get((label, answer), 0) for answer in answers], totals[label]) for label in labels],
        "left_out": len(totals) - len(labels),
    }
