"""A time limit for each of many calls, kept by one timer for all: a timer a call costs a tenth of asking."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


class _Call:
    __slots__ = ("at", "expired", "task")

    def __init__(self, task: "asyncio.Task[object]", at: float) -> None:
        self.task = task
        self.at = at
        self.expired = False


class Deadlines:
    """Ends calls that take longer than *limit_s*. All have the same limit, so they fall due in the order they began."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._calls: dict[_Call, None] = {}  # in the order they began
        self._timer: asyncio.TimerHandle | None = None

    async def keep(self, call: Awaitable[_Result]) -> _Result:
        """Return what *call* comes to.

        Raises:
            TimeoutError: when that takes longer than the limit; the call was cancelled then.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        mine, cancelled_before = _Call(task, loop.time() + self._limit_s), task.cancelling()
        self._calls[mine] = None
        if self._timer is None:
            self._timer = loop.call_at(mine.at, self._expire, loop)
        try:
            return await call
        except asyncio.CancelledError:
            # As with asyncio.timeout, someone else may have cancelled the task at the same moment.
            if mine.expired and task.cancelling() <= cancelled_before + 1:
                raise TimeoutError from None
            raise
        finally:
            del self._calls[mine]
            if mine.expired:
                task.uncancel()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is due, and come back when the next one is; for none nobody comes back."""
        self._timer = None
        for call in self._calls:
            if call.at > loop.time():
                self._timer = loop.call_at(call.at, self._expire, loop)
                return
            if not call.expired:
                call.expired = True
                call.task.cancel()
