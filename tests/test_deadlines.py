"""Time limits of calls, kept by one timer."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.transport.deadlines import Deadlines
from tests.virtual_time import play


async def outcome(call: Awaitable[str]) -> str:
    """Return what *call* came to, by name."""
    try:
        return await call
    except TimeoutError:
        return "too late"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40))
def test_the_late_are_ended_and_nobody_else(calls: list[tuple[int, int]]) -> None:
    """Of any calls begun at any times, exactly those end in TimeoutError that would take longer than the limit."""

    async def one(deadlines: Deadlines, begins: int, takes: int) -> str:
        await asyncio.sleep(begins)
        return await outcome(deadlines.keep(asyncio.sleep(takes, "in time")))

    async def run() -> list[str]:
        deadlines = Deadlines(4.5)
        return await asyncio.gather(*(one(deadlines, begins, takes) for begins, takes in calls))

    assert play(run()) == ["in time" if takes < 4.5 else "too late" for _, takes in calls]


@pytest.mark.anyio
async def test_a_cancelled_call_is_no_late_one() -> None:
    """Who is cancelled from outside sees that, and not a TimeoutError."""
    ended = []

    async def call() -> None:
        try:
            await Deadlines(60).keep(anyio.sleep(60))
        except BaseException as error:
            ended.append(type(error))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert ended == [anyio.get_cancelled_exc_class()]


@pytest.mark.anyio
async def test_a_late_call_leaves_its_task_as_it_was() -> None:
    """After a call that was too late, the task can wait, and be limited, as before."""
    deadlines = Deadlines(0.01)
    assert await outcome(deadlines.keep(_forever())) == "too late"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(60)
    assert scope.cancelled_caught


@pytest.mark.anyio
@pytest.mark.parametrize("end", [ValueError, KeyError])
async def test_what_a_call_raises_comes_through(end: Callable[[], Exception]) -> None:
    """A call that fails in time raises what it raised."""

    async def fails() -> str:
        raise end()

    with pytest.raises(end):  # type: ignore[arg-type]
        await Deadlines(60).keep(fails())


@pytest.mark.parametrize("cancelled_at_s", [0.999, 1.001])
def test_an_end_at_both_moments_is_a_cancellation(cancelled_at_s: float) -> None:
    """A call that is found too late in the same turn of the loop in which its task is cancelled counts as cancelled."""

    async def run() -> bool:
        task = asyncio.ensure_future(Deadlines(1).keep(_forever()))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(cancelled_at_s, task.cancel)
        await asyncio.wait([task])
        return task.cancelled()

    assert play(run(), lambda: 0.01)


async def _forever() -> str:
    await anyio.sleep(3600)
    return "never"
