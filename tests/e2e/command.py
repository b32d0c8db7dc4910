"""The command as users run it: a process, an input of marked rows, a job file for the chaos server."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

CANARY = "sk-CANARY-openai-0123456789"
MODELS = ("code", "classification", "reasoning", "translation", "creative", "general", "vision")


class Job(NamedTuple):
    """A job in a folder of its own."""

    folder: Path
    file: Path

    @property
    def input(self) -> Path:
        """Return the input file."""
        return self.folder / "in.parquet"

    @property
    def output(self) -> Path:
        """Return the output folder."""
        return self.folder / "out"

    def summary(self) -> dict[str, Any]:
        """Return what the last run wrote as its summary."""
        return dict(json.loads((self.output / "summary.json").read_text()))

    def outputs(self) -> pa.Table:
        """Return the outputs."""
        return pq.read_table(self.output / "outputs.parquet")


def marked_rows(rows: int, *, first: int = 0, padding: str = "") -> pa.Table:
    """Return rows whose answers can be told apart: the server echoes each prompt's mark."""
    numbers = range(first, first + rows)
    prompts = [f"mark=row-{number:06}; Say it back.{padding}" for number in numbers]
    return pa.table({"id": [f"row-{number:06}" for number in numbers], "prompt": prompts, "n": list(numbers)})


def make_job(folder: Path, base_url: str, *, rows: int | pa.Table = 100, provider: str = "", more: str = "") -> Job:
    """Write input and job file: one model `m` of provider `chaos` takes every task."""
    table = marked_rows(rows) if isinstance(rows, int) else rows
    pq.write_table(table, folder / "in.parquet")
    cells = "\n".join(f'{task} = "m"' for task in MODELS)
    text = f"""
name = "chaos"
[input]
path = "{folder / "in.parquet"}"
id = "id"
[prompt]
column = "prompt"
max_output_tokens = 64
[route]
escalate = false
[route.table.balanced]
{cells}
[providers.chaos]
adapter = "openai"
base_url = "{base_url}"
key_env = "CHAOS_API_KEY"
concurrency = 64
{provider}
[models.m]
provider = "chaos"
context_tokens = 100000
vision = true
input_usd_per_mtok = "0.15"
output_usd_per_mtok = "0.60"
[output]
path = "{folder / "out"}"
report = false
{more}
"""
    (folder / "job.toml").write_text(text)
    return Job(folder, folder / "job.toml")


def escalating(job: Job) -> None:
    """Give *job* a dearer model `big` that is asked where `m` has no sound answer."""
    text = job.file.read_text().replace("escalate = false", "escalate = true")
    table, cells = "[route.table.balanced]\n", text.split("[route.table.balanced]\n")[1].split("[providers")[0]
    text = text.replace(table, "[route.table.quality]\n" + cells.replace('"m"', '"big"') + table)
    text += """
[models.big]
provider = "chaos"
context_tokens = 100000
vision = true
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
"""
    job.file.write_text(text)


def command(job: Job, *arguments: str) -> list[str]:
    """Return the command line that runs *job*."""
    return [sys.executable, "-m", "pipeline", "run", str(job.file), *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a run: a key, and what finds the package."""
    path = str(Path(__file__).parents[2])
    return {**os.environ, "CHAOS_API_KEY": CANARY, "PYTHONPATH": path, "POLARS_MAX_THREADS": "1", **changes}


def run(
    job: Job, *arguments: str, timeout_s: float = 100, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *job* to its end."""
    return subprocess.run(
        command(job, *arguments),
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
