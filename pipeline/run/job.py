"""The stages of a run in order: lock, plan, dispatch, write, compare."""

import json
import os
import shutil
from datetime import UTC, datetime
from typing import Any

import anyio
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.agreement import read_cascade
from pipeline.catalogue import Catalogue, warnings
from pipeline.compare import article_stats, check_promise, headline
from pipeline.dispatch import Dispatched
from pipeline.files import write_whole
from pipeline.identity import IdMap
from pipeline.lanes import Counters, StopSignal
from pipeline.ledger import (
    Run,
    count_statuses,
    drop_answers,
    finish_run,
    put_at_risk,
    start_run,
)
from pipeline.plan import Plan, PlanOptions, make_plan
from pipeline.records import PICO_USD, Status
from pipeline.run.asking import ask_by_processes, ask_here
from pipeline.run.batching import begun_for, goes_together, notes_on_batches, timing_of
from pipeline.run.comparing import compare_night, report_night
from pipeline.run.judging import ask_judge, judge_models, uses_judge
from pipeline.run.memory import release_freed
from pipeline.run.night import Night, open_night
from pipeline.run.options import ExitCode, Report, RunOptions
from pipeline.run.outcomes import write_recordings
from pipeline.run.routes import preflight
from pipeline.run.shadow import Shadow, plan_shadow
from pipeline.run.watching import SIGNAL_EXITS
from pipeline.write import Answers, Written, write_outputs


def plan_job(options: RunOptions) -> Report:
    """Plan the job and stop: what would be sent, to whom, at what cost.

    Raises:
        JobError: when the job can't run as written.
    """
    with open_night(options, create=False) as (night, _connection):
        plan, _ = _make_plan(night)
        summary = {"job": night.job.name, "plan": plan.summary.as_dict()}
        told = (*_warnings(night, plan), *notes_on_batches(night.ledger_path))
        return Report(ExitCode.OK, summary, plan.summary, warnings=told)


def run_job(options: RunOptions) -> Report:
    """Run the job to its end, or to where it must stop; the report says which.

    Raises:
        JobError: when the job can't run as written, or the disk does not take its files.
        LockedError: when another run holds the job.
    """
    with open_night(options, create=True) as (night, connection):
        assert connection is not None
        plan, shadow = _make_plan(night)
        asked = [*plan.groups, *shadow.groups]
        judges = judge_models(night.job, night.catalogue)
        begun = begun_for(connection, night.ledger_path, night.catalogue)
        reachable = _reachable(plan, night.catalogue) | shadow.models() | begun | judges
        credentials = preflight(night.catalogue, reachable)
        if asked and not options.confirm(plan.summary):
            return Report(ExitCode.CANNOT_RUN, {"job": night.job.name, "declined": True}, plan.summary)
        run = start_run(connection, new_night=options.new_night)
        stop, counters = StopSignal(), Counters()

        async def pass_() -> tuple[Dispatched, IdMap]:
            # Batches and packs are little work for what they carry, and one process sees to them.
            alone = options.workers == 1 or begun or goes_together(plan.summary)
            ask = ask_here if alone else ask_by_processes
            ended = await ask(night, (plan, shadow), credentials, (connection, run), (stop, counters))
            return await ask_judge(night, (plan, shadow), credentials, (connection, run), (ended, counters))

        idle = not asked and not begun and not judges
        dispatched, records = (Dispatched({}, None), night.done.records) if idle else anyio.run(
            pass_, backend_options={"use_uvloop": True}
        )  # fmt: skip
        put_at_risk(connection, run, counters.cut_off)
        night.source.check_unchanged()
        answers = Answers(connection, night.ledger_path, records, night.kept)
        report = _finish(night, (plan, shadow), answers, dispatched, (run, counters))
        finish_run(connection, run, report.exit_code, report.summary)
        return report


def _make_plan(night: Night) -> tuple[Plan, Shadow]:
    job, source, done = night.job, night.source, night.done
    known = PlanOptions(night.options.selection, done.records, done.carried.keys(), describe=count_statuses)
    known = known._replace(off_peak=night.options.off_peak)
    timed = known._replace(timing=timing_of(job.route))  # the sample is asked one by one
    plan = make_plan(job, source, night.catalogue, night.state / "plan", timed)
    shadow = plan_shadow(job, source, night.catalogue, plan, known)
    sample = shadow.estimate()
    if sample is not None and uses_judge(job):
        sample["judge_requests"] = 2 * len(shadow.rows)
    plan = plan._replace(summary=plan.summary._replace(shadow=sample))
    write_whole(night.folder / "plan.json", json.dumps(plan.summary.as_dict(), indent=2) + "\n")
    return plan, shadow


def _warnings(night: Night, plan: Plan) -> tuple[str, ...]:
    used = {group.model for group in plan.summary.groups}
    found = warnings(night.catalogue, used, datetime.now(UTC).date())
    if night.done.damaged:
        found = [*found, f"{night.done.damaged} ledger records are damaged and count as never written"]
    return tuple(found)


def _reachable(plan: Plan, catalogue: Catalogue) -> set[str]:
    """Return every model that may be asked: the planned ones, those they escalate to, and those of cascades."""
    models = {group.model for group in plan.groups}
    for group in plan.groups:
        for part in group.parts:
            asked = pq.read_table(part, columns=["escalate_to", "cascade"])
            models |= {name for name in asked["escalate_to"].unique().to_pylist() if name in catalogue.models}
            for cascade in filter(None, asked["cascade"].unique().to_pylist()):
                models |= set(read_cascade(cascade).then)
    return models


def _finish(
    night: Night,
    planned: tuple[Plan, Shadow],
    answers: Answers,
    dispatched: Dispatched,
    ran: tuple[Run, Counters],
) -> Report:
    """Write the outputs and the comparison, and say how it went. After a signal there is no time to write them."""
    plan, shadow = planned
    signalled = SIGNAL_EXITS.get(dispatched.stopped or "")
    if signalled is not None:
        return Report(signalled, _summary(night, planned, None, dispatched, ran), plan.summary)
    prefix = night.job.output.prefix
    provenance = {
        "rowroute.job": night.job.name,
        "rowroute.version": __version__,
        "rowroute.catalogue": night.catalogue.digest,
        "rowroute.prices": json.dumps(plan.summary.prices),
    }
    release_freed()
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
    release_freed()
    compared = compare_night(night.folder, night.job, night.catalogue, planned, answers)
    if night.options.ledger_text == "hash":
        drop_answers(answers.connection, answers.path)
        spools = {part.parent for group in (*plan.groups, *shadow.groups) for part in group.parts}
        for folder in (*spools, *(night.state / "judge").glob("*/")):
            shutil.rmtree(folder)
    summary = _summary(night, planned, written, dispatched, ran)
    summary |= {"usage": article_stats(compared.night), "comparison": headline(compared.table)}
    if night.job.route.promise is not None:
        summary["promise"] = check_promise(compared.table, night.job.route.promise)
    if night.job.output.report:
        report_night(night.folder, night.job, compared, summary)
    write_whole(night.folder / "summary.json", json.dumps(summary, indent=2, default=str) + "\n")
    _, counters = ran
    others = (f"{count} answers came from {name}, which was not asked" for name, count in counters.other_models.items())
    told = (*_warnings(night, plan), *others, *counters.remarks)
    return Report(_exit_code(night, written, dispatched, counters), summary, plan.summary, compared.table, told)


def _exit_code(night: Night, written: Written, dispatched: Dispatched, counters: Counters) -> ExitCode:
    if dispatched.stopped == "cap":
        return ExitCode.CAP
    if written.statuses[Status.PENDING]:
        return ExitCode.WAITING if counters.waiting and not dispatched.halted else ExitCode.STOPPED
    bad = sum(written.statuses[status] for status in (Status.FAILED, Status.BLOCKED, Status.TRUNCATED))
    return ExitCode.OK if night.options.tolerate.allows(bad, written.rows) else ExitCode.SOME_FAILED


def _summary(
    night: Night,
    planned: tuple[Plan, Shadow],
    written: Written | None,
    dispatched: Dispatched,
    ran: tuple[Run, Counters],
) -> dict[str, Any]:
    run, counters = ran
    plan, shadow = planned
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
        "repairs": counters.repairs,
        "escalations": counters.escalations,
        "cascades": counters.cascades_told(),
        "cache": counters.cache_told(),
        "spent_usd": f"{counters.spent_pusd * PICO_USD:f}",
        "spent_tonight_usd": f"{(run.spent_pusd + counters.spent_pusd) * PICO_USD:f}",
        "maybe_paid": counters.maybe_paid,
        "other_models": dict(counters.other_models),
        "paid_twice_at_most": run.maybe_paid,
        "stopped": dispatched.stopped,
        "halted": dispatched.halted,
        "waiting": counters.waiting,
        "shadow_rows": len(shadow.rows),
        "damaged_records": night.done.damaged,
        "catalogue": night.catalogue.digest,
        "prices": plan.summary.prices,
    }
