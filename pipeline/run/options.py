"""What a command line says beside the job file, and what a run reports."""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from pipeline.compare import is_worse
from pipeline.errors import JobError
from pipeline.lanes import Counters
from pipeline.plan import Selection, Summary
from pipeline.spec import Job, load_job


class ExitCode(IntEnum):
    """What cron acts on."""

    OK = 0
    SOME_FAILED = 1  # finished, but more rows failed than tolerated
    CANNOT_RUN = 2
    STOPPED = 3  # auth, quota or a dead provider: rows are pending, run it again
    WAITING = 5  # finished but for rows in a provider's batch: run it again later
    CAP = 4  # the cost cap: rows are pending, raise it and run again
    WORSE = 6  # all went well, but quality is worse than the baseline's, and --fail-if worse was given
    DEFECT = 70
    LOCKED = 75
    INTERRUPTED = 130
    TERMINATED = 143


class Tolerance(NamedTuple):
    """How many rows may fail in a run that still counts as good: a number, or a share of the rows."""

    rows: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Tolerance":
        """Read `12` or `0.5%`.

        Raises:
            JobError: when *text* is neither.
        """
        try:
            tolerance = cls(share=float(text[:-1]) / 100) if text.endswith("%") else cls(rows=int(text))
        except ValueError:
            tolerance = cls(rows=-1)
        if tolerance.rows < 0 or not 0 <= tolerance.share <= 1:
            raise JobError(f"--tolerate {text}: write a number of rows, as in 12, or a share, as in 0.5%")
        return tolerance

    def allows(self, failed: int, rows: int) -> bool:
        """Tell whether *failed* of *rows* is still good."""
        return failed <= max(self.rows, self.share * rows)


class RunOptions(NamedTuple):
    """A job file and everything the command line adds to it."""

    job_file: Path
    overrides: tuple[str, ...] = ()
    input: str | None = None
    output: str | None = None
    selection: Selection = Selection()
    retry_failed: bool = False
    refresh: bool = False
    new_night: bool = False
    overwrite: bool = False
    tolerate: Tolerance = Tolerance()
    grace_s: float = 20.0
    wait: bool = False  # stay until the batches are answered
    off_peak: bool = False  # no request starts in hours that are dearer than others of the week
    record: Path | None = None
    workers: int = 1  # processes that ask
    ledger_text: Literal["full", "hash"] = "full"  # hash: no prompt and, once the output is written, no answer is kept
    confirm: Callable[[Summary], bool] = lambda _plan: True
    watch: Callable[[Counters, int], object] = lambda _counters, _requests: None  # called a few times a second


class Report(NamedTuple):
    """How a run ended."""

    exit_code: ExitCode
    summary: dict[str, Any]
    plan: Summary | None = None
    comparison: pa.Table | None = None
    warnings: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Return whether the routed answers are worse than the baseline's."""
        return self.comparison is not None and is_worse(self.comparison)


def load(options: RunOptions) -> Job:
    """Return the job of *options*, with the overrides applied."""
    overrides = list(options.overrides)
    for key, value in (("input.path", options.input), ("output.path", options.output)):
        if value is not None:
            overrides.append(f"{key}={value}")
    return load_job(options.job_file, overrides)
