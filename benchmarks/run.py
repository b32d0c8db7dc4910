"""Scenarios of `rowroute run` beside a bare aiohttp loop and tools of others, all against the benchmark server."""

import sys

from benchmarks.harness import Contender, Place, Scenario, Told

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


_AT_ONCE = 64  # requests under way where a limit is the bound


def _bare(concurrency: int, *more: str) -> Contender:
    def command(place: Place) -> list[str]:
        options = ["--rows", str(place.rows), "--concurrency", str(concurrency)]
        return [sys.executable, "-m", "benchmarks.bare", place.url, *options, *more]

    return Contender("bare aiohttp loop" if not more else "the same, uvloop and msgspec", command)


def rowroute_run(concurrency: int, *, limits: str = "", workers: int = 1) -> Contender:
    """Return the whole command, every row to one model."""

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
    alone = (_bare(concurrency), rowroute_run(concurrency), _bare(concurrency, "--fast"))
    return Scenario(title, rows, alone, server, peers=Told(concurrency))


def _limited(title: str, unit: str, per_min: int, *options: str, declared: bool = True) -> Scenario:
    """Return a scenario in which the server enforces so many requests or tokens a minute; see `--bucket-s`."""
    key, counted = ("rpm", "answered") if unit == "requests" else ("tpm", "tokens")
    contender = rowroute_run(_AT_ONCE, limits=f"{unit}_per_min = {per_min}" if declared else "")
    return Scenario(title, 1_500, (contender,), (f"--{key}", str(per_min), *options), limit=(counted, per_min))


def _enforced(title: str, unit: str, per_min: int) -> Scenario:
    """Return the same beside tools of others, at the latencies of a provider: a refusal is quicker than an answer."""
    alone = _limited(title, unit, per_min, "--bucket-s", "1", "--latency-ms", "200", "--refusal-ms", "50")
    return alone._replace(rows=1_000, peers=Told(_AT_ONCE, **{f"{unit}_per_min": per_min}))


RUN_SCENARIOS = {
    "zero": _beside_bare("No latency, concurrency 100", rows=60_000, concurrency=100),
    "workers": Scenario(
        "No latency, one process and two", 60_000, (rowroute_run(100), rowroute_run(100, workers=2)), (), pinned=False
    ),
    "limit-0.1s": _limited("3,000 requests/min in slices of 0.1 s", "requests", 3_000, "--bucket-s", "0.1"),
    "limit-1s": _limited("3,000 requests/min in slices of 1 s", "requests", 3_000, "--bucket-s", "1"),
    "limit-60s": _limited("3,000 requests/min in a slice of 60 s", "requests", 3_000, "--bucket-s", "60"),
    "limit-tokens": _limited("480,000 tokens/min in slices of 1 s", "tokens", 480_000, "--bucket-s", "1"),
    "limit-told": _limited(
        "3,000 requests/min, told by headers only", "requests", 3_000, "--bucket-s", "1", declared=False
    ),
    "enforced-requests": _enforced("3,000 requests/min in slices of 1 s, 200 ms latency", "requests", 3_000),
    "enforced-tokens": _enforced("480,000 tokens/min in slices of 1 s, 200 ms latency", "tokens", 480_000),
    "latency": _beside_bare(
        "500 ms latency, concurrency 1,000", rows=60_000, concurrency=1000, server=("--latency-ms", "500")
    ),
}
