"""A night on which everything goes wrong a little: every row comes back right all the same."""

import time
from pathlib import Path

from tests.chaos.process import server_process
from tests.chaos.scenarios import mixed_faults
from tests.e2e.checking import own_answers, statuses, violations
from tests.e2e.command import make_job, run

ROWS = 2000


def test_mixed_faults_cost_no_row(tmp_path: Path) -> None:
    """Of 2,000 rows under 429, 500, empty choices, HTML, resets and silence all are right, in a minute."""
    with server_process(tmp_path, mixed_faults()) as server:
        job = make_job(tmp_path, server.base_url, rows=ROWS, provider="timeout_s = 2")
        began = time.monotonic()
        done = run(job, timeout_s=100)
        took_s = time.monotonic() - began
        assert done.returncode == 0
        assert statuses(job) == {"ok": ROWS}
        assert own_answers(job)
        assert took_s <= 60
        assert violations(job, server, 0, max_attempts=60) == []
    summary = job.summary()
    assert summary["maybe_paid"] > 0
    assert summary["rate_limited"] > 50
