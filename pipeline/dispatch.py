"""The dispatch pass: a lane for every model, side by side, so that a slow provider never holds up a fast one."""

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import anyio

from pipeline.lanes import BatchLane, BatchTools, Lane, Packed, PackLane, Route
from pipeline.lanes.online import Shared
from pipeline.plan import WHOLE, Group, Share, read_requests


class Dispatched(NamedTuple):
    """How the pass ended. `halted` maps each model that stopped early to the reason; its rows stay pending."""

    halted: dict[str, str]
    stopped: str | None


def workers_of(group: Group, routes: Mapping[str, Route]) -> int:
    """Return how many requests of *group* are under way at a time."""
    return min(routes[group.model].service.pool.concurrency, group.requests)


async def dispatch(
    groups: Iterable[Group],
    shared: Shared,
    share: Share = WHOLE,
    *,
    batches: Mapping[str, BatchTools] | None = None,
    packs: Mapping[str, Packed] | None = None,
) -> Dispatched:
    """Settle every request of *groups* that falls to *share* in the ledger, or leave it pending for a stated reason.

    The models in *batches* have a batch lane, also where the plan has no request for them any more; those in *packs*
    send several requests as one.

    Raises:
        JobError: when the ledger can't be written; every lane is cancelled then.
    """
    routes, batches, packs = shared.routes, batches or {}, packs or {}
    planned = list(groups)  # of one model there may be several
    planned += [Group(name, 1, ()) for name in batches.keys() - {group.model for group in planned}]
    async with anyio.create_task_group() as lanes:
        for group in planned:
            name, route = group.model, routes[group.model]
            lane: Lane | BatchLane
            if name in batches:
                lane = BatchLane(route, functools.partial(read_requests, group), shared, batches[name])
            elif name in packs:
                lane = PackLane(route, read_requests(group, share), shared, packs[name])
            else:
                lane = Lane(route, read_requests(group, share), shared)
            lanes.start_soon(lane.run, workers_of(group, routes))
    halted = {name: route.halted for name, route in shared.routes.items() if route.halted is not None}
    return Dispatched(halted, shared.stop.reason)
