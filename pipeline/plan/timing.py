"""Whether a model's requests go into a provider's batch or one by one: cheaper, but in time for the deadline."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

Lane = Literal["batch", "sync"]

_ONE_BY_ONE_S = 2.0  # a request where no rate is declared: a usual answer of a usual model
_RESERVE = timedelta(minutes=15)  # at least, for what a batch leaves over
_RESERVE_SHARE = 1.5  # of the time that all requests take one by one
_LEAST = timedelta(hours=1)  # that a batch must have to be worth a try


class Timing(NamedTuple):
    """What a job says of batches, and when: `deadline` is None where any time is early enough."""

    mode: Literal["never", "auto", "always"]
    at: datetime
    deadline: datetime | None = None


class Choice(NamedTuple):
    """How a model is asked. From `due_at` on (Unix seconds) what has no answer is asked one by one."""

    lane: Lane
    due_at: float | None = None


def next_time(clock: str, now: datetime) -> datetime:
    """Return when *clock* ("07:00", in the zone of *now*) is next."""
    hour, minute = map(int, clock.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def choose_lane(timing: Timing, *, can_batch: bool, requests: int, minutes: float | None, at_once: int) -> Choice:
    """Choose for a model with so many *requests* to send, which take *minutes* at its limits, *at_once* at a time.

    `auto` takes a batch where there is a deadline with an hour or more to spare before the time that the same requests
    need one by one; `always` wherever the provider has batches, while there is time.
    """
    if timing.mode == "never" or not can_batch or not requests:
        return Choice("sync")
    if timing.deadline is None:
        return Choice("batch" if timing.mode == "always" else "sync")
    alone = timedelta(minutes=minutes or requests * _ONE_BY_ONE_S / 60 / at_once)
    due = timing.deadline - max(_RESERVE, alone * _RESERVE_SHARE)
    least = _LEAST if timing.mode == "auto" else timedelta(0)
    return Choice("batch", due.timestamp()) if due - timing.at > least else Choice("sync", due.timestamp())
