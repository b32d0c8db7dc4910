"""Rates, in virtual time."""

import asyncio
import itertools
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.limits import Gate, Pool, Quota
from pipeline.limits.rates import Meter, Tab
from pipeline.limits.reckoning import Need, Reckoning
from pipeline.records import Usage
from tests.chaos import pacing
from tests.chaos.script import Bucket
from tests.chaos.wire import Ask
from tests.virtual_time import play


def now_s() -> float:
    return asyncio.get_running_loop().time()


Going = list[tuple[float, float]]  # when, how much


def go(per_min: float, amounts: Iterable[float], late_s: float) -> Going:
    """Take *amounts* from a meter, one after the other, by a loop that is up to *late_s* late."""
    going, rng = Going(), random.Random(1)

    async def main() -> None:
        meter = Meter(per_min)
        for amount in amounts:
            await meter.take(amount)
            going.append((now_s(), amount))

    play(main(), lambda: rng.uniform(0, late_s))
    return going


@given(
    per_min=st.floats(300, 1e6),
    amounts=st.lists(st.sampled_from([1.0, 3.0, 100.0, 3000.0]), min_size=1, max_size=80),
    late_s=st.floats(0, 0.3),
)
def test_no_window_sees_more_than_the_rate(per_min: float, amounts: list[float], late_s: float) -> None:
    """In no 0.1, 1 or 60 s more goes than belongs there, a burst of 0.05 s' worth and 1.05, and the last request."""
    going = go(per_min, amounts, late_s)
    for (start, (began_s, _)), window_s in itertools.product(enumerate(going), (0.1, 1, 60)):
        inside = [amount for at_s, amount in going[start:] if at_s <= began_s + window_s]
        assert sum(inside[:-1]) <= (window_s + 0.05) * per_min / 60 + 1.05 + 1e-6


@given(per_min=st.floats(60, 1e6), seconds=st.floats(0, 1), late_s=st.floats(0, 0.015))
def test_the_rate_is_used_even_when_waking_up_late(per_min: float, seconds: float, late_s: float) -> None:
    """With an event loop late by up to 15 ms each time, 98.5% of the rate is reached, by requests of any size."""
    amount = max(1.0, seconds * per_min / 60)
    going = go(per_min, [amount] * 400, late_s)
    (began_s, _), (ended_s, _) = going[0], going[-1]
    assert 399 * amount >= 0.985 * per_min / 60 * (ended_s - began_s)


@given(st.lists(st.tuples(st.sampled_from(["charge", "pay", "settle", "back"]), st.integers(0, 5000)), max_size=100))
def test_a_tab_does_not_drift(events: list[tuple[str, int]]) -> None:
    """What was charged and settled is what was paid and is owed still, however it is interleaved."""
    tab, charged, paid = Tab(most_back=1e9), 0.0, 0.0
    for event, amount in events:
        match event:
            case "charge":
                tab.owe(tab.charge(amount, at_once=200))
                charged += amount
            case "settle" | "back":
                more = amount if event == "settle" else -amount
                tab.settle(more)
                charged += more
            case _ if tab.owed > 0:
                paid += min(amount, tab.owed)
                tab.owed -= min(amount, tab.owed)
        assert tab.given_back >= 0
        assert charged == pytest.approx(paid + tab.owed - tab.given_back, abs=1e-6)


def test_what_is_given_back_is_saved_up_only_so_far() -> None:
    """A burst of answers that used less than was reserved does not allow a burst of requests."""
    tab = Tab(most_back=100)
    for _ in range(50):
        tab.settle(-1000)
    assert tab.given_back == 100
    assert tab.charge(40, at_once=1000) == 0
    assert tab.owed == 30  # a quarter less


def test_a_provider_that_counts_what_is_allowed_is_found_out() -> None:
    """Reserving what is expected stops with a refusal, for a minute, and for two when that happens again at once."""
    reckoning, asked, used = Reckoning(), _need(128, 1024), _need(128, 64)
    assert reckoning.book(asked, 0.0).reserved == asked
    assert reckoning.answered(reckoning.book(asked, 0.0), used, 0.0) == used
    booked = reckoning.book(asked, 0.0)
    assert booked.reserved == used
    reckoning.refused(booked, 10.0)
    assert reckoning.book(asked, 69.0).reserved == asked
    assert reckoning.answered(reckoning.book(asked, 69.0), used, 69.0) == asked
    assert reckoning.book(asked, 70.0).reserved.output < 128
    reckoning.refused(reckoning.book(asked, 71.0), 71.0)
    assert reckoning.book(asked, 190.0).reserved == asked
    assert reckoning.book(asked, 191.0).reserved.output < 128


def test_a_refusal_of_what_was_reserved_in_full_casts_no_doubt() -> None:
    """A refusal that trust can't have caused leaves it."""
    reckoning, asked = Reckoning(), _need(128, 1024)
    reckoning.refused(reckoning.book(asked, 0.0), 0.0)
    reckoning.answered(reckoning.book(asked, 1.0), _need(128, 64), 1.0)
    assert reckoning.book(asked, 1.0).reserved.output == 64


def _need(tokens_in: float, tokens_out: float) -> Need:
    return Need(tokens_in, tokens_in, tokens_out)


class Size(NamedTuple):
    """A kind of request."""

    input: int
    estimate: int
    allowed: int
    output: int


SMALL = Size(input=84, estimate=84, allowed=16, output=16)
LARGE = SMALL._replace(input=2984, estimate=2984)


class Sent(NamedTuple):
    """A request that reached the provider."""

    at_s: float
    waited_s: float
    status: int
    tokens: int


class Provider:
    """A provider with a latency of 0.2 s that enforces its limits; what was *sent* is kept."""

    def __init__(self, *buckets: Bucket, counts_allowed: bool = True, seed: int = 1) -> None:
        self.gates = [pacing.Gate(bucket) for bucket in buckets]
        self.counts_allowed = counts_allowed
        self.is_shut = False  # then it refuses everything for a second
        self.sent: list[Sent] = []
        self.rng = random.Random(seed)

    async def serve(self, gate: Gate, sizes: Iterable[Size], *, for_s: float, workers: int = 64) -> None:
        """Ask it through *gate* for some time."""
        self.gate = gate
        queue = iter(sizes)

        async def work() -> None:
            while now_s() < for_s:
                await self._ask(next(queue))

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())

    async def _ask(self, size: Size) -> None:
        came_s = now_s()
        ticket = await self.gate.enter(size.estimate, size.allowed)
        try:
            went_s = now_s()
            await asyncio.sleep(self.rng.uniform(0, 0.004))
            ask = Ask(len(self.sent) + 1, 1, "", "m", "", "", size.allowed)
            tokens = size.input + (size.allowed if self.counts_allowed else size.output)
            refusals = [refusal for gate in self.gates if (refusal := gate.admit(ask, now_s(), tokens))]
            if self.is_shut:
                refusals = [pacing.Refusal("rate", (("retry-after", "1"),))]
            limits = dict(header for gate in self.gates for header in gate.headers(ask, now_s()))
            self.sent.append(Sent(now_s(), went_s - came_s, 429 if refusals else 200, tokens))
            if refusals:
                self.gate.refused(ticket)
                wait_s = float(dict(refusals[0].headers)["retry-after"])
                self.gate.pause(wait_s * self.rng.uniform(1, 1.25))
                return
            await asyncio.sleep(0.2)
            self.gate.answered(ticket, Usage(size.input, size.output), limits)
        finally:
            self.gate.leave()

    def share(self, per_min: float, *, from_s: float, tokens: bool = False) -> float:
        """Return how much of a rate was used since *from_s*."""
        good = [one for one in self.sent if one.status == 200 and one.at_s >= from_s]
        amount = sum(one.tokens if tokens else 1 for one in good[:-1])
        return amount / (good[-1].at_s - good[0].at_s) / per_min * 60

    def refused(self, *, from_s: float) -> float:
        """Return which share of the answers since *from_s* was 429."""
        late = [one.status == 429 for one in self.sent if one.at_s >= from_s]
        return sum(late) / len(late)


def virtual_gate(*, concurrency: int = 64, **limits: Any) -> Gate:
    return virtual_pool(concurrency=concurrency).gate(Quota(**limits))


def virtual_pool(*, concurrency: int = 64) -> Pool:
    return Pool(clock=asyncio.get_running_loop().time, concurrency=concurrency)


def play_provider(provider: Provider, sizes: Iterable[Size], *, for_s: float, **limits: Any) -> None:
    """Ask *provider* by a loop that is up to 8 ms late."""

    async def main() -> None:
        await provider.serve(virtual_gate(**limits), sizes, for_s=for_s)

    rng = random.Random(2)
    play(main(), lambda: rng.uniform(0, 0.008))


@pytest.mark.parametrize("window_s", [0.1, 1, 60])
def test_a_request_limit_is_used_up_without_refusals(window_s: float) -> None:
    """3,000 a minute, enforced in slices of any length: at least 98.5% are used, and at most 0.2% refused."""
    provider = Provider(Bucket(requests_per_min=3000, window_s=window_s))
    play_provider(provider, itertools.repeat(SMALL), for_s=30, requests_per_min=3000)
    assert provider.share(3000, from_s=2) >= 0.985
    assert provider.refused(from_s=2) <= 0.002


@pytest.mark.parametrize("window_s", [1, 60])
def test_a_token_limit_is_used_up_by_requests_of_all_sizes(window_s: float) -> None:
    """240,000 tokens a minute with sizes 30-fold apart: 98.5% used, 0.2% refused, and the large ones wait no longer."""
    provider = Provider(Bucket(tokens_per_min=240_000, window_s=window_s))
    sizes = itertools.cycle([SMALL] * 9 + [LARGE])
    play_provider(provider, sizes, for_s=60, tokens_per_min=240_000)
    assert provider.share(240_000, from_s=2, tokens=True) >= 0.985
    assert provider.refused(from_s=2) <= 0.002
    waits = {tokens: [one.waited_s for one in provider.sent if one.tokens == tokens] for tokens in (100, 3000)}
    assert max(waits[3000]) <= 2 * max(waits[100])


@pytest.mark.parametrize("counts_allowed", [True, False], ids=["counts what is allowed", "counts what is used"])
def test_a_token_limit_is_used_up_whatever_the_provider_counts(counts_allowed: bool) -> None:
    """A tenth of the allowed output is used, and the input estimated at half: the limit is used up all the same."""
    provider = Provider(Bucket(tokens_per_min=240_000, window_s=1), counts_allowed=counts_allowed)
    size = Size(input=100, estimate=50, allowed=500, output=50)
    play_provider(provider, itertools.repeat(size), for_s=300, tokens_per_min=240_000)
    assert provider.share(240_000, from_s=5, tokens=True) >= 0.985
    assert provider.refused(from_s=5) <= 0.004  # among them those that find out now and then whether it still does


@pytest.mark.parametrize("window_s", [0.1, 1, 60])
def test_a_limit_that_only_headers_tell_is_used_up(window_s: float) -> None:
    """Without any configured rate at least 95% of the limit is used, and 0.2% refused."""
    provider = Provider(Bucket(requests_per_min=3000, window_s=window_s, advertise=True))
    play_provider(provider, itertools.repeat(SMALL), for_s=20)
    assert provider.share(3000, from_s=2) >= 0.95
    assert provider.refused(from_s=2) <= 0.002


@pytest.mark.parametrize(("before", "after"), [(3000, 300), (300, 3000)], ids=["down", "up"])
def test_a_limit_that_changes_tenfold_is_followed(before: int, after: int) -> None:
    """Within two windows of a second the new limit is kept and used."""

    async def main() -> None:
        serving = asyncio.create_task(provider.serve(virtual_gate(), itertools.repeat(SMALL), for_s=30))
        await asyncio.sleep(10)
        provider.gates = [pacing.Gate(Bucket(requests_per_min=after, advertise=True))]
        provider.gates[0].admit(Ask(1, 1, "", "m", "", "", 0), now_s(), 0)
        await serving

    provider = Provider(Bucket(requests_per_min=before, advertise=True))
    play(main())
    assert provider.share(after, from_s=12) >= 0.95
    assert provider.refused(from_s=12) <= 0.01


def test_a_declared_rate_is_kept_though_headers_allow_more() -> None:
    """The lower one of what a user declares and what a provider tells counts."""
    provider = Provider(Bucket(requests_per_min=6000, advertise=True))
    play_provider(provider, itertools.repeat(SMALL), for_s=10, requests_per_min=600)
    assert 0.98 <= provider.share(600, from_s=2) <= 1


def test_a_rate_declared_a_little_too_high_is_corrected() -> None:
    """With 3% more declared than allowed, refusals slow the pace until they are few; the limit is used up."""
    provider = Provider(Bucket(requests_per_min=3000, window_s=1))
    play_provider(provider, itertools.repeat(SMALL._replace(output=4)), for_s=120, requests_per_min=3090)
    assert provider.share(3000, from_s=5) >= 0.97
    assert provider.refused(from_s=5) <= 0.005


def test_two_models_share_what_is_declared_for_both() -> None:
    """Two gates of a pool together keep its rate, each with about half of it."""
    providers = Provider(), Provider()

    async def main() -> None:
        pool, quota = virtual_pool(), Quota(requests_per_min=3000)
        async with asyncio.TaskGroup() as group:
            for provider in providers:
                group.create_task(provider.serve(pool.gate(quota), itertools.repeat(SMALL), for_s=10, workers=30))

    play(main())
    shares = [provider.share(3000, from_s=2) for provider in providers]
    assert sum(shares) == pytest.approx(0.995, abs=0.01)
    assert shares[0] == pytest.approx(shares[1], abs=0.02)


def test_a_storm_of_refusals_passes() -> None:
    """After 10 s in which everything is refused, the limit is used again within seconds, with few refusals."""

    async def main() -> None:
        serving = asyncio.create_task(provider.serve(virtual_gate(), itertools.repeat(SMALL), for_s=40))
        await asyncio.sleep(10)
        provider.is_shut = False
        await serving

    provider = Provider(Bucket(requests_per_min=3000, advertise=True))
    provider.is_shut = True
    play(main())
    assert provider.share(3000, from_s=15) >= 0.95
    assert provider.refused(from_s=15) <= 0.002


@settings(max_examples=30)
@given(st.lists(st.sampled_from([SMALL, LARGE]), min_size=2, max_size=40), st.sampled_from([None, 600.0]))
def test_first_come_first_served(sizes: list[Size], requests_per_min: float | None) -> None:
    """Whatever their sizes, requests go in the order in which they came."""
    order: list[int] = []

    async def main() -> None:
        gate = virtual_gate(tokens_per_min=600_000, requests_per_min=requests_per_min)

        async def ask(number: int, size: Size) -> None:
            await gate.enter(size.estimate, size.allowed)
            order.append(number)
            gate.leave()

        async with asyncio.TaskGroup() as group:
            for number, size in enumerate(sizes):
                group.create_task(ask(number, size))

    play(main())
    assert order == sorted(order)


def test_cached_input_does_not_use_up_a_limit_on_input() -> None:
    """Where headers limit input and output apart, input that comes from a cache is not counted."""
    told = {"anthropic-ratelimit-input-tokens-limit": "60000", "anthropic-ratelimit-output-tokens-limit": "90000"}
    went: list[float] = []

    async def main() -> None:
        gate = virtual_gate()
        while now_s() < 60:
            ticket = await gate.enter(1000, 100)
            went.append(now_s())
            gate.answered(ticket, Usage(input=100, output=20, cached_input=900), told)
            gate.leave()

    play(main())
    late = [at_s for at_s in went if at_s > 5]
    assert (len(late) - 1) / (late[-1] - late[0]) == pytest.approx(600 / 60, rel=0.02)


def test_a_large_pool_opens_within_a_tenth_of_a_second() -> None:
    """A thousand requests may be under way 0.1 s after the first, long before any answer."""
    went: list[float] = []

    async def main() -> None:
        gate = virtual_gate(concurrency=1000)

        async def ask() -> None:
            await gate.enter(1, 1)
            went.append(now_s())

        async with asyncio.TaskGroup() as group:
            for _ in range(1000):
                group.create_task(ask())

    play(main())
    assert went[63] < 0.001 < went[64]
    assert went[-1] <= 0.101
