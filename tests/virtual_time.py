"""Time that passes only where something waits for it, so that a minute takes no time and always the same."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class _Selector(selectors.DefaultSelector):
    """Passes the time instead of waiting; it may pass a little more, as on a busy machine."""

    def __init__(self, late_s: Callable[[], float]) -> None:
        super().__init__()
        self.now_s = 0.0
        self._late_s = late_s

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        self.now_s += 1e-6  # a turn of the loop is not free
        if not found and timeout != 0:
            assert timeout is not None, "everybody waits for somebody else"
            self.now_s += timeout + self._late_s()
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, late_s: Callable[[], float]) -> None:
        self._clock = _Selector(late_s)
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def play(main: Coroutine[Any, Any, _Result], late_s: Callable[[], float] = lambda: 0.0) -> _Result:
    """Run *main* in such a time; each wait ends *late_s()* seconds late."""
    loop = _Loop(late_s)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
