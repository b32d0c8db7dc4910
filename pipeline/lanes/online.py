"""The online lane: bounded workers, each with one request at a time, from the spool to the ledger."""

from collections.abc import Iterator

import anyio
from anyio.abc import TaskGroup

from pipeline.lanes.cascade import open_case
from pipeline.lanes.case import Case, Shared
from pipeline.lanes.route import Route
from pipeline.records import Request

__all__ = ["Lane", "Shared"]

_REFUSED_WITHIN_S = 1.0  # a key, a model and parameters are looked at before anything else is done
_MOST_ESCALATED = 1024  # of a lane, beyond which its workers see to them; each takes some kilobytes


class Lane:
    """Asks one model's requests. One that escalates goes on by itself, so that a slow model holds up no other."""

    def __init__(self, route: Route, requests: Iterator[Request], shared: Shared) -> None:
        self._route = route
        self._requests = requests
        self._shared = shared
        self._escalated = 0  # requests that are on their way without a worker

    async def run(self, workers: int) -> None:
        """Settle every request, or stop early when the run or the route does.

        The first request goes alone, so that a wrong key, model or parameter costs one and not thousands; so does the
        next one after a refusal. The others follow once the model has answered, or failed in a way that may pass, or
        has taken longer than a refusal takes.
        """
        async with anyio.create_task_group() as escalated:
            with self._route.gate.steady(workers):
                async with anyio.create_task_group() as group:
                    group.start_soon(self._lead, escalated)
                    for _ in range(workers - 1):
                        group.start_soon(self._follow, escalated)

    async def _lead(self, escalated: TaskGroup) -> None:
        try:
            await self._work(escalated)
        finally:
            self._route.open_up()

    async def _follow(self, escalated: TaskGroup) -> None:
        with anyio.move_on_after(_REFUSED_WITHIN_S):
            await self._route.opened.wait()
        await self._work(escalated)

    async def _work(self, escalated: TaskGroup) -> None:
        route = self._route
        while self._goes_on():
            await route.cheap_hours(self._shared.stop)
            request = next(self._requests, None) if self._goes_on() else None
            if request is None:
                return
            await self._see_to(open_case(request, route, self._shared), escalated)

    async def _see_to(self, case: Case, escalated: TaskGroup) -> None:
        while await case.settle():
            if self._escalated < _MOST_ESCALATED:
                self._escalated += 1
                escalated.start_soon(self._go_on, case)
                break

    def _goes_on(self) -> bool:
        return self._shared.stop.reason is None and self._route.halted is None

    async def _go_on(self, case: Case) -> None:
        while await case.settle():
            pass
        self._escalated -= 1
