"""Runs the contenders of a scenario in turn, round after round, and sums up: medians, spread, ratio to the first."""

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.measure import CommandError, Sample, Server, measure, open_server, pinned

COLUMNS = (  # of the table: what it is called, what it is called in the figures, digits after the point
    ("rows", "rows", 0),
    ("rows/s", "rows_per_s", 0),
    ("CPU-s per 1,000 rows", "cpu_s_per_1000_rows", 4),
    ("rows per CPU-s", "rows_per_cpu_s", 0),
    ("ratio", "ratio", 2),
    ("peak RSS MB", "peak_rss_mb", 0),
    ("lost", "lost", 0),
    ("429s", "refused", 0),
    ("% of the limit", "percent_of_limit", 1),
)


class Place(NamedTuple):
    """Where one run takes place: an input made before, an empty folder, and the server's URL if there is one."""

    rows: int
    input: Path
    folder: Path
    url: str


class Contender(NamedTuple):
    """Something to be measured: *command* may write files into the folder and returns what to start."""

    name: str
    command: Callable[[Place], list[str]]
    most_rows: int | None = None  # a slow one takes no more
    may_lose: bool = False  # rows that stay without an answer are counted, and don't end the benchmark

    def rows_of(self, rows: int) -> int:
        """Return how many of the scenario's *rows* it takes."""
        return min(rows, self.most_rows or rows)


class Told(NamedTuple):
    """What peers are told: how many requests may be under way, and the limits; 0 is none."""

    concurrency: int
    requests_per_min: int = 0
    tokens_per_min: int = 0


class Scenario(NamedTuple):
    """What is asked of all contenders alike; the first is the one that the others are compared with."""

    title: str
    rows: int
    contenders: Sequence[Contender]
    server: Sequence[str] | None = None  # options of the server; None: there is none
    pinned: bool = True  # contenders to the first core, beside the server's; for several processes False
    limit: tuple[str, float] | None = None  # what the server enforces a minute: "answered" or "tokens", and how many
    peers: Told | None = None  # None: tools of others take no part


class Run(NamedTuple):
    """One run of one contender; *refused* counts the server's answers 429, *steady* what came when it had warmed up."""

    sample: Sample
    rows: int
    refused: int
    steady: Mapping[str, float] = {}

    @property
    def answered(self) -> int:
        """Return the rows that got their answer."""
        return self.rows - self.sample.lost

    @property
    def cpu_s_per_row(self) -> float:
        """Return CPU-seconds an answered row."""
        return self.sample.cpu_s / self.answered

    def percent_of(self, limit: tuple[str, float] | None) -> float:
        """Return how much of *limit* was used."""
        if limit is None or not self.steady.get("span_s"):
            return math.nan
        unit, per_min = limit
        return 100 * self.steady[unit] / self.steady["span_s"] * 60 / per_min


def run_scenario(scenario: Scenario, *, rows: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures of *scenario* as JSON takes them.

    Raises:
        CommandError: when a contender fails, or leaves rows unanswered.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in scenario.contenders}
    with TemporaryDirectory(prefix="rowroute-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        input_ = folder / "input.parquet"
        make_input(input_, rows)
        server = stack.enter_context(open_server(*scenario.server)) if scenario.server is not None else None
        if scenario.pinned:
            stack.enter_context(pinned(last=False))
        for number in range(rounds):
            # Every round begins with another contender, so that none always runs on the warmest machine.
            shift = number % len(scenario.contenders)
            for contender in (*scenario.contenders[shift:], *scenario.contenders[:shift]):
                with TemporaryDirectory(dir=folder) as empty:
                    place = Place(contender.rows_of(rows), input_, Path(empty), server.url if server else "")
                    run = run_once(contender, place, server)
                runs[contender.name].append(run)
                cost = run.cpu_s_per_row * 1000
                say(f"round {number + 1}/{rounds}: {contender.name}: {cost:.4f} CPU-s per 1,000 rows")
    return {
        "title": scenario.title,
        "rows": rows,
        "rounds": rounds,
        "server": list(scenario.server) if scenario.server is not None else None,
        "contenders": _figures(runs, scenario.limit),
    }


def make_input(path: Path, rows: int, *more: str) -> None:
    """Write the input of so many *rows* to *path*; see `rows.py`."""
    # In a process of its own, since it takes much memory; see `measure`.
    measure([sys.executable, "-m", "benchmarks.rows", str(rows), str(path), *more], path.with_suffix(".log"))


def run_once(contender: Contender, place: Place, server: Server | None) -> Run:
    """Return what one run of *contender* cost.

    Raises:
        CommandError: when it fails, or leaves rows unanswered and must not.
    """
    command = contender.command(place)
    if server is None:
        return Run(measure(command, place.folder / "log"), place.rows, 0)
    server.reset()
    sample = measure(command, place.folder / "log")
    stats = server.stats()
    if sample.lost and not contender.may_lose:
        raise CommandError(f"{contender.name} lost {sample.lost} of {place.rows} rows")
    if stats["answered"] < place.rows - sample.lost:
        raise CommandError(f"{contender.name} asked {stats['answered']} of {place.rows} rows")
    return Run(sample, place.rows, stats["refused"], stats["steady"])


def _figures(runs: dict[str, list[Run]], limit: tuple[str, float] | None) -> dict[str, Any]:
    first = next(iter(runs.values()))
    return {
        name: {
            "rows": own[0].rows,
            "rows_per_s": spread_of([run.answered / run.sample.wall_s for run in own]),
            "cpu_s_per_1000_rows": spread_of([run.cpu_s_per_row * 1000 for run in own]),
            "process_cpu_s_per_1000_rows": spread_of([run.sample.process_cpu_s / run.answered * 1000 for run in own]),
            "rows_per_cpu_s": spread_of([1 / run.cpu_s_per_row for run in own]),
            # Within a round, since the speed of a shared machine drifts from one to the next.
            "ratio": spread_of([run.cpu_s_per_row / base.cpu_s_per_row for run, base in zip(own, first, strict=True)]),
            "peak_rss_mb": spread_of([run.sample.peak_rss_mb for run in own]),
            "lost": spread_of([float(run.sample.lost) for run in own]),
            "refused": spread_of([float(run.refused) for run in own]),
            "percent_of_limit": spread_of([run.percent_of(limit) for run in own]) if limit else None,
        }
        for name, own in runs.items()
    }


def spread_of(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def to_markdown(result: dict[str, Any]) -> str:
    """Return the figures as a table: median (least to most)."""
    lines = [["contender", *(title for title, _, _ in COLUMNS)], ["---"] * (len(COLUMNS) + 1)]
    for name, figures in result["contenders"].items():
        lines.append([name, *(cell_of(figures[key], digits) for _, key, digits in COLUMNS)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{result['title']}: {result['rows']:,} rows, {result['rounds']} rounds\n\n{table}\n"


def cell_of(figure: dict[str, float] | int | None, digits: int) -> str:
    """Return a figure as it stands in a table: median (least to most), or alone where there is nothing to spread."""
    if figure is None:
        return ""
    if isinstance(figure, int):
        return f"{figure:,}"
    spread = figure
    if spread["min"] == spread["max"]:
        return f"{spread['median']:,.{digits}f}"
    return f"{spread['median']:,.{digits}f} ({spread['min']:,.{digits}f} to {spread['max']:,.{digits}f})"
