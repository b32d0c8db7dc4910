"""Admission: a pool for what the models of a provider share, a gate for what is each model's own."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from pipeline.limits.headers import Unit, told_rates
from pipeline.limits.rates import Meter
from pipeline.limits.reckoning import Booked, Need, Reckoning
from pipeline.limits.slots import Slots
from pipeline.records import Usage

_LOOK_EVERY_S = 0.1  # reading headers costs microseconds, and what they tell changes seldom


class Ticket(NamedTuple):
    """What `Gate.enter` gives, to be shown to `answered` or `refused`. Where there are no rates nothing is booked."""

    episode: int
    booked: Booked | None = None


class Pool:
    """What the models of a provider share: requests at a time, and the rates that its user declared.

    Make it inside the event loop. The rates are kept in every window of 0.1, 1 and 60 s. *clock* gives seconds.
    """

    def __init__(
        self,
        *,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        concurrency: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.concurrency = concurrency
        self.clock = clock  # not the event loop's: uvloop rounds that down, and a pause would end early
        self.turn = asyncio.Lock()
        self.slots = Slots(concurrency)
        rates: dict[Unit, float | None] = {"requests": requests_per_min, "tokens": tokens_per_min}
        self.meters = {unit: Meter(per_min) for unit, per_min in rates.items() if per_min is not None}

    def gate(self) -> "Gate":
        """Return the way in for one more model."""
        return Gate(self)


class Gate:
    """The way to one model: its own pause and window, and the rates that its answers tell, within those of the pool.

    Requests go first come, first served.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._clock = pool.clock
        self._line = pool.slots.line()
        self._turn = asyncio.Lock()
        self._meters: dict[Unit, Meter] = {}
        self._reckoning = Reckoning()
        self._resume_at = 0.0
        self._look_at = 0.0
        self._free = Ticket(0)

    def steady(self, demand: int) -> AbstractContextManager[None]:
        """Keep a fair share of the pool's places, at most *demand*, for as long as the context lasts."""
        return self._line.steady(demand)

    async def enter(self, input_tokens: int, output_tokens: int) -> Ticket:
        """Take a place for a request of about so many input and at most so many output tokens, as soon as one may go.

        `leave` gives it back.
        """
        await self._line.enter()
        if self._meters or self._resume_at or self._pool.meters:
            try:
                return await self._pace(Need(input_tokens, input_tokens, output_tokens))
            except BaseException:
                self._line.leave()
                raise
        return self._free

    def leave(self) -> None:
        """Give a place back."""
        self._line.leave()

    def answered(self, ticket: Ticket, usage: Usage | None, limits: Mapping[str, str]) -> None:
        """Take note of an answer: what it used, where that is known, and the headers that tell of limits."""
        self._line.grow()
        if ticket.booked is not None:
            self._settle(ticket.booked, usage)
        if limits and (now := self._clock()) >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._observe(limits)

    def refused(self, ticket: Ticket) -> None:
        """Take note of a refusal for going too fast."""
        window = self._line.window
        is_news = window.refuse(ticket.episode)
        self._free = Ticket(window.episode)
        if ticket.booked is None:
            return
        meters = list(self._all_meters())
        counts_tokens = any(unit != "requests" for unit, _ in meters)
        doubted = is_news and counts_tokens and self._reckoning.refused(ticket.booked, self._clock())
        for unit, meter in meters:
            if is_news:
                meter.refused(slower=not doubted)
            if unit != "requests":  # providers count a refused request, but not its tokens
                meter.settle(-ticket.booked.reserved.of(unit))

    def pause(self, wait_s: float) -> None:
        """Let nobody in for *wait_s* seconds; requests under way go on."""
        self._resume_at = max(self._resume_at, self._clock() + wait_s)

    async def _pace(self, asked: Need) -> Ticket:
        # The locks keep the order: an AsyncLimiter serves small amounts first, so that only one may wait for it.
        async with self._turn:
            booked = self._reckoning.book(asked, self._clock())
            await _take(self._meters, booked.reserved)
            if self._pool.meters:
                async with self._pool.turn:
                    await _take(self._pool.meters, booked.reserved)
            # A time is waited for, which may move meanwhile.
            while (wait_s := self._resume_at - self._clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait_s)
            self._resume_at = 0.0
        return Ticket(self._line.window.episode, booked)

    def _settle(self, booked: Booked, usage: Usage | None) -> None:
        counted = booked.reserved
        if usage is not None:
            used = Need(usage.total_input, usage.total_input - usage.cached_input, usage.output)
            counted = self._reckoning.answered(booked, used, self._clock())
        for unit, meter in self._all_meters():
            meter.answered()
            meter.settle(counted.of(unit) - booked.reserved.of(unit))

    def _all_meters(self) -> Iterator[tuple[Unit, Meter]]:
        yield from self._meters.items()
        yield from self._pool.meters.items()

    def _observe(self, limits: Mapping[str, str]) -> None:
        for unit, per_min in told_rates(limits, time.time()).items():
            meter = self._meters.get(unit)
            if meter is None:
                self._meters[unit] = Meter(per_min, spent=True)
            else:
                meter.change(per_min)


async def _take(meters: Mapping[Unit, Meter], need: Need) -> None:
    for unit, meter in tuple(meters.items()):
        await meter.take(need.of(unit))
