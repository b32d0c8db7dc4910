"""A job that is cut off again and again: nothing is lost, nothing is there twice, and little is paid twice.

The ordinary run is short; ROWROUTE_CHAOS=long asks for 50 kills of a job of 20,000 rows.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.invariants import snapshot, watch_output
from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import CONCURRENCY, Arrivals, a_case, own_answers, sent_twice, started, violations, wait_until
from tests.e2e.command import Job, make_job, run

LONG = os.environ.get("ROWROUTE_CHAOS") == "long"
ROWS, KILLS, SIGNALS = (20_000, 50, 10) if LONG else (3_000, 12, 3)
BUSY = rules(({}, {"latency_s": [0.0, 0.05]}))
STARTING_S = 1.5  # about what a run takes to its first request


def cut_off(job: Job, arrivals: Arrivals, rng: random.Random, how: signal.Signals) -> int:
    """Start a run and send it the signal *how* at a random moment, mostly while it asks; return its exit code."""
    before = arrivals.count()
    with started(job, "--quiet") as process:
        if rng.random() < 0.25:
            begins_at = time.monotonic() + rng.uniform(0.0, STARTING_S)
            wait_until(lambda: time.monotonic() >= begins_at or arrivals.count() > before, process)
        else:
            target = before + rng.randint(1, ROWS // KILLS)
            wait_until(lambda: arrivals.count() >= target, process)
            wait_for(process, rng.uniform(0.0, 0.03))
        process.send_signal(how)
        return process.wait(timeout=60)


def wait_for(process: subprocess.Popen[str], seconds: float) -> None:
    """Let *process* run on for so long, or to its end."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


@pytest.mark.timeout(1200 if LONG else 120)
def test_a_job_survives_kills_at_any_moment(tmp_path: Path) -> None:
    """After each kill -9 the same command goes on: no row is lost or there twice, and a kill pays 64 at most twice."""
    rng = random.Random(20261124)
    with server_process(tmp_path, BUSY) as server:
        job = make_job(tmp_path, server.base_url, rows=ROWS)
        arrivals = Arrivals(server.log_path)
        with watch_output(job.output) as sightings:
            codes = [cut_off(job, arrivals, rng, signal.SIGKILL) for _ in range(KILLS)]
            assert set(codes) == {-signal.SIGKILL}
            assert run(job).returncode == 0
        assert own_answers(job)
        assert sent_twice(server) <= job.summary()["paid_twice_at_most"] <= KILLS * CONCURRENCY
        before = snapshot(a_case(job, server, 0))
        assert run(job).returncode == 0
        logs = (tmp_path / "stdout.log", tmp_path / "stderr.log")
        assert violations(job, server, 0, kills=KILLS, before=before, sightings=sightings, artefacts=logs) == []


@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_job_survives_signals_at_any_moment(tmp_path: Path, how: signal.Signals, code: int) -> None:
    """After each SIGTERM or SIGINT the same command goes on, and nothing at all is paid twice."""
    rng = random.Random(how)
    with server_process(tmp_path, BUSY) as server:
        job = make_job(tmp_path, server.base_url, rows=ROWS // 2)
        arrivals = Arrivals(server.log_path)
        codes = [cut_off(job, arrivals, rng, how) for _ in range(SIGNALS)]
        # Before it asks there is nothing to bring to an end, and the signal does what it does to any program.
        assert set(codes) <= {code, -how}
        assert run(job).returncode == 0
        assert own_answers(job)
        assert sent_twice(server) == 0
        assert violations(job, server, 0) == []


def test_a_grace_that_runs_out_costs_what_was_in_flight(tmp_path: Path) -> None:
    """When requests do not end within the grace they are cut off and told of, and the same command asks them again."""
    with server_process(tmp_path, rules(({"first": CONCURRENCY}, {"fault": "hang"}))) as server:
        job = make_job(tmp_path, server.base_url, rows=200)
        arrivals = Arrivals(server.log_path)
        with started(job, "--grace", "0.2") as process:
            assert wait_until(lambda: arrivals.count() == CONCURRENCY, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 143
        assert run(job).returncode == 0
        assert sent_twice(server) == job.summary()["paid_twice_at_most"] == CONCURRENCY
        assert violations(job, server, 0, kills=1) == []
