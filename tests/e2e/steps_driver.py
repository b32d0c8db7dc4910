"""Runs a job once for every step of its final write, and lets that step kill the run or fail; for test_faults_process.

A step is a call of os.fsync or os.replace. Everything is imported once and each run is a fork, so that a step costs no
start-up. Prints a JSON line a run: exit code, digest of outputs.parquet, and what was left half written.
"""

import errno
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pipeline.run  # noqa: F401
from pipeline.cli import main

_MOST_STEPS = 40


def spoil(wanted: int, how: str) -> None:
    """Make the call number *wanted* of this process fail in the way of *how*."""
    calls = 0

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def step(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == wanted:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, how)
                raise OSError(number, os.strerror(number), str(arguments[0]))
            real(*arguments)

        setattr(os, name, step)

    wrap("fsync")
    wrap("replace")


def run_spoiled(wanted: int, how: str, job: str) -> int:
    """Return the exit code of a run whose step *wanted* is spoiled; negative: the signal that killed it."""
    child = os.fork()
    if child == 0:
        spoil(wanted, how)
        try:
            main(["run", job, "--quiet"])
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(int(end.code or 0))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def look(folder: Path, code: int) -> str:
    """Return what can be seen after a run."""
    digest = hashlib.sha256((folder / "outputs.parquet").read_bytes()).hexdigest()
    return json.dumps({"code": code, "outputs": digest, "partial": [path.name for path in folder.rglob("*.partial")]})


if __name__ == "__main__":
    way, job_file, output = sys.argv[1:]
    for number in range(1, _MOST_STEPS):
        ended = run_spoiled(number, way, job_file)
        sys.stdout.write(look(Path(output), ended) + "\n")
        sys.stdout.flush()
        if ended == 0:
            break
