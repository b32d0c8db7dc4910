"""The breaker and the budget: decisions without waiting."""

from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lanes import Breaker, Budget, Reply, Route, Service, Tariff
from pipeline.lanes.breaker import BreakerPolicy
from pipeline.limits import Pool
from pipeline.records import Model, Parameters, Price, Request, Usage
from pipeline.steps import RetryPolicy
from tests.builders import a_request

A_ROW = b"0" * 16


def row(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_one_poison_row_does_not_stop_a_lane() -> None:
    """However often one row fails, calls for others go on."""
    breaker = Breaker()
    for _ in range(100):
        breaker.fail(A_ROW, 0.0)
    assert not breaker.is_open


def test_five_rows_failing_on_end_stop_it() -> None:
    """Five different rows failing in a row hold calls back; one probe goes out each period; an answer closes it again."""
    breaker = Breaker(BreakerPolicy(probe_every_s=30))
    for number in range(5):
        assert breaker.wait_s(0.0) == 0
        breaker.fail(row(number), 0.0)
    assert breaker.is_open
    assert breaker.wait_s(10.0) == 20
    assert breaker.wait_s(30.0) == 0
    assert breaker.wait_s(30.0) == 30
    breaker.succeed()
    assert not breaker.is_open
    assert breaker.wait_s(31.0) == 0


def test_half_of_the_last_twenty_stop_it() -> None:
    """A provider that fails every other call is held back, too."""
    breaker = Breaker()
    for number in range(20):
        breaker.fail(row(number), 0.0) if number % 2 else breaker.succeed()
    assert breaker.is_open


@pytest.mark.parametrize(("answered", "limit_s"), [(False, 12.0), (True, 900.0)], ids=["at the start", "later"])
def test_an_outage_is_waited_out_only_so_long(answered: bool, limit_s: float) -> None:
    """A provider that never answered is given up sooner than one that did."""
    breaker = Breaker()
    if answered:
        breaker.succeed()
    for number in range(5):
        breaker.fail(row(number), 100.0)
    assert not breaker.gave_up(100 + limit_s)
    assert breaker.gave_up(100 + limit_s + 1)


def test_equal_refusals_from_the_first_answers_on_mean_a_wrong_configuration() -> None:
    """Twenty equal refusals before any answer stop a lane; after an answer they do not."""
    breaker = Breaker()
    assert [breaker.refuse("404 model_not_found") for _ in range(20)] == [False] * 19 + [True]
    answered = Breaker()
    answered.succeed()
    assert not any(answered.refuse("404 model_not_found") for _ in range(30))


@given(st.lists(st.booleans(), max_size=300))
def test_retries_stay_within_a_tenth_of_the_successes_and_ten(events: list[bool]) -> None:
    """Whatever happens in whatever order, retries never pass their budget."""
    breaker, successes, retries = Breaker(), 0, 0
    for succeeded in events:
        if succeeded:
            breaker.succeed()
            successes += 1
        elif breaker.may_retry():
            retries += 1
        assert retries <= 10 + 0.1 * successes + 1e-9


@pytest.mark.anyio
@given(
    cap=st.integers(0, 1000),
    calls=st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), max_size=30),
    workers=st.integers(1, 6),
)
async def test_spending_never_passes_the_cap(cap: int, calls: list[tuple[int, float]], workers: int) -> None:
    """With any number of workers, what is spent and reserved stays within the cap at every moment."""
    budget, todo = Budget(cap), iter(calls)

    async def work() -> None:
        for worst, share in todo:
            if not await budget.reserve(worst):
                return
            assert budget.spent_pusd + worst <= cap
            await anyio.lowlevel.checkpoint()
            budget.settle(worst, int(worst * share))
            assert budget.spent_pusd <= cap

    async with anyio.create_task_group() as group:
        for _ in range(workers):
            group.start_soon(work)


@pytest.mark.anyio
async def test_a_reservation_waits_for_cheaper_answers() -> None:
    """A request that does not fit beside what is under way starts when that turns out cheaper."""
    budget = Budget(100)
    assert await budget.reserve(80)
    with anyio.fail_after(1):
        async with anyio.create_task_group() as group:
            group.start_soon(budget.reserve, 50)
            await anyio.wait_all_tasks_blocked()
            budget.settle(80, 10)
    assert not await Budget(100, spent_pusd=60).reserve(41)


@pytest.mark.anyio
@pytest.mark.parametrize("write_1h", [None, "1", "4"])
async def test_the_worst_case_bounds_every_way_of_counting(write_1h: str | None) -> None:
    """However a provider splits a prompt into fresh, cached and cache-writing tokens, it costs no more than reserved."""
    price = Price(Decimal(2), Decimal(8), Decimal("0.2"), Decimal("2.5"), write_1h and Decimal(write_1h))
    parameters = Parameters(10, schema='{"type": "object"}')
    service = Service("p", Pool(), no_one, RetryPolicy())
    route = Route(Model("m", "p", 1000, (price,)), service, lambda _: Tariff.of(price), parameters, Breaker())
    request = a_request(user="é" * 50, system="s", input_tokens=20)
    tokens = 2 * 50 + 1 + len(parameters.schema or "")

    worst = route.worst_cost(request, 0.0)

    for usage in (Usage(tokens, 10), Usage(0, 10, tokens), Usage(0, 10, 0, tokens), Usage(0, 10, 0, 0, tokens)):
        assert route.cost(usage, 0.0) <= worst


async def no_one(request: Request, model: Model) -> Reply:
    """Answer nothing: the route is only asked for its prices."""
    raise AssertionError(request, model)
