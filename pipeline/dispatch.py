"""The dispatch pass: a lane for every model, side by side, so that a slow provider never holds up a fast one."""

from collections.abc import Iterable
from typing import NamedTuple

import anyio

from pipeline.lanes import Lane
from pipeline.lanes.online import Shared
from pipeline.plan import Group, read_requests


class Dispatched(NamedTuple):
    """How the pass ended. `halted` maps each model that stopped early to the reason; its rows stay pending."""

    halted: dict[str, str]
    stopped: str | None


async def dispatch(groups: Iterable[Group], shared: Shared) -> Dispatched:
    """Settle every request of *groups* in the ledger, or leave it pending for a stated reason.

    Raises:
        JobError: when the ledger can't be written; every lane is cancelled then.
    """
    async with anyio.create_task_group() as lanes:
        for group in groups:
            route = shared.routes[group.model]
            workers = min(route.service.pool.concurrency, group.requests)
            lanes.start_soon(Lane(route, read_requests(group), shared).run, workers)
    halted = {name: route.halted for name, route in shared.routes.items() if route.halted is not None}
    return Dispatched(halted, shared.stop.reason)
