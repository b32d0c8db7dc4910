"""Scenarios of `rowroute run` beside a bare aiohttp loop, both against the benchmark server."""

import sys

from benchmarks.harness import Contender, Place, Scenario

_TASKS = ("code", "classification", "reasoning", "translation", "creative", "general", "vision")
_JOB = """
name = "bench"
[input]
path = "{input}"
id = "prompt_id"
[prompt]
column = "prompt"
max_output_tokens = 64
[route]
baseline = "bench"
escalate = false
[route.table.balanced]
{cells}
[providers.bench]
adapter = "openai"
base_url = "{url}"
concurrency = {concurrency}
[models.bench]
provider = "bench"
context_tokens = 128000
input_usd_per_mtok = "0.15"
output_usd_per_mtok = "0.60"
[output]
path = "{folder}/out"
"""


def _bare(concurrency: int) -> Contender:
    def command(place: Place) -> list[str]:
        options = ["--rows", str(place.rows), "--concurrency", str(concurrency)]
        return [sys.executable, "-m", "benchmarks.bare", place.url, *options]

    return Contender("bare aiohttp loop", command)


def _rowroute(concurrency: int) -> Contender:
    def command(place: Place) -> list[str]:
        job = place.folder / "job.toml"
        cells = "\n".join(f'{task} = "bench"' for task in _TASKS)
        job.write_text(
            _JOB.format(input=place.input, url=place.url, folder=place.folder, cells=cells, concurrency=concurrency),
            encoding="utf-8",
        )
        return [sys.executable, "-m", "pipeline", "run", str(job), "--yes", "--quiet"]

    return Contender("rowroute run", command)


def _beside_bare(title: str, *, rows: int, concurrency: int, server: tuple[str, ...] = ()) -> Scenario:
    return Scenario(title, rows, (_bare(concurrency), _rowroute(concurrency)), server)


RUN_SCENARIOS = {
    "zero": _beside_bare("No latency, concurrency 100", rows=20_000, concurrency=100),
    "latency": _beside_bare(
        "500 ms latency, concurrency 1,000", rows=8_000, concurrency=1000, server=("--latency-ms", "500")
    ),
}
