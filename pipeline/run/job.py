"""The stages of a run in order: lock, plan, dispatch, write, compare."""

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.catalogue import Catalogue, load_catalogue, warnings
from pipeline.compare import article_stats, check_promise, compare
from pipeline.dispatch import Dispatched, dispatch
from pipeline.errors import JobError
from pipeline.files import whole_file, write_whole
from pipeline.identity import IdMap
from pipeline.lanes import Budget, Counters, StopSignal
from pipeline.lanes.online import Shared
from pipeline.ledger import (
    Done,
    Run,
    connect,
    count_statuses,
    drop_answers,
    find_done,
    finish_run,
    hold_lock,
    open_ledger,
    put_at_risk,
    start_run,
    used_since,
)
from pipeline.limits import Used
from pipeline.plan import Plan, PlanOptions, make_plan
from pipeline.readers import Source, open_source
from pipeline.records import PICO_USD, Status
from pipeline.run.fit import check_fit
from pipeline.run.options import ExitCode, Report, RunOptions, load
from pipeline.run.outcomes import recorded_outcomes, write_recordings
from pipeline.run.routes import open_routes, preflight
from pipeline.spec import Job
from pipeline.write import Answers, Written, write_outputs

_WATCH_EVERY_S = 0.2
_DAY_S = 86_400
_SIGNAL_EXITS = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}


class _Night(NamedTuple):
    """What the stages of one run share."""

    job: Job
    options: RunOptions
    source: Source
    catalogue: Catalogue
    folder: Path
    done: Done
    kept: dict[str, str]  # answers that stand in the output only

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def ledger_path(self) -> Path:
        return self.state / "ledger.sqlite"


def plan_job(options: RunOptions) -> Report:
    """Plan the job and stop: what would be sent, to whom, at what cost.

    Raises:
        JobError: when the job can't run as written.
    """
    with _open_night(options, create=False) as (night, _connection):
        plan = _make_plan(night)
        summary = {"job": night.job.name, "plan": plan.summary.as_dict()}
        return Report(ExitCode.OK, summary, plan.summary, warnings=_warnings(night, plan))


def run_job(options: RunOptions) -> Report:
    """Run the job to its end, or to where it must stop; the report says which.

    Raises:
        JobError: when the job can't run as written, or the disk does not take its files.
        LockedError: when another run holds the job.
    """
    with _open_night(options, create=True) as (night, connection):
        assert connection is not None
        plan = _make_plan(night)
        asked = [group.model for group in plan.groups]
        credentials = preflight(night.catalogue, _reachable(plan, night.catalogue))
        if asked and not options.confirm(plan.summary):
            return Report(ExitCode.CANNOT_RUN, {"job": night.job.name, "declined": True}, plan.summary)
        run = start_run(connection, new_night=options.new_night)
        stop, counters = StopSignal(), Counters()

        async def pass_() -> tuple[Dispatched, IdMap]:
            return await _dispatch(night, plan, credentials, (connection, run), (stop, counters))

        dispatched, records = (Dispatched({}, None), night.done.records) if not asked else anyio.run(
            pass_, backend_options={"use_uvloop": True}
        )  # fmt: skip
        put_at_risk(connection, run, counters.cut_off)
        night.source.check_unchanged()
        report = _finish(
            night, plan, Answers(connection, night.ledger_path, records, night.kept), dispatched, (run, counters)
        )
        finish_run(connection, run, report.exit_code, report.summary)
        return report


@contextmanager
def _open_night(options: RunOptions, *, create: bool) -> Iterator[tuple[_Night, sqlite3.Connection | None]]:
    """Look everything over before anything is spent; hold the lock until the end."""
    job = load(options)
    catalogue = load_catalogue(job)
    source = open_source(job.input)
    check_fit(job, source)
    folder = Path(job.output.path)
    state = folder / "state"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise JobError(f"output.path: {folder} can't be written: {error.strerror}") from error
    with hold_lock(state / "lock"):
        path = state / "ledger.sqlite"
        if not create and not path.exists():
            yield _Night(job, options, source, catalogue, folder, Done(IdMap(), {}, 0), {}), None
            return
        if options.overwrite:
            path.unlink(missing_ok=True)
        elif (folder / "outputs.parquet").exists() and not (path.exists() and path.stat().st_size):
            raise JobError(
                f"{path}: is gone, but outputs.parquet is there: without its ledger every row would be paid for again; "
                "bring it back, or say --overwrite"
            )
        with closing(connect(path, job.name)) as connection:
            kept = _kept_answers(folder, job.output.prefix) if options.ledger_text == "hash" else {}
            ids = frozenset(map(bytes.fromhex, kept))
            done = find_done(connection, path, again=_asked_again(options), kept=ids)
            yield _Night(job, options, source, catalogue, folder, done, kept), connection


def _kept_answers(folder: Path, prefix: str) -> dict[str, str]:
    """Return hex request id -> answer from the last output, for a ledger that keeps no texts."""
    path = folder / "outputs.parquet"
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=[f"{prefix}request_id", f"{prefix}answer"])
    return {
        key: answer for key, answer in zip(*(column.to_pylist() for column in table.columns), strict=True) if answer
    }


def _asked_again(options: RunOptions) -> frozenset[Status]:
    if options.refresh:
        return frozenset(Status)
    return frozenset({Status.FAILED, Status.BLOCKED, Status.TRUNCATED}) if options.retry_failed else frozenset()


def _make_plan(night: _Night) -> Plan:
    known = PlanOptions(night.options.selection, night.done.records, night.done.carried.keys(), count_statuses)
    plan = make_plan(night.job, night.source, night.catalogue, night.state / "plan", known)
    write_whole(night.folder / "plan.json", json.dumps(plan.summary.as_dict(), indent=2) + "\n")
    return plan


def _warnings(night: _Night, plan: Plan) -> tuple[str, ...]:
    used = {group.model for group in plan.summary.groups}
    found = warnings(night.catalogue, used, datetime.now(UTC).date())
    if night.done.damaged:
        found = [*found, f"{night.done.damaged} ledger records are damaged and count as never written"]
    return tuple(found)


def _reachable(plan: Plan, catalogue: Catalogue) -> set[str]:
    """Return every model that may be asked: the planned ones and those they escalate to."""
    models = {group.model for group in plan.groups}
    for group in plan.groups:
        for part in group.parts:
            column = pq.read_table(part, columns=["escalate_to"])["escalate_to"]
            models |= {name for name in column.unique().to_pylist() if name in catalogue.models}
    return models


async def _dispatch(
    night: _Night,
    plan: Plan,
    credentials: Any,
    ledger_of: tuple[sqlite3.Connection, Run],
    told: tuple[StopSignal, Counters],
) -> tuple[Dispatched, IdMap]:
    """Ask what is planned. A first signal lets what is under way finish, within the grace; a second one does not."""
    connection, run = ledger_of
    stop, counters = told
    cap = night.job.budget.max_usd
    async with AsyncExitStack() as stack:
        routes = await open_routes(
            stack, night.catalogue, credentials, plan.parameters, night.state, lambda: _used_today(ledger_of[0], night)
        )
        services = {route.service.name: route.service for route in routes.values() if route.service.is_remote}
        places = sum(service.pool.concurrency for service in services.values())
        put_at_risk(connection, run, min(places, sum(group.requests for group in plan.groups)))
        async with open_ledger(connection, night.ledger_path, run) as ledger, anyio.create_task_group() as group:
            shared = Shared(
                routes=routes,
                parameters=plan.parameters,
                ledger=ledger,
                carried=night.done.carried,
                budget=Budget(None if cap is None else int(cap / PICO_USD), run.spent_pusd),
                counters=counters,
                stop=stop,
                rng=random.Random(),
            )
            group.start_soon(_heed_signals, group.cancel_scope, stop, night.options.grace_s)
            group.start_soon(_watch, night.options, counters, sum(group.requests for group in plan.groups))
            group.start_soon(_end_when_drained, group.cancel_scope, shared)
            dispatched = Dispatched({}, None)
            dispatched = await dispatch(plan.groups, shared)
            group.cancel_scope.cancel()
    if stop.reason is not None:
        dispatched = dispatched._replace(stopped=stop.reason)
    return dispatched, ledger.settled(night.done.records)


def _used_today(connection: sqlite3.Connection, night: _Night) -> dict[str, Used]:
    midnight = time.time() // _DAY_S * _DAY_S
    return {model: Used(*sums) for model, sums in used_since(connection, night.ledger_path, midnight).items()}


async def _heed_signals(work: anyio.CancelScope, stop: StopSignal, grace_s: float) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            if stop.reason in _SIGNAL_EXITS:
                break
            stop.set(signal.Signals(number).name)
            work.deadline = anyio.current_time() + grace_s
    work.cancel()


async def _end_when_drained(work: anyio.CancelScope, shared: Shared) -> None:
    """Once the run is to stop, end it when nothing is under way, though some may wait for their turn at a limit."""
    await shared.stop.wait()
    while shared.counters.under_way or not shared.ledger.is_idle:  # noqa: ASYNC110 - a hot path keeps these two
        await anyio.sleep(_WATCH_EVERY_S)
    work.cancel()


async def _watch(options: RunOptions, counters: Counters, requests: int) -> None:
    while True:
        options.watch(counters, requests)
        await anyio.sleep(_WATCH_EVERY_S)


def _finish(night: _Night, plan: Plan, answers: Answers, dispatched: Dispatched, ran: tuple[Run, Counters]) -> Report:
    """Write the outputs and the comparison, and say how it went. After a signal there is no time to write them."""
    signalled = _SIGNAL_EXITS.get(dispatched.stopped or "")
    if signalled is not None:
        return Report(signalled, _summary(night, plan, None, dispatched, ran), plan.summary)
    prefix = night.job.output.prefix
    provenance = {
        "rowroute.job": night.job.name,
        "rowroute.version": __version__,
        "rowroute.catalogue": night.catalogue.digest,
    }
    written = write_outputs(
        night.folder,
        source=night.source,
        plan=plan,
        answers=answers,
        prefix=prefix,
        provenance=provenance,
    )
    if night.options.record is not None:
        write_recordings(night.options.record, plan, answers)
    comparison = compare_outputs(night.folder, night.job, night.catalogue, plan.rows_path)
    if night.options.ledger_text == "hash":
        drop_answers(answers.connection, answers.path)
        for group in plan.groups:
            shutil.rmtree(group.parts[0].parent)
    stats = article_stats(night.folder / "outputs.parquet", prefix=prefix)
    summary = {**_summary(night, plan, written, dispatched, ran), "usage": stats}
    if night.job.route.promise is not None:
        summary["promise"] = check_promise(comparison, night.job.route.promise)
    write_whole(night.folder / "summary.json", json.dumps(summary, indent=2, default=str) + "\n")
    _, counters = ran
    others = (f"{count} answers came from {name}, which was not asked" for name, count in counters.other_models.items())
    told = (*_warnings(night, plan), *others)
    return Report(_exit_code(night, written, dispatched), summary, plan.summary, comparison, told)


def compare_outputs(folder: Path, job: Job, catalogue: Catalogue, rows_path: Path) -> pa.Table:
    """Write comparison.parquet from what lies in *folder*, and return it."""
    outcomes = recorded_outcomes(catalogue, rows_path)
    table = compare(folder / "outputs.parquet", outcomes=outcomes, job=job)
    with whole_file(folder / "comparison.parquet") as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    return table


def _exit_code(night: _Night, written: Written, dispatched: Dispatched) -> ExitCode:
    if dispatched.stopped == "cap":
        return ExitCode.CAP
    if written.statuses[Status.PENDING]:
        return ExitCode.STOPPED
    bad = sum(written.statuses[status] for status in (Status.FAILED, Status.BLOCKED, Status.TRUNCATED))
    return ExitCode.OK if night.options.tolerate.allows(bad, written.rows) else ExitCode.SOME_FAILED


def _summary(
    night: _Night, plan: Plan, written: Written | None, dispatched: Dispatched, ran: tuple[Run, Counters]
) -> dict[str, Any]:
    run, counters = ran
    return {
        "job": night.job.name,
        "night": run.night,
        "run": run.id,
        "pid": os.getpid(),
        "rows": plan.summary.rows,
        "statuses": None if written is None else {str(status): count for status, count in written.statuses.items()},
        "requests": plan.summary.requests,
        "reused": plan.summary.total("reused"),
        "answered": {str(status): count for status, count in counters.settled.items() if count},
        "attempts": counters.attempts,
        "retries": counters.retries,
        "rate_limited": counters.rate_limited,
        "escalations": counters.escalations,
        "spent_usd": f"{counters.spent_pusd * PICO_USD:f}",
        "spent_tonight_usd": f"{(run.spent_pusd + counters.spent_pusd) * PICO_USD:f}",
        "maybe_paid": counters.maybe_paid,
        "other_models": dict(counters.other_models),
        "paid_twice_at_most": run.maybe_paid,
        "stopped": dispatched.stopped,
        "halted": dispatched.halted,
        "damaged_records": night.done.damaged,
        "catalogue": night.catalogue.digest,
    }
