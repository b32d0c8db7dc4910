"""Runs of a job in processes that can be killed, forked from one that has imported everything already."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.run import RunOptions, run_job
from tests.e2e.command import CANARY

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.e2e.children"])


def _run(job: Path, options: dict[str, Any]) -> None:
    os.environ["CHAOS_API_KEY"] = CANARY
    sys.exit(run_job(RunOptions(job, **options)).exit_code)


def start(job: Path, **options: Any) -> BaseProcess:
    """Start a run of the job file *job* with `RunOptions` of *options*."""
    process = _CONTEXT.Process(target=_run, args=(job, options), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for the end of *process* and return its exit code, negative after a signal."""
    process.join(60)
    code = process.exitcode
    if code is None:
        process.kill()
        raise TimeoutError("the run did not end")
    return code


def run(job: Path, **options: Any) -> int:
    """Run the job file *job* to its end."""
    return finish(start(job, **options))
