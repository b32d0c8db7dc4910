"""What models share: amounts a day and pauses."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits import Pool, Quota, Used
from pipeline.limits.reckoning import Need
from pipeline.records import Usage

DAY_S = 86_400


@given(
    most=st.integers(1, 50),
    used=st.integers(0, 60),
    moments=st.lists(st.floats(0, 3 * DAY_S), max_size=80).map(sorted),
)
def test_no_day_sees_more_than_its_quota(most: int, used: int, moments: list[float]) -> None:
    """Whatever the moments, no calendar day in UTC gets more requests than declared, those before the run included."""
    now = 0.0
    quota = Quota(requests_per_day=most, used=Used(requests=used), clock=lambda: now)
    taken = {0: used, 1: 0, 2: 0, 3: 0}
    for now in moments:
        if quota.claim(Need(1, 1, 1)) is None:
            taken[int(now // DAY_S)] += 1
    assert all(count <= max(most, used if day == 0 else 0) for day, count in taken.items())


def test_what_was_not_used_can_be_claimed_again() -> None:
    """Tokens are claimed at the most that a request may take, and what its usage leaves over is free again."""
    quota = Quota("small", tokens_per_day=100, clock=lambda: 0.0)
    assert quota.claim(Need(30, 30, 70)) is None
    refusal = quota.claim(Need(1, 1, 1))
    assert refusal == "tokens_per_day of quota small: the 100 of today are used up until 00:00 UTC"
    quota.settle(Need(30, 30, 70), Need(20, 20, 10))
    assert quota.claim(Need(30, 30, 40)) is None


@pytest.mark.anyio
async def test_a_request_that_one_quota_refuses_leaves_the_others_as_they_were() -> None:
    """A gate within two quotas counts a request in both or in none, and gives back what was not used."""
    narrow, wide = Quota("narrow", tokens_per_day=1000), Quota(tokens_per_day=50)
    gate = Pool().gate(narrow, wide)
    ticket = await gate.enter(10, 20)
    first = gate.claim(ticket, 10, 20)
    assert not isinstance(first, str)
    assert isinstance(gate.claim(ticket, 10, 20), str)
    gate.answered(first, Usage(5, 5), {})
    assert not isinstance(gate.claim(ticket, 10, 20), str)
    assert narrow.claim(Need(0, 0, 961)) is not None
    assert narrow.claim(Need(0, 0, 960)) is None


@pytest.mark.anyio
async def test_a_pause_holds_for_all_who_share_the_narrowest_quota() -> None:
    """Models of one declared quota wait together, those that share only the provider do not."""
    pool, everyone, shared = Pool(), Quota(), Quota("shared", requests_per_min=60_000)
    first, second, other = pool.gate(shared, everyone), pool.gate(shared, everyone), pool.gate(everyone)
    began = time.monotonic()
    first.pause(0.1)
    await other.enter(1, 1)
    assert time.monotonic() - began < 0.1
    await second.enter(1, 1)
    assert time.monotonic() - began >= 0.1
