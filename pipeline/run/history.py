"""`rowroute history`: the nights of a job, as its ledger remembers them."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.compare import drift
from pipeline.errors import JobError
from pipeline.ledger import connect, last_runs
from pipeline.run.options import RunOptions, load


def job_history(job_file: Path, output: str | None, limit: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the last *limit* nights, oldest first, each as its last run left it, and how the newest one drifts.

    A night has night, run, finished_at (UTC, ISO 8601), exit_code, rows, statuses, spent_tonight_usd and, where a
    comparison was written, its headline.

    Raises:
        JobError: when the job can't be read, or no run of it was ever started.
    """
    job = load(RunOptions(job_file, output=output))
    path = Path(job.output.path) / "state" / "ledger.sqlite"
    if not path.exists():
        raise JobError(f"{path}: there is no ledger, so no night to look back on; run the job first")
    with closing(connect(path, job.name)) as connection:
        runs = last_runs(connection, limit=20 * limit)
    nights: dict[int, dict[str, Any]] = {}
    for run in reversed(runs):
        if run["summary"] is not None:
            nights[run["night"]] = _night(run)
    kept = list(nights.values())[-limit:]
    return kept, drift([night["comparison"] for night in kept if night["comparison"]])


def _night(run: dict[str, Any]) -> dict[str, Any]:
    summary = json.loads(run["summary"])
    return {
        "night": run["night"],
        "run": run["id"],
        "finished_at": datetime.fromtimestamp(run["finished_at"], UTC).isoformat(timespec="seconds"),
        "exit_code": run["exit_code"],
        "rows": summary["rows"],
        "statuses": summary["statuses"],
        "spent_tonight_usd": summary["spent_tonight_usd"],
        "comparison": summary.get("comparison"),
    }
