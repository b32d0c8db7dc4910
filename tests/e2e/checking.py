"""What the fault tests share: a job's runs held against the invariants, and waiting for what the server has seen."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.records import Parameters
from tests.chaos.invariants import Case, Price, check
from tests.chaos.process import ServerProcess
from tests.e2e.command import CANARY, Job, command, environment

CONCURRENCY = 64  # of the jobs that `make_job` writes
PARAMETERS = Parameters(max_output_tokens=64, temperature=0.0)
PRICES = {"m": Price(Decimal("0.15"), Decimal("0.15"), Decimal("0.60"))}
_PATIENCE_S = 60.0


def a_case(job: Job, server: ServerProcess, exit_code: int, **more: Any) -> Case:
    """Return what the checker must know of the runs of *job*, the last of which ended with *exit_code*."""
    told: dict[str, Any] = {
        "input": job.input,
        "id_column": "id",
        "prompt_column": "prompt",
        "output": job.output,
        "server_log": server.log_path,
        "exit_code": exit_code,
        "concurrency": CONCURRENCY,
        "prices": PRICES,
        "parameters": PARAMETERS,
        "secrets": (CANARY,),
    }
    return Case(**(told | more))


def violations(job: Job, server: ServerProcess, exit_code: int, **more: Any) -> list[str]:
    """Return what the checker finds; *more* is of `Case`."""
    return check(a_case(job, server, exit_code, **more))


class Arrivals:
    """Counts the requests in a server's log as they come, reading each line once."""

    def __init__(self, log_path: Path) -> None:
        self._path = log_path
        self._offset = 0
        self._count = 0

    def count(self) -> int:
        """Return how many requests have come so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._count += whole.count(b'"event":"arrive"')
        return self._count


@contextmanager
def started(job: Job, *arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a run of *job*; what it says is appended to stdout.log and stderr.log beside the job file."""
    with (job.folder / "stdout.log").open("a") as stdout, (job.folder / "stderr.log").open("a") as stderr:
        process = subprocess.Popen(
            command(job, *arguments), env=env or environment(), stdout=stdout, stderr=stderr, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> bool:
    """Wait until *holds*; False when *process* ended before.

    Raises:
        TimeoutError: after a minute.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if process is not None and process.poll() is not None:
            return holds()
        if time.monotonic() > deadline:
            raise TimeoutError("it never came about")
        time.sleep(0.005)
    return True


def ended(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for the end of *process*; return its exit code and the most memory it had, in bytes."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss << 10


def sent_twice(server: ServerProcess) -> int:
    """Return how many requests the server saw beyond the first of each row."""
    marks = Counter(exchange.arrival.mark for exchange in server.exchanges())
    return marks.total() - len(marks)


def statuses(job: Job) -> dict[str, int]:
    """Return how many rows of the outputs have each status."""
    return dict(Counter(job.outputs()["llm_status"].to_pylist()))


def own_answers(job: Job, rows: Sequence[int] | None = None) -> bool:
    """Tell whether the answers of *rows*, of all if not given, each name the row they stand in."""
    out = job.outputs()
    pairs = list(zip(out["id"].to_pylist(), out["llm_answer"].to_pylist(), strict=True))
    return all(
        f"mark={mark};" in (answer or "") for mark, answer in (pairs if rows is None else [pairs[row] for row in rows])
    )
