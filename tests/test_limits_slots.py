"""Requests at a time: the window of a model, and fair shares between models."""

import asyncio
from contextlib import ExitStack

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.slots import Line, Slots, Window, fair_shares


def test_the_window_doubles_to_its_cap_as_long_as_nothing_is_refused() -> None:
    """It starts at 64, so that a cap up to that costs nothing, and needs four steps to a thousand."""
    assert Window(64).limit == 64
    window, limits = Window(1000), list[int]()
    while window.is_ramping:
        limits.append(window.limit)
        window.double()
    assert (limits, window.limit) == ([64, 128, 256, 512], 1000)


def test_a_burst_of_refusals_shrinks_the_window_once() -> None:
    """Of the requests that were under way together only the first refusal counts; one sent later counts again."""
    window = Window(100)
    window.double()
    assert [window.refuse(0) for _ in range(50)] == [True] + [False] * 49
    assert window.limit == 80
    assert window.refuse(window.episode)
    assert window.limit == 64


def test_after_a_refusal_the_window_grows_by_a_twentieth_of_the_cap_each_round() -> None:
    """It takes as many answers as it allows for each step, and stops at the cap."""
    window = Window(100)
    window.double()
    window.refuse(0)
    answers = 0
    while window.limit < 100:
        window.answer()
        answers += 1
    assert answers == 80 + 85 + 90 + 95
    assert not window.answer()


@given(
    cap=st.integers(1, 3000), events=st.lists(st.sampled_from(["answer", "refuse", "stale", "double"]), max_size=400)
)
def test_the_window_stays_within_its_bounds(cap: int, events: list[str]) -> None:
    """Whatever happens, it allows at least one request, never more than its cap, and shrinks by a fifth at most."""
    window = Window(cap)
    for event in events:
        before, episode = window.limit, window.episode
        if event == "answer":
            window.answer()
        elif event == "double":
            window.double()
        else:
            window.refuse(episode - (event == "stale"))
        assert 1 <= window.limit <= cap
        if event == "refuse":
            assert window.limit == max(1, int(0.8 * before))
        else:
            assert window.limit >= before


@given(st.integers(1, 500), st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_shares_are_max_min_fair(capacity: int, demands: list[int]) -> None:
    """Nobody gets more than wanted, none is left over while somebody wants it, and who lacks has about the largest."""
    shares = fair_shares(capacity, demands)
    assert all(1 <= share <= demand for share, demand in zip(shares, demands, strict=True))
    if capacity >= len(demands):
        assert sum(shares) == min(capacity, sum(demands))
        lacking = [share for share, demand in zip(shares, demands, strict=True) if share < demand]
        assert not lacking or min(lacking) >= max(shares) - 1


@pytest.mark.anyio
async def test_a_slow_model_leaves_a_fast_one_its_share() -> None:
    """However many slow requests came first, half of the places are for the other model."""
    slots, stack = Slots(10), ExitStack()
    slow, fast = slots.line(), slots.line()
    with stack:
        stack.enter_context(slow.steady(10))
        with fast.steady(10):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(slow.enter)
                await anyio.wait_all_tasks_blocked()
                assert slow.held == 5
                with anyio.fail_after(1):
                    for _ in range(100):
                        await fast.enter()
                        fast.leave()
                group.cancel_scope.cancel()
        assert slow.share == 10


@pytest.mark.anyio
async def test_a_model_that_is_done_gives_its_share_to_those_who_wait() -> None:
    """When a lane ends, the others get its places at once."""
    slots = Slots(4)
    one, other = slots.line(), slots.line()
    with one.steady(9):
        async with anyio.create_task_group() as group:
            with other.steady(9):
                for _ in range(4):
                    group.start_soon(one.enter)
                await anyio.wait_all_tasks_blocked()
                assert one.held == 2
            await anyio.wait_all_tasks_blocked()
            assert (one.held, slots.free) == (4, 0)


@pytest.mark.anyio
async def test_who_is_cancelled_when_let_in_gives_the_place_back() -> None:
    """A cancellation that comes between a place and its taker loses neither the place nor the next in line."""
    line = Slots(1).line()
    await line.enter()
    first, second = (asyncio.create_task(line.enter()) for _ in range(2))
    await anyio.wait_all_tasks_blocked()
    line.leave()
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert not second.cancelled()
    assert line.held == 1


EVENTS = st.tuples(st.sampled_from(["come", "come", "leave", "cancel", "both"]), st.integers(0, 99), st.integers(0, 3))


@pytest.mark.anyio
@given(st.integers(1, 4), st.integers(1, 3), st.lists(EVENTS, max_size=30))
async def test_places_are_neither_lost_nor_given_twice(
    capacity: int, models: int, events: list[tuple[str, int, int]]
) -> None:
    """With requests that come, leave and are cancelled at any moment, the places add up and nobody waits beside one."""
    slots = Slots(capacity)
    lines = [slots.line() for _ in range(models)]
    inside: list[asyncio.Event] = []
    tasks: list[asyncio.Task[None]] = []

    async def call(line: Line) -> None:
        done = asyncio.Event()
        await line.enter()
        inside.append(done)
        try:
            await done.wait()
        finally:
            inside.remove(done)
            line.leave()

    for event, which, passes in events:
        if event == "come":
            tasks.append(asyncio.create_task(call(lines[which % models])))
        if event in ("leave", "both") and inside:
            inside[0].set()
        if event in ("cancel", "both") and tasks:
            tasks[which % len(tasks)].cancel()
        for _ in range(passes):
            await anyio.lowlevel.checkpoint()
        assert slots.free == capacity - sum(line.held for line in lines) >= 0
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert sum(line.held for line in lines) == len(inside)
    assert slots.free == 0 or len(inside) == sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert slots.free == capacity
