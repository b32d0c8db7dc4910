"""Faults of the process and its surroundings, P1 to P19 of docs/faults.md; kills and signals are in test_kills."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.chaos.invariants import Rate, snapshot
from tests.chaos.ledger_rows import read_ledger
from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.checking import (
    CONCURRENCY,
    Arrivals,
    a_case,
    started,
    violations,
    wait_until,
)
from tests.e2e.command import CANARY, Job, command, environment, make_job, marked_rows, run

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("way", ["kill", "ENOSPC", "EIO"])
def test_the_output_is_the_old_or_the_new_one_at_every_step(tmp_path: Path, way: str) -> None:
    """Whichever step of the final write kills the run or fails, a whole file stands there, and a rerun asks nothing."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=50)
        assert run(job).returncode == 0
        old = hashlib.sha256((job.output / "outputs.parquet").read_bytes()).hexdigest()
        pq.write_table(marked_rows(51), job.input)
        driver = [sys.executable, "-m", "tests.e2e.steps_driver", way, str(job.file), str(job.output)]
        told = subprocess.run(driver, env=environment(), cwd=_ROOT, capture_output=True, text=True, check=True)
        assert len(server.exchanges()) == 51
        assert violations(job, server, 0) == []
    *spoiled, last = [json.loads(line) for line in told.stdout.splitlines()]
    new = last["outputs"]
    digests = [seen["outputs"] for seen in spoiled]
    assert len(spoiled) >= 12  # plan, outputs, quarantine, comparison, summary: three steps each, at least
    assert set(digests) == {old, new}
    assert digests == sorted(digests, key=[old, new].index)  # never the old one again
    assert last["code"] == 0
    assert {seen["code"] for seen in spoiled} == {-9 if way == "kill" else 2}
    if way != "kill":
        assert all(seen["partial"] == [] for seen in spoiled)
        assert os.strerror(getattr(errno, way)) in told.stderr


def test_one_run_at_a_time_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    """A second run ends with 75, names the first and changes no byte; after kill -9 of the first another one goes on."""
    with server_process(tmp_path, rules(({"first": CONCURRENCY}, {"fault": "hang"}))) as server:
        job = make_job(tmp_path, server.base_url, rows=100)
        arrivals = Arrivals(server.log_path)
        with started(job) as holder:
            assert wait_until(lambda: arrivals.count() == CONCURRENCY, holder)
            before = _contents(job.output)
            with started(job) as second:
                assert second.wait(timeout=60) == 75
            assert _contents(job.output) == before
            assert f"process {holder.pid} on " in (tmp_path / "stderr.log").read_text()
            assert CANARY not in _process_list()
        assert arrivals.count() == CONCURRENCY
        assert run(job).returncode == 0
        assert violations(job, server, 0, kills=1) == []


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _process_list() -> str:
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "pipeline run" in listed
    return listed


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of *size* in *folder*; skip the test where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """When the disk is full the run stops with the reason; with more room the same command completes."""
    with small_disk(tmp_path, "1m") as disk, server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=3000)
        job = job._replace(folder=tmp_path)
        line = ["--output", str(disk / "out")]
        full = run(job, *line)
        assert full.returncode == 2
        assert "No space left" in full.stderr
        sent = len(server.exchanges())
        assert CONCURRENCY < sent < 3000
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert run(job, *line).returncode == 0
        # What the full disk did not take is asked again, as after a kill.
        assert len(server.exchanges()) <= 3000 + CONCURRENCY
        assert violations(job, server, 0, output=disk / "out", kills=1) == []


def test_a_disk_that_fails_is_not_believed(tmp_path: Path) -> None:
    """When the ledger can't be written the run stops with the reason, and nothing unwritten counts as done."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=3000)
        done = run_limited(job, "RLIMIT_FSIZE", 500_000)
        assert done.returncode == 2
        assert "ledger.sqlite: the ledger can't be used: disk I/O error" in done.stderr
        sent = len(server.exchanges())
        assert CONCURRENCY < sent < 3000
        assert run(job).returncode == 0
        assert len(server.exchanges()) <= 3000 + CONCURRENCY
        assert violations(job, server, 0, kills=1) == []


def run_limited(job: Job, limit: str, value: int) -> subprocess.CompletedProcess[str]:
    """Run *job* under a resource limit."""
    program = f"import os, resource, sys; resource.setrlimit(resource.{limit}, ({value}, {value})); os.execv(sys.argv[1], sys.argv[1:])"
    line = [sys.executable, "-c", program, *command(job)]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", ["below a file", "a name that leads nowhere"])
def test_an_output_that_can_not_be_written_is_told_before_anything_is_sent(tmp_path: Path, place: str) -> None:
    """Where no folder can be made the run ends with 2 and the reason, and nothing is sent."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=5)
        if place == "below a file":
            output = job.input / "out"
        else:
            output = tmp_path / "link"
            output.symlink_to(tmp_path / "nowhere" / "deep")
        done = run(job, "--output", str(output))
        assert server.exchanges() == []
    assert done.returncode == 2
    assert f"output.path: {output} can't be written: " in done.stderr


def test_a_link_in_the_place_of_the_output_is_replaced_not_followed(tmp_path: Path) -> None:
    """An output folder that is missing or a link is fine; a link named outputs.parquet does not carry the write away."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=5)
        precious = tmp_path / "precious"
        precious.write_text("mine")
        real = tmp_path / "real"
        real.mkdir()
        (real / "outputs.parquet").symlink_to(precious)
        job.output.symlink_to(real)
        assert run(job, "--overwrite").returncode == 0
        assert violations(job, server, 0) == []
    assert precious.read_text() == "mine"


def test_a_clock_that_jumps_changes_no_pace(tmp_path: Path) -> None:
    """When the clock goes back by months and forward by an hour in mid-run, no request is late, early or lost."""
    program = textwrap.dedent(
        """
        import sys, time
        real, calls = time.time, 0
        def jumping():
            global calls
            calls += 1
            return real() + (0 if calls < 100 else -214 * 86400 if calls < 200 else 3600)
        time.time = jumping
        from pipeline.cli import main
        main(sys.argv[1:])
        """
    )
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=300, provider="requests_per_min = 9000")
        line = [sys.executable, "-c", program, "run", str(job.file), "--quiet"]
        assert subprocess.run(line, env=environment(), check=False, timeout=60).returncode == 0
        times = [one.arrival.t for one in server.exchanges()]
        assert violations(job, server, 0, rates=[Rate(9000)]) == []
    assert len({int(started) // 86400 for started in _started(job)}) >= 2  # it did jump
    assert max(after - before for before, after in pairwise(times)) < 5.0


def _started(job: Job) -> list[float]:
    return [attempt.started_at for attempt in read_ledger(job.output / "state" / "ledger.sqlite").attempts]


def test_nobody_need_listen(tmp_path: Path) -> None:
    """A run whose output goes to a closed pipe, as behind `head`, still does its work and says 0."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=50)
        reader, writer = os.pipe()
        os.close(reader)
        with subprocess.Popen(command(job), env=environment(TERM="dumb"), stdout=writer, stderr=writer) as process:
            os.close(writer)
            assert process.wait(timeout=60) == 0
        assert violations(job, server, 0) == []


def test_nothing_need_be_open(tmp_path: Path) -> None:
    """A run that was started without stdin, stdout and stderr does its work and ends with 0."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=50)
        line = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command(job)]
        assert subprocess.run(line, env=environment(), check=False, timeout=60).returncode == 0
        assert violations(job, server, 0) == []


def test_what_cron_mails_is_plain_text(tmp_path: Path) -> None:
    """Without a terminal there is no progress bar and no control character in what is said."""
    with server_process(tmp_path, {}) as server:
        done = run(make_job(tmp_path, server.base_url, rows=50), env=environment(TERM="dumb"))
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert "requests/s" not in said


def test_a_ledger_that_is_gone_is_missed(tmp_path: Path) -> None:
    """With outputs but no ledger the run refuses, as it would pay for everything anew; --overwrite says to do so."""
    with server_process(tmp_path, {}) as server:
        job = make_job(tmp_path, server.base_url, rows=20)
        assert run(job).returncode == 0
        before = snapshot(a_case(job, server, 0))
        for file in (job.output / "state").glob("ledger.sqlite*"):
            file.unlink()
        refused = run(job)
        assert refused.returncode == 2
        assert "ledger.sqlite: is gone, but outputs.parquet is there" in refused.stderr
        assert violations(job, server, 2, before=before, kills=20) == []
        assert run(job, "--overwrite").returncode == 0
        assert len(server.exchanges()) == 40


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ((), 0),
        (("prompt.max_output_tokens=65",), 30),
        (("prompt.temperature=0.5",), 30),
        (("prompt.system=Be brief.",), 30),
    ],
    ids=["nothing", "tokens", "temperature", "system text"],
)
def test_a_change_of_what_is_asked_is_shown_before_it_costs(finished: Job, change: tuple[str, ...], new: int) -> None:
    """The plan counts the rows that a change of prompt or parameters makes new, and sends nothing."""
    line = [argument for one in change for argument in ("--set", one)]
    plan = json.loads(run(finished, "--dry-run", "--json", *line).stdout)["plan"]
    assert (plan["new"], plan["reused"]) == (new, 30 - new)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job of 30 rows that has run."""
    folder = tmp_path_factory.mktemp("finished")
    with server_process(folder, {}) as server:
        job = make_job(folder, server.base_url, rows=30)
        assert run(job).returncode == 0
    return job
