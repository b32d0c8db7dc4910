"""The dispatch pass: a lane for every model, side by side, so that a slow provider never holds up a fast one."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import anyio

from pipeline.lanes import Lane, Route
from pipeline.lanes.online import Shared
from pipeline.plan import WHOLE, Group, Share, read_requests


class Dispatched(NamedTuple):
    """How the pass ended. `halted` maps each model that stopped early to the reason; its rows stay pending."""

    halted: dict[str, str]
    stopped: str | None


def workers_of(group: Group, routes: Mapping[str, Route]) -> int:
    """Return how many requests of *group* are under way at a time."""
    return min(routes[group.model].service.pool.concurrency, group.requests)


async def dispatch(groups: Iterable[Group], shared: Shared, share: Share = WHOLE) -> Dispatched:
    """Settle every request of *groups* that falls to *share* in the ledger, or leave it pending for a stated reason.

    Raises:
        JobError: when the ledger can't be written; every lane is cancelled then.
    """
    async with anyio.create_task_group() as lanes:
        for group in groups:
            lane = Lane(shared.routes[group.model], read_requests(group, share), shared)
            lanes.start_soon(lane.run, workers_of(group, shared.routes))
    halted = {name: route.halted for name, route in shared.routes.items() if route.halted is not None}
    return Dispatched(halted, shared.stop.reason)
