"""A job over several dialects at once: the column `dialect` of a row says which model takes it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import Task

CANARY = "sk-CANARY-peers-0123456789"


class Peer(NamedTuple):
    """A way to a server: the dialect, where it is spoken, the model to ask for and what that takes."""

    adapter: str
    base_url: str
    model: str = "gpt-4o-mini"
    options: str = "{}"  # TOML
    batch: str = ""  # the dialect of its batch API, where rows are to go into batches


class Result(NamedTuple):
    """What came of a run."""

    exit_code: int
    told: str
    outputs: pa.Table
    artefacts: bytes  # all that was written and printed

    def column(self, name: str) -> list[Any]:
        """Return a column of the outputs."""
        values: list[Any] = self.outputs[name].to_pylist()
        return values


def run_job(
    folder: Path, peers: Mapping[str, Peer], prompts: Sequence[str], *, prompt: str = "", more: str = "", set_: str = ""
) -> Result:
    """Ask every peer every prompt, in one run of the command."""
    rows = [(name, text) for text in prompts for name in peers]
    table = pa.table({"dialect": [name for name, _ in rows], "prompt": [text for _, text in rows]})
    pq.write_table(table, folder / "in.parquet")
    names = ", ".join(f'"{name}"' for name in peers)
    cells = "\n".join(f"{task} = [{names}]" for task in Task)
    text = f"""
name = "peers"
[input]
path = "{folder / "in.parquet"}"
[prompt]
column = "prompt"
max_output_tokens = 32
{prompt}
[route]
escalate = false
{'batch = "always"' if any(peer.batch for peer in peers.values()) else ""}
[route.table.balanced]
{cells}
[output]
path = "{folder / "out"}"
{more}
"""
    (folder / "job.toml").write_text(text + "".join(_entries(name, peer) for name, peer in peers.items()))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "run",
            str(folder / "job.toml"),
            "--quiet",
            *(["--wait"] if any(peer.batch for peer in peers.values()) else []),
            *(["--set", set_] if set_ else []),
        ],
        env={**os.environ, "PEER_API_KEY": CANARY, "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = done.stdout + done.stderr
    assert (folder / "out" / "outputs.parquet").exists(), told
    written = b"".join(path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file())
    return Result(done.returncode, told, pq.read_table(folder / "out" / "outputs.parquet"), written + told.encode())


def _entries(name: str, peer: Peer) -> str:
    batch = f'batch = "{peer.batch}"\nbatch_poll_s = 0.05' if peer.batch else ""
    price = 'batch_price = "0.5"' if peer.batch else ""
    return f"""
[providers.{name}]
adapter = "{peer.adapter}"
base_url = "{peer.base_url}"
key_env = "PEER_API_KEY"
concurrency = 8
max_attempts = 10
{batch}
[models.{name}]
provider = "{name}"
api_name = "{peer.model}"
context_tokens = 2000
input_usd_per_mtok = "1"
output_usd_per_mtok = "2"
{price}
only = {{ dialect = ["{name}"] }}
options = {peer.options}
"""
