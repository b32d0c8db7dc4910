"""Faults that take minutes on a real clock, on a lane whose breaker and prices have a quicker one."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from pipeline.catalogue import load_catalogue
from pipeline.lanes import Breaker, Budget, Counters, Lane, Route, StopSignal, Tariff
from pipeline.lanes.breaker import BreakerPolicy
from pipeline.lanes.online import Shared
from pipeline.lanes.route import other_model
from pipeline.ledger import connect, open_ledger, start_run
from pipeline.plan.planning import parameters_of
from pipeline.records import Model, Price
from pipeline.run.routes import Setting, open_routes, preflight
from pipeline.spec import load_job
from tests.builders import a_request
from tests.chaos.ledger_rows import Attempt, read_ledger
from tests.chaos.log import Exchange
from tests.chaos.scenarios import outage, rules
from tests.chaos.server import ChaosServer, serve
from tests.e2e.command import CANARY, make_job

QUICK = BreakerPolicy(probe_every_s=0.25, give_up_s=60, give_up_at_start_s=60)


class Bench(NamedTuple):
    """A lane ready to run."""

    route: Route
    shared: Shared
    ledger_path: Path
    server: ChaosServer

    async def ask(self, rows: int) -> None:
        """Ask so many rows."""
        await Lane(self.route, iter([a_request(number) for number in range(rows)]), self.shared).run(16)

    def attempts(self) -> tuple[Attempt, ...]:
        """Return what is in the ledger."""
        return read_ledger(self.ledger_path).attempts

    def seen(self) -> list[Exchange]:
        """Return what the server saw."""
        return self.server.log.exchanges()


@asynccontextmanager
async def bench(
    folder: Path, script: object, tariff_at: Callable[[float], Tariff] | None = None
) -> AsyncIterator[Bench]:
    """Open a lane to a server that follows *script*."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(script))  # type: ignore[arg-type]
        job = load_job(make_job(folder, server.base_url, rows=1).file)
        catalogue = load_catalogue(job)
        routes = await open_routes(stack, catalogue, preflight(catalogue, ["m"]), parameters_of(job), Setting(folder))
        route = routes["m"]
        if tariff_at is not None:
            route = Route(route.model, route.service, tariff_at, parameters_of(job), route.breaker)
        route.breaker = Breaker(QUICK)
        path = folder / "ledger.sqlite"
        connection = stack.enter_context(closing(connect(path, "job")))
        ledger = await stack.enter_async_context(open_ledger(connection, path, start_run(connection)))
        shared = Shared(
            routes={"m": route},
            parameters=parameters_of(job),
            ledger=ledger,
            carried={},
            budget=Budget(None),
            counters=Counters(),
            stop=StopSignal(),
            rng=Random(1),
        )
        yield Bench(route, shared, path, server)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_API_KEY", CANARY)


@pytest.mark.anyio
async def test_an_outage_is_probed_and_survived(tmp_path: Path) -> None:
    """While everything fails only probes go out; when it works again every row is answered, without a new start."""
    down_s, rows = 2.0, 600
    script = outage(0.3, 0.3 + down_s)
    script["default"] = {"latency_s": 0.02}
    async with bench(tmp_path, script) as lane:
        await lane.ask(rows)
        assert [attempt.status for attempt in lane.attempts() if attempt.final] == ["ok"] * rows
        assert lane.route.halted is None
        assert not lane.route.breaker.is_open
        seen = lane.seen()
    refused = [one for one in seen if one.completion is not None and one.completion.status == 503]
    probes = down_s / QUICK.probe_every_s + 1
    # What was under way when it began, and what the breaker needs to open.
    assert 5 <= len(refused) <= 16 + 5 + probes
    assert refused[-1].arrival.t - refused[0].arrival.t > QUICK.probe_every_s


@pytest.mark.anyio
async def test_the_limits_that_a_refusal_tells_are_kept(tmp_path: Path) -> None:
    """Only the first reply, a 429, says how many requests a minute there may be, and no more go out from then on."""
    told = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    script = rules(({"first": 1}, {"status": 429, "retry_after": 0.1, "headers": told}))
    async with bench(tmp_path, script) as lane:
        await lane.ask(20)
        times = [one.arrival.t for one in lane.seen()]
    assert len(times) == 21
    assert times[-1] - times[1] > 1.5


@pytest.mark.parametrize(
    ("asked", "echo", "other"),
    [
        ("gpt-4o", "gpt-4o", False),
        ("gpt-4o", "gpt-4o-2024-08-06", False),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", False),
        ("gpt-4-1106-preview", "gpt-4", False),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", False),
        ("mistral-small-latest", "Mistral-Small-2506", False),
        ("gemini-2.5-flash", "gemini-2.5-flash-preview-05-20", False),
        ("deepseek-chat", "", False),
        ("gpt-4o", "gpt-4o-mini", True),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", True),
        ("glm-4.6", "glm-4.5", True),
        ("llama-3-70b", "llama-3-8b", True),
    ],
)
def test_a_version_is_no_other_model(asked: str, echo: str, other: bool) -> None:
    """Dates, `latest` and a vendor's name make no other model; another size, generation or family does."""
    model = Model(name="m", provider="p", context_tokens=1, prices=(), api_name=asked)
    assert (other_model(echo, model) is not None) == other


@pytest.mark.anyio
async def test_each_row_is_priced_by_the_time_it_was_sent(tmp_path: Path) -> None:
    """A price that changes in mid-run holds for the requests sent from then on, not for those under way."""
    old, new = (Tariff.of(Price(Decimal(amount), Decimal(amount))) for amount in (1, 2))
    priced, change = 0, math.inf

    def tariff_at(at: float) -> Tariff:
        nonlocal priced, change
        priced += 1
        if priced == 100:
            change = at + 0.1  # while this one was under way
        return old if at < change else new

    async with bench(tmp_path, rules(({}, {"latency_s": 0.2})), tariff_at) as lane:
        await lane.ask(300)
        attempts = lane.attempts()
    for attempt in attempts:
        per_token = 1_000_000 if attempt.started_at < change else 2_000_000  # pico-USD
        assert attempt.cost_pusd == per_token * (attempt.input_tokens + attempt.output_tokens)
    assert len({attempt.started_at < change for attempt in attempts}) == 2
    assert any(attempt.started_at < change < attempt.started_at + attempt.latency_s for attempt in attempts)
