"""Admission: a pool of places for the models of a provider, a gate for what is each model's own."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from pipeline.limits.headers import Unit, told_rates
from pipeline.limits.quota import Quota
from pipeline.limits.rates import Meter
from pipeline.limits.reckoning import Booked, Need, Reckoning
from pipeline.limits.slots import Slots
from pipeline.records import Usage

_LOOK_EVERY_S = 0.1  # reading headers costs microseconds, and what they tell changes seldom
_NOTHING = Need(0, 0, 0)


class Ticket(NamedTuple):
    """What `Gate.enter` gives, to be shown to `answered` or `refused`.

    Where there are no rates nothing is booked, and without limits a day nothing is claimed.
    """

    episode: int
    booked: Booked | None = None
    claimed: Need | None = None


class Pool:
    """The requests that a provider takes at a time. Make it inside the event loop; *clock* gives seconds.

    *processes* share what the provider tells of its limits; the other limits are given as those of this one.
    """

    def __init__(
        self, *, concurrency: int = 64, processes: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.concurrency = concurrency
        self.processes = processes
        self.clock = clock  # not the event loop's: uvloop rounds that down, and a pause would end early
        self.slots = Slots(concurrency)

    def gate(self, *quotas: Quota) -> "Gate":
        """Return the way in for one more model, which keeps to *quotas*, the narrowest first."""
        return Gate(self, quotas)


class Gate:
    """The way to one model: its own window, and the rates that its answers tell, within what it shares with others.

    Requests go first come, first served. A pause holds for all who share the narrowest of several quotas; what a whole
    provider shares it does not touch.
    """

    def __init__(self, pool: Pool, quotas: Sequence[Quota] = ()) -> None:
        self._clock = pool.clock
        self._processes = pool.processes
        self._quotas = quotas
        self._is_limited = any(quota.meters for quota in quotas)
        self._counts_days = any(quota.counts_days for quota in quotas)
        self._pausing = quotas[0] if len(quotas) > 1 else Quota()
        self._line = pool.slots.line()
        self._turn = asyncio.Lock()
        self._meters: dict[Unit, Meter] = {}
        self._reckoning = Reckoning()
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
        if self._meters or self._pausing.resume_at or self._is_limited:
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
        if ticket.claimed is not None and usage is not None:
            self._settle_day(ticket.claimed, usage)
        if ticket.booked is not None:
            self._settle(ticket.booked, usage)
        self.observe(limits)

    def observe(self, limits: Mapping[str, str]) -> None:
        """Take note of headers that tell of limits, those of an answer or of a refusal."""
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
        self._pausing.resume_at = max(self._pausing.resume_at, self._clock() + wait_s)

    def claim(self, ticket: Ticket, input_tokens: int, output_tokens: int) -> Ticket | str:
        """Count the request against the day's quotas as it goes out; a text says which of them is used up."""
        if not self._counts_days:
            return ticket
        need, claimed = Need(input_tokens, input_tokens, output_tokens), list[Quota]()
        for quota in self._quotas:
            spent = quota.claim(need)
            if spent is not None:
                for other in claimed:
                    other.settle(need, _NOTHING)
                return spent
            claimed.append(quota)
        return ticket._replace(claimed=need)

    async def _pace(self, asked: Need) -> Ticket:
        # The locks keep the order: an AsyncLimiter serves small amounts first, so that only one may wait for it.
        async with self._turn:
            booked = self._reckoning.book(asked, self._clock())
            await _take(self._meters, booked.reserved)
            for quota in self._quotas:
                if quota.meters:
                    async with quota.turn:
                        await _take(quota.meters, booked.reserved)
            # A time is waited for, which may move meanwhile.
            while (wait_s := self._pausing.resume_at - self._clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait_s)
            self._pausing.resume_at = 0.0
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
        for quota in self._quotas:
            yield from quota.meters.items()

    def _settle_day(self, claimed: Need, usage: Usage) -> None:
        used = Need(usage.total_input, usage.input, usage.output)
        for quota in self._quotas:
            quota.settle(claimed, used)

    def _observe(self, limits: Mapping[str, str]) -> None:
        for unit, told in told_rates(limits, time.time()).items():
            per_min = told / self._processes
            meter = self._meters.get(unit)
            if meter is None:
                self._meters[unit] = Meter(per_min, spent=True)
            else:
                meter.change(per_min)


async def _take(meters: Mapping[Unit, Meter], need: Need) -> None:
    for unit, meter in tuple(meters.items()):
        await meter.take(need.of(unit))
