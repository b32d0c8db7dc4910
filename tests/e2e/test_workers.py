"""One job by several processes: `run --workers`."""

import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq

from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import CONCURRENCY, Arrivals, sent_twice, started, violations, wait_until
from tests.e2e.command import command, environment, make_job, run


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """Every row gets its own answer once, in order; nothing is left beside the ledger, and a second run sends nothing."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=1000)
        done = run(job, "--workers", "2")
        assert done.returncode == 0, done.stderr
        assert violations(job, server, 0) == []
        assert len(server.exchanges()) == 1000
        assert len({one.arrival.connection for one in server.exchanges()}) <= CONCURRENCY
        assert run(job, "--workers", "3").returncode == 0
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 1000
    assert job.outputs().select(["id", "prompt", "n"]).equals(pq.read_table(job.input))
    assert sorted(path.name for path in (job.output / "state").glob("ledger*")) == ["ledger.sqlite"]


def test_after_a_kill_nothing_of_any_process_is_lost(tmp_path: Path) -> None:
    """The first process is killed and takes the others along; the next run takes up what each of them had settled."""
    with server_process(tmp_path, rules(({}, {"latency_s": 0.02}))) as server:
        job = make_job(tmp_path, server.base_url, rows=2000)
        arrivals = Arrivals(server.log_path)
        with started(job, "--workers", "2") as process:
            assert wait_until(lambda: arrivals.count() >= 600, process)
            process.kill()
            process.wait()
        sent = -1
        while sent != (sent := arrivals.count()):  # the orphans notice by themselves
            time.sleep(0.5)
        assert sent < 2000
        assert wait_until(lambda: run(job).returncode != 75)
        assert sent_twice(server) <= job.summary()["paid_twice_at_most"] <= CONCURRENCY
        assert violations(job, server, 0, kills=1) == []


def test_processes_share_the_limits(tmp_path: Path) -> None:
    """Two processes together keep to the declared rate and the declared amount of the day."""
    bucket = {"buckets": [{"requests_per_min": 1200, "window_s": 1}]}
    with server_process(tmp_path, bucket) as server:
        limits = "requests_per_min = 1200\nrequests_per_day = 80"
        job = make_job(tmp_path, server.base_url, rows=100, provider=limits)
        done = run(job, "--workers", "2")
        statuses = [one.completion.status for one in server.exchanges() if one.completion]
    assert done.returncode == 3
    assert statuses.count(200) == 80
    assert statuses.count(429) <= 2


def test_a_signal_reaches_every_process(tmp_path: Path) -> None:
    """After SIGTERM all finish what is under way, exit code 143, and the next run pays for nothing twice."""
    with server_process(tmp_path, rules(({}, {"latency_s": 0.1}))) as server:
        job = make_job(tmp_path, server.base_url, rows=1500)
        arrivals = Arrivals(server.log_path)
        with subprocess.Popen(command(job, "--workers", "2"), env=environment(), stderr=subprocess.PIPE) as process:
            assert wait_until(lambda: arrivals.count() >= 200)
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 143
        assert arrivals.count() < 1500
        assert run(job).returncode == 0
        assert sent_twice(server) == 0
