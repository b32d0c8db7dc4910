"""Gates and pools in real time: places, pauses, and a server that enforces its limits."""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from pipeline.errors import CallError, ErrorKind
from pipeline.limits import Gate, Pool, Quota
from pipeline.providers import find_adapter
from pipeline.records import Model, Parameters, Request
from pipeline.transport import Endpoint, check_base_url, open_connections
from tests.chaos.server import serve


@pytest.mark.anyio
async def test_no_more_at_a_time_than_the_concurrency() -> None:
    """However many wait at however many gates, only so many are inside."""
    pool, inside, most = Pool(concurrency=3), 0, 0
    gates = [pool.gate(), pool.gate()]

    async def call(gate: Gate) -> None:
        nonlocal inside, most
        await gate.enter(1, 1)
        inside += 1
        most = max(most, inside)
        await anyio.sleep(0.001)
        inside -= 1
        gate.leave()

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(call, gates[number % 2])
    assert most == 3


@pytest.mark.anyio
async def test_a_pause_holds_back_everyone_once_and_one_model_only() -> None:
    """During a pause nobody gets in at that gate, others do; after it the gate is as before."""
    pool = Pool()
    gate, other = pool.gate(), pool.gate()
    gate.pause(0.05)
    gate.pause(0.02)
    began = time.monotonic()
    await other.enter(1, 1)
    assert time.monotonic() - began < 0.05
    await gate.enter(1, 1)
    assert time.monotonic() - began >= 0.05
    await gate.enter(1, 1)
    assert time.monotonic() - began < 1


@pytest.mark.anyio
async def test_a_request_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    """Its place and its turn go to the next one."""
    gate = Pool(concurrency=1).gate(Quota(requests_per_min=60_000))
    gate.pause(30)
    with anyio.move_on_after(0.01):
        await gate.enter(1, 1)
    waiter = asyncio.create_task(gate.enter(1, 1))
    await anyio.wait_all_tasks_blocked()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert gate._line.held == 0
    assert not gate._turn.locked()


@pytest.mark.anyio
async def test_many_refusals_at_once_shrink_the_window_once() -> None:
    """All requests under way are refused together: the next ones are four fifths as many."""
    gate = Pool(concurrency=50).gate()
    tickets = [await gate.enter(1, 1) for _ in range(50)]
    for ticket in tickets:
        gate.refused(ticket)
        gate.leave()
    with anyio.move_on_after(0.02):
        for _ in range(50):
            await gate.enter(1, 1)
    assert gate._line.held == 40


async def ask_all(base_url: str, quota: Quota, *, rows: int, workers: int = 32) -> tuple[float, int]:
    """Get *rows* answers within *quota*; return the seconds it took and how many were refused."""
    adapter, model, parameters = find_adapter("openai"), Model("m", "chaos", 1000, ()), Parameters(16)
    gate, numbers, refused, rng = Pool(concurrency=workers).gate(quota), iter(range(rows)), 0, random.Random(1)
    began = time.monotonic()

    async def ask(endpoint: Endpoint, number: int) -> float | None:
        request = Request(number.to_bytes(16), str(number), f"mark=row-{number:06};", input_tokens=12)
        ticket = await gate.enter(12, 16)
        try:
            answer = adapter.decode(await endpoint.send(adapter.encode(request, model, parameters)))
            gate.answered(ticket, answer.usage, answer.limits)
            return None
        except CallError as error:
            if error.kind is not ErrorKind.RATE:
                raise
            gate.refused(ticket)
            gate.observe(error.limits)
            return error.retry_after_s
        finally:
            gate.leave()

    async def work(endpoint: Endpoint) -> None:
        nonlocal refused
        for number in numbers:
            while (wait_s := await ask(endpoint, number)) is not None:
                refused += 1
                gate.pause(wait_s * rng.uniform(1, 1.25))

    async with open_connections(100) as connections, anyio.create_task_group() as group:
        endpoint = Endpoint(connections, check_base_url("test", base_url), adapter.headers("k"), 10)
        for _ in range(workers):
            group.start_soon(work, endpoint)
    return time.monotonic() - began, refused


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bucket", "limits", "most_refused"),
    [
        pytest.param({"requests_per_min": 6000, "window_s": 0.1}, {"requests_per_min": 6000}, 4, id="requests"),
        pytest.param({"tokens_per_min": 168_000, "window_s": 1}, {"tokens_per_min": 168_000}, 4, id="tokens"),
        pytest.param({"requests_per_min": 6000, "window_s": 1, "advertise": True}, {}, 60, id="only headers tell"),
    ],
)
async def test_an_enforcing_server_is_used_to_its_limit(
    bucket: Mapping[str, float], limits: dict[str, Any], most_refused: int
) -> None:
    """200 rows at 100 a second over real sockets: none is lost, and it takes hardly longer than it must."""
    async with serve({"buckets": [bucket]}) as server:
        took_s, refused = await ask_all(server.base_url, Quota(**limits), rows=200)
        answered = [one for one in server.log.exchanges() if one.completion and one.completion.status == 200]
    assert len({one.arrival.mark for one in answered}) == len(answered) == 200
    assert refused <= most_refused
    assert took_s < 4
