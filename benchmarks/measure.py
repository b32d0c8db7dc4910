"""Runs a whole command and says what it cost; runs the server on a core of its own.

Only the standard library is imported here: Linux counts the memory of the process that starts a command into the peak
of the command, so the starter must be smaller than everything it measures.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


class Sample(NamedTuple):
    """What one command cost, from start to end, its own children included."""

    wall_s: float  # what the command itself says, where it reports `loop_wall_s`
    cpu_s: float  # user and system; what the command itself says, where it reports `loop_cpu_s`
    process_cpu_s: float
    peak_rss_mb: float
    lost: int = 0  # rows without an answer, as it reports


class CommandError(Exception):
    """Raised when a command under test does not end well: there is nothing to measure then."""


def measure(command: list[str], log: Path) -> Sample:
    """Run *command* with its output in *log*.

    Raises:
        CommandError: when it does not end with status 0.
    """
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if process.returncode != 0:
        raise CommandError(f"{' '.join(command)} ended with {process.returncode}: {text[-1000:]}")
    cpu_s = used.ru_utime + used.ru_stime
    told = _reported(text)
    return Sample(
        wall_s=told.get("loop_wall_s", wall_s),
        cpu_s=told.get("loop_cpu_s", cpu_s),
        process_cpu_s=cpu_s,
        peak_rss_mb=used.ru_maxrss * _RSS_UNIT / 1e6,
        lost=told.get("lost", 0),
    )


def _reported(text: str) -> dict[str, Any]:
    """Return what a command reports about its loop in a last line of JSON."""
    try:
        reported = json.loads(text.rpartition("\n")[2])
    except json.JSONDecodeError:
        return {}
    return reported if isinstance(reported, dict) else {}


class Server(NamedTuple):
    """A running benchmark server."""

    url: str

    def reset(self) -> None:
        """Zero the counters and fill the buckets."""
        self._call("/reset", method="POST")

    def stats(self) -> dict[str, Any]:
        """Return the counters since the last reset."""
        found: dict[str, Any] = json.loads(self._call("/stats", method="GET"))
        return found

    def _call(self, path: str, *, method: str) -> bytes:
        request = urllib.request.Request(self.url.removesuffix("/v1") + path, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            body: bytes = response.read()
            return body


@contextmanager
def open_server(*options: str) -> Iterator[Server]:
    """Serve on the last core while the block lasts."""
    with pinned(last=True):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    with process:  # leaving closes its input, and it ends
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip())


@contextmanager
def pinned(*, last: bool) -> Iterator[None]:
    """Keep this process, and those it starts meanwhile, on the first or *last* of its cores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores) if last else min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
