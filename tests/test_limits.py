"""Pools: never faster than allowed, first come first served."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from pipeline.limits import Pool


@pytest.mark.anyio
async def test_no_more_at_a_time_than_the_concurrency() -> None:
    """However many wait, only so many are inside."""
    pool, inside, most = Pool(concurrency=3), 0, 0

    async def call() -> None:
        nonlocal inside, most
        await pool.enter(1)
        inside += 1
        most = max(most, inside)
        await anyio.lowlevel.checkpoint()
        inside -= 1
        pool.leave()

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(call)
    assert most == 3


@pytest.mark.anyio
async def test_requests_keep_to_the_rate() -> None:
    """At 6,000 a minute no tenth of a second sees more than a tenth of a second's worth and the burst."""
    pool, times = Pool(requests_per_min=6000, concurrency=50), list[float]()

    async def call() -> None:
        await pool.enter(1)
        times.append(asyncio.get_running_loop().time())
        pool.leave()

    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(call)
    for start in times:
        assert sum(start <= time < start + 0.1 for time in times) <= 10 + 5 + 1


@pytest.mark.anyio
async def test_a_large_request_is_served_in_its_turn() -> None:
    """A request of many tokens, larger than the bucket, is neither refused nor overtaken by small ones behind it."""
    pool, order = Pool(tokens_per_min=600_000, concurrency=50), list[int]()

    async def call(tokens: int) -> None:
        await pool.enter(tokens)
        order.append(tokens)
        pool.leave()

    async with anyio.create_task_group() as group:
        for tokens in (10, 3000, 11, 12, 13):
            group.start_soon(call, tokens)
            await anyio.wait_all_tasks_blocked()
    assert order == [10, 3000, 11, 12, 13]


@pytest.mark.anyio
async def test_a_pause_holds_back_everyone_once() -> None:
    """During a pause nobody gets in; after it the pool is as before."""
    pool = Pool()
    loop = asyncio.get_running_loop()
    pool.pause(0.05)
    began = loop.time()
    await pool.enter(1)
    assert loop.time() - began >= 0.05
    await pool.enter(1)
    assert loop.time() - began < 1
