"""Provider batches, B1 to B8 of docs/faults.md, and a kill at every step: never a second batch, never a lost row."""

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.run import Report, RunOptions, plan_job, run_job
from tests.chaos.batch_api import BatchApi, Lines, serve_batches
from tests.chaos.batch_dialects import DIALECTS
from tests.e2e import children
from tests.e2e.checking import own_answers, statuses
from tests.e2e.command import CANARY, Job, make_job
from tests.e2e.command import run as run_command

ROWS = 10
OK, WAITING, STOPPED = 0, 5, 3
# 20 tokens in at 0.15 and 10 out at 0.60 USD a million, and half of it in a batch.
ALONE, BATCHED = Decimal("0.000009"), Decimal("0.0000045")


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[BatchApi]:
    with serve_batches(DIALECTS[getattr(request, "param", "openai")]) as server:
        yield server


# Of the others only Anthropic's has no files, states of failure or lists of errors of its own.
of_files = pytest.mark.parametrize("api", ["openai", "gemini", "mistral"], indirect=True)
of_all = pytest.mark.parametrize("api", DIALECTS, indirect=True)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_API_KEY", CANARY)


def night(job: Job, **options: Any) -> Report:
    """Run *job* in this process, which takes a fraction of the time of one of its own."""
    return run_job(RunOptions(job.file, **options))


def a_job(folder: Path, api: BatchApi, *, route: str = "") -> Job:
    """Return a job whose only model goes into batches."""
    job = make_job(folder, api.base_url, rows=ROWS, provider=f'batch = "{api.dialect.name}"\nbatch_poll_s = 0.05')
    text = job.file.read_text().replace('adapter = "openai"', f'adapter = "{api.dialect.adapter}"')
    text = text.replace("[route]\n", f'[route]\nbatch = "always"\n{route}\n')
    text = text.replace('output_usd_per_mtok = "0.60"\n', 'output_usd_per_mtok = "0.60"\nbatch_price = "0.5"\n')
    job.file.write_text(text)
    return job


def told(report: Report) -> str:
    """Return what a run says at its end."""
    return "\n".join([*report.warnings, *map(str, report.summary.values())])


def costs(job: Job) -> Counter[Decimal]:
    """Return how many rows have which cost."""
    return Counter(job.outputs()["llm_cost_usd"].to_pylist())


def all_right(job: Job) -> bool:
    """Tell whether every row has its own answer."""
    return statuses(job) == {"ok": len(job.outputs())} and own_answers(job)


def test_a_night_waits_for_its_batch_and_costs_half(tmp_path: Path, api: BatchApi) -> None:
    """The first run hands a batch in and exits 5, the next one collects it and exits 0, a third one sends nothing."""
    api.polls_to_end = 2
    job = a_job(tmp_path, api)
    first = run_command(job)
    assert first.returncode == WAITING
    assert "waiting: m: batch batch-0: in_progress; run it again later" in first.stderr
    assert statuses(job) == {"pending": ROWS}
    assert plan_job(RunOptions(job.file)).warnings == (
        "m: 10 rows are in batch batch-0 already: they are among the new ones above",
    )
    assert children.run(job.file) == OK
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}
    before = (job.output / "outputs.parquet").read_bytes()
    assert children.run(job.file) == OK
    assert (job.output / "outputs.parquet").read_bytes() == before
    assert (len(api.batches), len(api.files), api.asked) == (1, 2, [])
    assert list((job.output / "state" / "batches").iterdir()) == []


@pytest.mark.parametrize(
    ("api", "event"),
    [
        (name, event)
        for name in DIALECTS
        for event in ("upload", "create", "made", "poll", "content")
        if (name, event) != ("anthropic", "upload")
    ],
    indirect=["api"],
)
def test_a_kill_at_any_step_never_makes_a_second_batch(tmp_path: Path, api: BatchApi, event: str) -> None:
    """Killed as the server gets or has done a step, the job goes on: one batch, every row once, each at half price."""
    job = a_job(tmp_path, api)
    started, armed = threading.Event(), [True]

    def kill() -> None:
        assert started.wait(10)
        if armed:
            armed.pop()
            os.kill(pids.pop(), signal.SIGKILL)

    pids: list[int] = []
    api.hooks[event] = kill
    process = children.start(job.file, wait=True)
    assert process.pid is not None
    pids.append(process.pid)
    started.set()
    assert children.finish(process) == -signal.SIGKILL
    assert night(job, wait=True).exit_code == OK
    assert len(api.batches) == 1
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}
    assert api.asked == []


@of_all
def test_a_crash_after_the_answer_to_a_create_adopts_the_batch(tmp_path: Path, api: BatchApi) -> None:
    """B1: a batch that was made, but whose id no disk knows, is found by its mark and taken over."""
    job = a_job(tmp_path, api)
    api.refuse["poll"] = [500]
    assert night(job).exit_code == WAITING
    with closing(sqlite3.connect(job.output / "state" / "ledger.sqlite")) as ledger:
        ledger.execute("UPDATE batches SET state = 'asked', batch_id = ''")
        ledger.commit()
    assert night(job).exit_code == OK
    assert len(api.batches) == 1
    assert all_right(job)


@of_all
def test_a_poll_that_fails_changes_nothing(tmp_path: Path, api: BatchApi) -> None:
    """B2: whatever a poll is answered, the batch is kept, waited for, and collected when the provider is back."""
    job = a_job(tmp_path, api)
    api.refuse["poll"] = [500, 401, 429]
    assert [night(job).exit_code for _ in range(4)] == [WAITING, WAITING, WAITING, OK]
    assert len(api.batches) == 1
    assert all_right(job)


def expired(lines: Lines) -> Lines:
    """Return the last four of ten lines as expired."""
    code = {"code": "batch_expired", "message": "This request could not be executed before the completion window"}
    return [{**line, "response": None, "error": code} for line in lines[6:]]


@of_files
def test_what_an_expired_batch_has_is_taken_and_the_rest_asked_again(tmp_path: Path, api: BatchApi) -> None:
    """B3: six of ten answers of an expired batch are taken at half price, the other four go into another batch."""
    job = a_job(tmp_path, api)
    api.ends_as, api.output, api.errors = "expired", lambda lines: lines[:6], expired
    api.hooks["create"] = lambda: (
        len(api.batches) == 1
        and vars(api).update(ends_as="completed", output=lambda lines: lines, errors=lambda lines: [])
    )
    assert night(job, wait=True).exit_code == OK
    assert [len(batch["lines"]) for batch in api.batches.values()] == [10, 4]
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}


@of_files
def test_a_batch_with_errors_only_is_judged_row_by_row(tmp_path: Path, api: BatchApi) -> None:
    """B4: of a completed batch without an output file each row is classed by its own error: refused, or asked again."""
    job = a_job(tmp_path, api)

    def errors(lines: Lines) -> Lines:
        bad = {"status_code": 400, "body": {"error": {"message": "no", "code": "context_length_exceeded"}}}
        busy = {"status_code": 503, "body": {"error": {"message": "busy"}}}
        return [{**line, "response": bad if place < 4 else busy} for place, line in enumerate(lines)]

    api.output, api.errors = lambda lines: [], errors
    assert night(job).exit_code == 1
    assert statuses(job) == {"failed": 4, "ok": 6}
    assert costs(job) == {Decimal(0): 4, ALONE: 6}
    assert len(api.asked) == 6


@of_files
def test_a_batch_that_fails_says_which_line_and_loses_nothing(tmp_path: Path, api: BatchApi) -> None:
    """B5: a batch that fails its validation is told, with the line where one is named, and asked one by one."""
    job = a_job(tmp_path, api)
    api.ends_as, api.problems = "failed", [{"line": 3, "message": "bad model", "code": "x"}]
    done = night(job)
    assert done.exit_code == OK
    line = "line 3: " if api.dialect.name == "openai" else ""  # nobody else tells it
    assert f"batch-0 failed: {line}bad model" in told(done)
    assert "its rows are asked one by one" in told(done)
    assert all_right(job)
    assert costs(job) == {ALONE: ROWS}


@pytest.mark.parametrize("api", ["mistral"], indirect=True)
def test_a_failed_batch_with_files_is_paid_once(tmp_path: Path, api: BatchApi) -> None:
    """What a failed batch has is taken at half price, and only the rest is asked one by one, in no further batch."""
    job = a_job(tmp_path, api)
    api.ends_as, api.fails_with_files, api.output = "failed", True, lambda lines: lines[:4]
    assert night(job, wait=True).exit_code == OK
    assert all_right(job)
    assert costs(job) == {BATCHED: 4, ALONE: 6}
    assert len(api.batches) == 1


@of_files
def test_a_batch_that_brings_nothing_is_not_made_again(tmp_path: Path, api: BatchApi) -> None:
    """A batch that ends well and without a single line is no reason to pay for the next one: its rows go one by one."""
    job = a_job(tmp_path, api)
    api.output = lambda lines: []
    assert night(job, wait=True).exit_code == OK
    assert all_right(job)
    assert costs(job) == {ALONE: ROWS}
    assert len(api.batches) == 1


@of_files
def test_a_cancelled_batch_leaves_what_it_has(tmp_path: Path, api: BatchApi) -> None:
    """B5: of a batch that somebody cancelled the finished rows are taken, the others go into the next one."""
    job = a_job(tmp_path, api)
    api.ends_as, api.output = "cancelled", lambda lines: lines[: 3 if len(lines) == ROWS else None]
    assert night(job, wait=True).exit_code == OK
    assert [len(batch["lines"]) for batch in api.batches.values()] == [10, 7]
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}


@of_all
def test_what_is_collected_is_deleted_at_the_provider(tmp_path: Path, api: BatchApi) -> None:
    """On demand nothing stays there; a deletion that is refused is told, costs no row, and is made up for by the next run."""
    job = a_job(tmp_path, api)
    deleting(job)
    api.refuse["delete"] = [500]
    done = night(job, wait=True)
    assert done.exit_code == OK
    assert "can't be deleted at the provider" in told(done)
    assert all_right(job)
    before = (job.output / "outputs.parquet").read_bytes()
    assert night(job).exit_code == OK
    assert api.files == {} or api.dialect.name == "anthropic"  # whose results are part of the batch
    assert api.batches == {} or api.dialect.name == "openai"  # whose batches can't be deleted
    api.hooks["delete"] = api.hooks["poll"] = lambda: pytest.fail("asked again")
    assert night(job).exit_code == OK
    assert (job.output / "outputs.parquet").read_bytes() == before
    assert api.asked == []


@of_files
def test_a_kill_before_the_deletion_leaves_it_to_the_next_run(tmp_path: Path, api: BatchApi) -> None:
    """Killed as the first file is to be deleted, the job has every row, makes no second batch, and deletes it all."""
    job = a_job(tmp_path, api)
    deleting(job)
    started, armed = threading.Event(), [True]

    def kill() -> None:
        assert started.wait(10)
        if armed:
            armed.pop()
            os.kill(process.pid or 0, signal.SIGKILL)

    api.hooks["delete"] = kill
    process = children.start(job.file, wait=True)
    started.set()
    assert children.finish(process) == -signal.SIGKILL
    assert night(job).exit_code == OK
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}
    assert api.files == {}
    assert api.asked == []


def deleting(job: Job) -> None:
    """Have the job delete its batches at the provider."""
    job.file.write_text(job.file.read_text().replace("batch_poll_s", "batch_delete = true\nbatch_poll_s"))


def clock(ahead_s: float) -> str:
    """Return the local time in so many seconds, whole minutes."""
    return time.strftime("%H:%M", time.localtime(time.time() + ahead_s))


@of_files
def test_a_deadline_stops_the_batch_and_asks_the_rest_in_time(tmp_path: Path, api: BatchApi) -> None:
    """Shortly before the deadline the batch is cancelled, its finished rows are taken, the others asked one by one."""
    late = clock(6 * 3600)
    job = a_job(tmp_path, api, route=f'deadline = "{late}"')
    api.polls_to_end, api.output = 10**9, lambda lines: lines[:4]
    assert night(job).exit_code == WAITING
    # The night is nearly over: the deadline is a minute away.
    text = job.file.read_text()
    job.file.write_text(text.replace(f'deadline = "{late}"', f'deadline = "{clock(90)}"'))
    assert night(job).exit_code == OK
    assert all_right(job)
    assert costs(job) == {BATCHED: 4, ALONE: 6}
    assert len(api.asked) == 6
    assert len(api.batches) == 1


@of_files
def test_odd_results_are_joined_by_id_and_told(tmp_path: Path, api: BatchApi) -> None:
    """B6: shuffled, repeated, unknown, missing and empty lines: each row gets its own first good answer, or a new one."""
    job = a_job(tmp_path, api)

    def odd(lines: Lines) -> Lines:
        if len(lines) < ROWS:
            return lines
        wrong = {**lines[1], "response": {"status_code": 200, "body": lines[2]["response"]["body"]}}
        stranger = {**lines[0], "custom_id": "ff" * 16}
        nothing = {**lines[3], "response": {"status_code": 0, "body": None}}
        return [*reversed(lines[5:]), lines[1], stranger, nothing, lines[0], wrong, lines[2]]

    api.output = odd
    done = night(job, wait=True)
    assert done.exit_code == OK
    assert "1 lines repeat an id" in told(done)
    assert "1 lines have an id that was never sent" in told(done)
    assert "2 of 10 requests have no answer and are asked again" in told(done)
    assert [len(batch["lines"]) for batch in api.batches.values()] == [10, 2]
    assert all_right(job)
    assert costs(job) == {BATCHED: ROWS}


@of_all
def test_results_that_are_gone_leave_the_rows_pending(tmp_path: Path, api: BatchApi) -> None:
    """B8: results deleted or too old are told, the rows stay pending, and only another run pays for them again."""
    job = a_job(tmp_path, api)
    api.refuse["content"] = [404]
    done = night(job)
    assert done.exit_code == STOPPED
    assert "the provider has it no more" in told(done)
    assert statuses(job) == {"pending": ROWS}
    assert len(api.batches) == 1
    assert night(job, wait=True).exit_code == OK
    assert len(api.batches) == 2
    assert all_right(job)


@pytest.mark.parametrize(("status", "code"), [(400, OK), (401, STOPPED), (500, WAITING)])
def test_a_batch_that_is_not_taken(tmp_path: Path, api: BatchApi, status: int, code: int) -> None:
    """A refused batch is asked one by one, a refused key stops the lane, and a broken provider is asked again later."""
    job = a_job(tmp_path, api)
    api.refuse["create"] = [status]
    assert night(job).exit_code == code
    assert len(api.asked) == (ROWS if code == OK else 0)
    assert night(job).exit_code == OK
    assert len(api.batches) == (0 if code == OK else 1)
    assert all_right(job)


def test_the_cap_counts_a_batch_at_its_worst(tmp_path: Path, api: BatchApi) -> None:
    """Only as many rows go into a batch as the cap can bear at the worst price, and a higher cap goes on."""
    job = a_job(tmp_path, api)
    # At the worst a row has 64 tokens out at 0.30 USD a million, and every byte of its request in at 0.075.
    capped = {"overrides": ("budget.max_usd=0.00009",)}
    assert night(job, **capped).exit_code == 4
    (batch,) = api.batches.values()
    assert 1 <= len(batch["lines"]) < ROWS
    assert night(job, wait=True, overrides=("budget.max_usd=1",)).exit_code == OK
    assert all_right(job)
    assert sum(len(batch["lines"]) for batch in api.batches.values()) == ROWS
