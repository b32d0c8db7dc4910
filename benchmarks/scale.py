"""How memory and the cost of a row grow with the number of rows: the same command over inputs of several sizes.

An input of a hundred rows shows what the start costs, whatever the rows: imports, patterns, an empty ledger, the files'
ends. Each run of a size follows such a one, whose CPU is taken off, so that what is left is the cost of the rows.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.harness import Contender, Place, Run, cell_of, make_input, run_once, spread_of
from benchmarks.measure import Server, open_server, pinned
from benchmarks.plan import ROWROUTE_PLAN
from benchmarks.run import rowroute_run

START_ROWS = 100
_ONCE_FROM = 1_000_000  # rows: such a run is long enough to be measured once


class Scale(NamedTuple):
    """One command over inputs of several *sizes*, the prompts being cut to so many characters."""

    title: str
    contender: Contender
    sizes: Sequence[int]
    prompt_chars: int
    server: Sequence[str] | None = None  # options of the server; None: there is none


SCALES = {
    "scale-plan": Scale("rowroute plan", ROWROUTE_PLAN, (10_000, 100_000, 1_000_000, 10_000_000), 200),
    "scale-run": Scale("rowroute run, no latency", rowroute_run(100), (10_000, 100_000, 1_000_000), 200, ()),
}


def run_scale(scale: Scale, *, most_rows: int | None, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures of *scale* as JSON takes them, without the sizes over *most_rows*.

    Raises:
        CommandError: when a run fails, or leaves rows unanswered.
    """
    sizes = [size for size in scale.sizes if most_rows is None or size <= most_rows]
    with TemporaryDirectory(prefix="rowroute-bench-") as folder, ExitStack() as stack:
        server = stack.enter_context(open_server(*scale.server)) if scale.server is not None else None
        stack.enter_context(pinned(last=False))
        starts: list[Run] = []
        figures = []
        for size in sizes:
            own_starts, runs = _runs(scale, size, 1 if size >= _ONCE_FROM else rounds, Path(folder), server)
            starts += own_starts
            figures.append(_figures(size, own_starts, runs))
            say(f"{size:,} rows: {figures[-1]['us_per_row']['median']:.2f} us a row beyond the start")
    start_cpu_s = spread_of([run.sample.cpu_s for run in starts])
    return {"title": scale.title, "prompt_chars": scale.prompt_chars, "start_cpu_s": start_cpu_s, "sizes": figures}


def _runs(scale: Scale, rows: int, rounds: int, folder: Path, server: Server | None) -> tuple[list[Run], list[Run]]:
    """Return runs of the start's rows and of *rows*, taken in turn."""
    with TemporaryDirectory(dir=folder) as own:
        runs: dict[int, list[Run]] = {START_ROWS: [], rows: []}
        inputs = {size: Path(own) / f"{size}.parquet" for size in runs}
        for size, path in inputs.items():
            make_input(path, size, str(scale.prompt_chars))
        for _ in range(rounds):
            for size, path in inputs.items():
                with TemporaryDirectory(dir=own) as empty:
                    place = Place(size, path, Path(empty), server.url if server else "")
                    runs[size].append(run_once(scale.contender, place, server))
    return runs[START_ROWS], runs[rows]


def _figures(rows: int, starts: Sequence[Run], runs: Sequence[Run]) -> dict[str, Any]:
    beyond = [run.sample.cpu_s - start.sample.cpu_s for start, run in zip(starts, runs, strict=True)]
    return {
        "rows": rows,
        "rounds": len(runs),
        "wall_s": spread_of([run.sample.wall_s for run in runs]),
        "cpu_s": spread_of([run.sample.cpu_s for run in runs]),
        "us_per_row": spread_of([cpu_s / (rows - START_ROWS) * 1e6 for cpu_s in beyond]),
        "peak_rss_mb": spread_of([run.sample.peak_rss_mb for run in runs]),
    }


def scale_to_markdown(result: dict[str, Any]) -> str:
    """Return the figures as a table: median (least to most)."""
    lines = [
        ["rows", "runs", "wall s", "CPU-s", "CPU us a row beyond the start", "peak RSS MB"],
        ["---"] * 6,
        *(
            [
                f"{size['rows']:,}", str(size["rounds"]), cell_of(size["wall_s"], 1), cell_of(size["cpu_s"], 2),
                cell_of(size["us_per_row"], 2), cell_of(size["peak_rss_mb"], 0),
            ]
            for size in result["sizes"]
        ),
    ]  # fmt: skip
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    start = f"its start costs {cell_of(result['start_cpu_s'], 2)} CPU-s"
    return f"{result['title']}, prompts of {result['prompt_chars']} characters; {start}\n\n{table}\n"
