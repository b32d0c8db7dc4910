"""The dispatch pass of a run: in this process, or spread over several."""

import random
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import anyio

from pipeline.dispatch import Dispatched, dispatch
from pipeline.identity import IdMap
from pipeline.lanes import Budget, Counters, Route, StopSignal
from pipeline.lanes.online import Shared
from pipeline.ledger import Run, merge_shards, open_ledger, put_at_risk, settled_by, used_since
from pipeline.limits import Used
from pipeline.plan import Plan
from pipeline.records import PICO_USD
from pipeline.run.batching import begun_for, open_book, packs_for, tools_for
from pipeline.run.night import Night
from pipeline.run.routes import RECORDED, Setting, open_routes
from pipeline.run.shadow import Shadow
from pipeline.run.watching import SIGNAL_EXITS, heed_signals, watch
from pipeline.run.workers import Task, ask_by_workers

_DAY_S = 86_400


async def ask_here(
    night: Night,
    planned: tuple[Plan, Shadow],
    credentials: Any,
    ledger_of: tuple[sqlite3.Connection, Run],
    told: tuple[StopSignal, Counters],
) -> tuple[Dispatched, IdMap]:
    """Ask what is planned. A first signal lets what is under way finish, within the grace; a second one does not."""
    connection, run = ledger_of
    stop, counters = told
    plan, shadow = planned
    groups = [*plan.groups, *shadow.groups]
    dispatched: Dispatched | None = None
    async with AsyncExitStack() as stack:
        setting = Setting(
            night.state,
            used_today=lambda: _used_today(connection, night),
            off_peak=night.options.off_peak,
            repairs=night.job.output.repair,
        )
        routes = await open_routes(stack, night.catalogue, credentials, plan.parameters, setting)
        put_at_risk(connection, run, min(_places(routes), sum(group.requests for group in groups)))
        book = stack.enter_context(open_book(night.ledger_path))
        begun = begun_for(connection, night.ledger_path, night.catalogue)
        batches = tools_for(routes, plan.summary, begun, book, night.state, wait=night.options.wait)
        packs = packs_for(routes, plan, night.job.prompt)
        async with (
            open_ledger(connection, night.ledger_path, run, nothing_comes=counters.nothing_comes) as ledger,
            anyio.create_task_group() as group,
        ):
            shared = Shared(
                routes=routes,
                parameters=plan.parameters,
                ledger=ledger,
                carried=night.done.carried,
                budget=Budget(_cap_pusd(night), run.spent_pusd),
                counters=counters,
                stop=stop,
                rng=random.Random(),
            )
            group.start_soon(heed_signals, group.cancel_scope, stop, night.options.grace_s)
            group.start_soon(watch, night.options, counters, sum(group.requests for group in groups))
            group.start_soon(shared.end_when_drained, group.cancel_scope)
            dispatched = await dispatch(plan.groups, shared, batches=batches, packs=packs)
            # The sample gets what the rows have left of the budget; that it ends there is no fault of the run.
            if shadow.groups and stop.reason is None:
                sampled = await dispatch(shadow.groups, shared)
                dispatched = dispatched._replace(halted=sampled.halted)
            group.cancel_scope.cancel()
    if dispatched is None or stop.reason in SIGNAL_EXITS:
        dispatched = (dispatched or Dispatched({}, None))._replace(stopped=stop.reason)
    return dispatched, ledger.settled(night.done.records)


async def ask_by_processes(
    night: Night,
    planned: tuple[Plan, Shadow],
    credentials: Any,
    ledger_of: tuple[sqlite3.Connection, Run],
    told: tuple[StopSignal, Counters],
) -> tuple[Dispatched, IdMap]:
    """Ask what is planned by several processes, whose ledgers become one in the end."""
    connection, run = ledger_of
    stop, counters = told
    plan, shadow = planned
    requests = sum(group.requests for group in [*plan.groups, *shadow.groups])
    places = sum(entry.provider.concurrency for entry in credentials.values() if entry.provider.adapter != RECORDED)
    whole = Task(
        job=night.job.name,
        catalogue=night.catalogue,
        credentials=credentials,
        parameters=plan.parameters,
        groups=plan.groups,
        sample=shadow.groups,
        carried=night.done.carried,
        cap_pusd=_cap_pusd(night),
        ledger=night.ledger_path,
        run=run,
        grace_s=night.options.grace_s,
        used_today=_used_today(connection, night),
        repairs=night.job.output.repair,
        places=places,
        off_peak=night.options.off_peak,
    )
    tasks = whole.divided(min(night.options.workers, requests))
    put_at_risk(connection, run, min(sum(task.places for task in tasks), requests))
    dispatched = Dispatched({}, None)
    async with anyio.create_task_group() as group:
        group.start_soon(heed_signals, group.cancel_scope, stop, night.options.grace_s)
        group.start_soon(watch, night.options, counters, requests)
        dispatched = await ask_by_workers(tasks, stop, counters)
        group.cancel_scope.cancel()
    merge_shards(connection, night.ledger_path)
    records = settled_by(connection, night.ledger_path, run, night.done.records)
    return (dispatched._replace(stopped=stop.reason) if stop.reason in SIGNAL_EXITS else dispatched), records


def _places(routes: Mapping[str, Route]) -> int:
    """Return how many requests may be on their way to providers at a time."""
    services = {route.service.name: route.service for route in routes.values() if route.service.is_remote}
    return sum(service.pool.concurrency for service in services.values())


def _cap_pusd(night: Night) -> int | None:
    cap = night.job.budget.max_usd
    return None if cap is None else int(cap / PICO_USD)


def _used_today(connection: sqlite3.Connection, night: Night) -> dict[str, Used]:
    midnight = time.time() // _DAY_S * _DAY_S
    return {model: Used(*sums) for model, sums in used_since(connection, night.ledger_path, midnight).items()}
