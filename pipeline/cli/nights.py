"""The commands that look at finished nights: compare, history."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pipeline.cli.output import print_out, printable
from pipeline.cli.texts import table
from pipeline.errors import JobError

_WORSE = 6


def fail_if_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --fail-if, which `run` and `compare` share."""
    option = click.option(
        "--fail-if", type=click.Choice(["worse"]), help="Exit 6 when the routed answers are worse than the baseline's."
    )
    return option(command)


@click.command()
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("other", metavar="[OUT_B]", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="As a Markdown table.")
@click.option("--reprice", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="At the prices of that day.")
@click.option("--job", type=click.Path(path_type=Path), help="The job file, for --reprice.")
@fail_if_option
def compare(
    *, folder: Path, other: Path | None, as_json: bool, markdown: bool, fail_if: str | None, **priced: Any
) -> None:
    """Show the comparison of a finished run in OUT, or set the runs in OUT and OUT_B side by side.

    With two runs, --fail-if worse asks whether OUT_B is worse than OUT.
    """
    from pipeline.compare import is_worse, to_markdown, to_text
    from pipeline.run import read_comparison

    comparison = _repriced(folder, **priced) if priced["reprice"] else read_comparison(folder)
    if other is not None:
        worse = _show_both(comparison, read_comparison(other), as_json=as_json, markdown=markdown)
    else:
        worse = is_worse(comparison)
        if as_json:
            print_out(json.dumps(comparison.to_pylist(), indent=2, default=str))
        else:
            print_out(to_markdown(comparison) if markdown else to_text(comparison))
    sys.exit(_WORSE if fail_if and worse else 0)


def _repriced(folder: Path, *, reprice: datetime, job: Path | None) -> Any:
    from pipeline.run import repriced

    if job is None:
        raise JobError("--reprice: name the job file too, which has its models and references: --job JOB")
    return repriced(folder, job, reprice.date())


def _show_both(before: Any, after: Any, *, as_json: bool, markdown: bool) -> bool:
    """Print two comparisons side by side; tell whether the routed answers to all rows got worse."""
    from pipeline.compare import side_by_side

    lines = side_by_side(before, after)
    if as_json:
        print_out(json.dumps(lines, indent=2, default=str))
    else:
        heading = ("scope", "arm", "rows A", "B", "cost A", "B", "saving A", "B", "quality A", "B", "change", "verdict")
        cells = [heading, *map(_cells, lines)]
        print_out(_as_markdown(cells) if markdown else table(cells))
    return any((line["scope"], line["arm"], line["verdict"]) == ("all", "routed", "worse") for line in lines)


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    pairs = [_pair(line, "rows", "{:,}"), _pair(line, "cost_usd", "{:.6f}")]
    pairs += [_pair(line, name, "{:.1%}") for name in ("saving", "quality")]
    change = ""
    if line["change"] is not None:
        low, high = line["change_low"], line["change_high"]
        change = f"{100 * line['change']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return (printable(line["scope"]), line["arm"], *(cell for pair in pairs for cell in pair), change, line["verdict"])


def _pair(line: dict[str, Any], name: str, form: str) -> tuple[str, str]:
    values = (line[f"{name}_a"], line[f"{name}_b"])
    first, second = ("" if value is None else form.format(value) for value in values)
    return first, second


def _as_markdown(cells: list[tuple[str, ...]]) -> str:
    heading, *rows = cells
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--output", metavar="DIR", help="The folder written to, instead of output.path.")
@click.option("--nights", type=click.IntRange(2), default=14, show_default=True, help="How many to look back.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def history(*, job: Path, output: str | None, nights: int, as_json: bool) -> None:
    """Show cost, quality and failures of JOB over its nights, and whether the last one is unlike those before."""
    from pipeline.run import job_history

    found, alarms = job_history(job, output, nights)
    if as_json:
        print_out(json.dumps({"nights": found, "drift": alarms}, indent=2))
        return
    heading = (
        "night",
        "finished",
        "exit",
        "rows",
        "not ok",
        "spent USD",
        "cost USD",
        "saving %",
        "quality %",
        "to baseline",
    )
    print_out(table([heading, *map(_night_cells, found)]))
    for alarm in alarms:
        print_out(f"drift: {alarm}")
    if not alarms:
        print_out(f"no drift to be seen in {len(found)} nights")


def _night_cells(night: dict[str, Any]) -> tuple[str, ...]:
    compared = night["comparison"] or {}
    statuses = night["statuses"] or {}
    return (
        str(night["night"]),
        night["finished_at"],
        str(night["exit_code"]),
        str(night["rows"]),
        str(sum(count for status, count in statuses.items() if status != "ok")),
        f"{float(night['spent_tonight_usd']):.4f}",
        f"{float(compared['cost_usd']):.4f}" if compared else "",
        _interval(compared, "saving", ""),
        _interval(compared, "quality", ""),
        _interval(compared, "delta", "+"),
    )


def _interval(compared: dict[str, Any], name: str, sign: str) -> str:
    values = [compared.get(key) for key in (name, f"{name}_low", f"{name}_high")]
    if values[0] is None:
        return ""
    shown = [format(100 * value, f"{sign}.1f") for value in values if value is not None]
    return f"{shown[0]} [{', '.join(shown[1:])}]" if len(shown) == 3 else shown[0]
