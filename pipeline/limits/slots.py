"""Requests at a time: a window that grows until the provider refuses, and fair shares between the models of a pool."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_START = 64
_RAMP_S = 0.025
_SHRINK = 0.8


class Window:
    """How many requests one model may have under way: additive increase, multiplicative decrease.

    It starts at 64 and doubles until the cap or a refusal. After a refusal it grows by a twentieth of the cap with each
    round of answers, a round being as many as it allows. It shrinks by a fifth when refused, once per episode: a
    refusal of a request that went out before the last decrease brings no news. Latency never counts: it follows the
    length of the answers.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.limit = min(cap, _START)
        self.episode = 0
        self._answers = 0

    @property
    def is_ramping(self) -> bool:
        """Tell whether it still doubles."""
        return self.episode == 0 and self.limit < self.cap

    def double(self) -> None:
        """Grow, as long as nothing was refused."""
        if self.is_ramping:
            self.limit = min(self.cap, 2 * self.limit)

    def answer(self) -> bool:
        """Count an answer; True when it made the window grow."""
        if self.limit == self.cap or self.episode == 0:
            return False
        self._answers += 1
        if self._answers < self.limit:
            return False
        self._answers = 0
        self.limit = min(self.cap, self.limit + max(1, self.cap // 20))
        return True

    def refuse(self, episode: int) -> bool:
        """Count a refusal of a request that went out in *episode*; True when it opened another one."""
        if episode != self.episode:
            return False
        self.episode += 1
        self._answers = 0
        self.limit = max(1, int(self.limit * _SHRINK))
        return True


def fair_shares(capacity: int, demands: Sequence[int]) -> list[int]:
    """Divide *capacity* max-min fairly: nobody gets more than asked for, or less than another for asking more."""
    shares = [0] * len(demands)
    left = capacity
    for done, index in enumerate(sorted(range(len(demands)), key=demands.__getitem__)):
        shares[index] = min(demands[index], max(1, left // (len(demands) - done)))
        left -= shares[index]
    return shares


class Slots:
    """The requests that one provider takes at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self.waiting = 0
        self._lines: list[Line] = []

    def line(self) -> "Line":
        """Return another queue for the places."""
        line = Line(self)
        self._lines.append(line)
        return line

    def share_out(self) -> None:
        """Divide the places anew between the lines that are in steady demand."""
        steady = [line for line in self._lines if line.demand]
        for line in self._lines:
            line.share = self.capacity
        for line, share in zip(steady, fair_shares(self.capacity, [line.demand for line in steady]), strict=True):
            line.share = share
        self.serve()

    def serve(self) -> None:
        """Hand out free places: to the line that holds the fewest, and within it to who came first."""
        while self.free and self.waiting:
            ready = [line for line in self._lines if line.waiting and line.has_room]
            if not ready:
                return
            min(ready, key=lambda line: line.held).let_in()


class Line:
    """The places that one model holds, and who waits for one."""

    def __init__(self, slots: Slots) -> None:
        self.window = Window(slots.capacity)
        self.share = slots.capacity
        self.demand = 0  # places that can be used all the time
        self.held = 0
        self.waiting = deque[asyncio.Future[None]]()
        self._slots = slots
        self._ramp: asyncio.TimerHandle | None = None

    @property
    def has_room(self) -> bool:
        """Tell whether this line may hold another place."""
        return self.held < self.share and self.held < self.window.limit

    @contextmanager
    def steady(self, demand: int) -> Iterator[None]:
        """Keep a fair share of the places, at most *demand*, whether they are in use or not."""
        self.demand += demand
        self._slots.share_out()
        try:
            yield
        finally:
            self.demand -= demand
            self._slots.share_out()

    async def enter(self) -> None:
        """Take a place, waiting in line for it."""
        if self._slots.free and self.has_room and not self.waiting:
            self._take()
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        self._slots.waiting += 1
        self._slots.serve()
        self._ramp_up()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # let in at the same moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back."""
        self.held -= 1
        self._slots.free += 1
        if self._slots.waiting:
            self._slots.serve()

    def let_in(self) -> None:
        """Give a place to who has waited longest, or see that they are gone."""
        turn = self.waiting.popleft()
        self._slots.waiting -= 1
        if not turn.cancelled():
            self._take()
            turn.set_result(None)

    def grow(self) -> None:
        """Let the window count an answer."""
        if self.window.answer():
            self._slots.serve()

    def _take(self) -> None:
        self.held += 1
        self._slots.free -= 1

    def _ramp_up(self) -> None:
        # By the clock, not by answers: those may take a minute, while refusals and handshakes take an instant.
        if self._ramp is None and self.window.is_ramping:
            self._ramp = asyncio.get_running_loop().call_later(_RAMP_S, self._ramped)

    def _ramped(self) -> None:
        self._ramp = None
        self.window.double()
        self._slots.serve()
        if self.waiting:
            self._ramp_up()
