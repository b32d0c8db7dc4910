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
{limits}
[models.bench]
provider = "bench"
context_tokens = 128000
input_usd_per_mtok = "0.15"
output_usd_per_mtok = "0.60"
[output]
path = "{folder}/out"
report = false
"""


def _bare(concurrency: int) -> Contender:
    def command(place: Place) -> list[str]:
        options = ["--rows", str(place.rows), "--concurrency", str(concurrency)]
        return [sys.executable, "-m", "benchmarks.bare", place.url, *options]

    return Contender("bare aiohttp loop", command)


def _rowroute(concurrency: int, *, limits: str = "", workers: int = 1) -> Contender:
    def command(place: Place) -> list[str]:
        job = place.folder / "job.toml"
        cells = "\n".join(f'{task} = "bench"' for task in _TASKS)
        job.write_text(
            _JOB.format(
                input=place.input,
                url=place.url,
                folder=place.folder,
                cells=cells,
                concurrency=concurrency,
                limits=limits,
            ),
            encoding="utf-8",
        )
        return [sys.executable, "-m", "pipeline", "run", str(job), "--yes", "--quiet", "--workers", str(workers)]

    return Contender("rowroute run" if workers == 1 else f"rowroute run --workers {workers}", command)


def _beside_bare(title: str, *, rows: int, concurrency: int, server: tuple[str, ...] = ()) -> Scenario:
    return Scenario(title, rows, (_bare(concurrency), _rowroute(concurrency)), server)


def _limited(title: str, unit: str, per_min: int, *options: str, declared: bool = True) -> Scenario:
    """Return a scenario in which the server enforces so many requests or tokens a minute; see `--bucket-s`."""
    key, counted = ("rpm", "answered") if unit == "requests" else ("tpm", "tokens")
    contender = _rowroute(64, limits=f"{unit}_per_min = {per_min}" if declared else "")
    return Scenario(title, 1_500, (contender,), (f"--{key}", str(per_min), *options), limit=(counted, per_min))


RUN_SCENARIOS = {
    "zero": _beside_bare("No latency, concurrency 100", rows=60_000, concurrency=100),
    "workers": Scenario(
        "No latency, one process and two", 60_000, (_rowroute(100), _rowroute(100, workers=2)), (), pinned=False
    ),
    "limit-0.1s": _limited("3,000 requests/min in slices of 0.1 s", "requests", 3_000, "--bucket-s", "0.1"),
    "limit-1s": _limited("3,000 requests/min in slices of 1 s", "requests", 3_000, "--bucket-s", "1"),
    "limit-60s": _limited("3,000 requests/min in a slice of 60 s", "requests", 3_000, "--bucket-s", "60"),
    "limit-tokens": _limited("480,000 tokens/min in slices of 1 s", "tokens", 480_000, "--bucket-s", "1"),
    "limit-told": _limited(
        "3,000 requests/min, told by headers only", "requests", 3_000, "--bucket-s", "1", declared=False
    ),
    "latency": _beside_bare(
        "500 ms latency, concurrency 1,000", rows=40_000, concurrency=1000, server=("--latency-ms", "500")
    ),
}
