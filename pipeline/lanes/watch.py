"""What the lanes tell each other and whoever watches: counters, and the wish to stop."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import anyio

from pipeline.records import PICO_USD, Status, Usage


@dataclass(slots=True)
class Counters:
    """How far a run has come. Costs are of this run only."""

    settled: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    attempts: int = 0
    under_way: int = 0  # requests that are out at this moment
    retries: int = 0
    rate_limited: int = 0
    repairs: int = 0
    escalations: int = 0
    cascades_kept: int = 0  # requests whose first two models agreed
    cascades_asked_up: int = 0  # requests that went to a further model, as they did not
    discarded_pusd: int = 0  # cost of the answers of cascades that do not count
    cut_off: int = 0  # requests that were under way when the run was told to end at once
    other_models: Counter[str] = field(default_factory=Counter)  # answers of models that were not asked, by their name
    maybe_paid: int = 0  # attempts that failed and that the provider may bill all the same
    spent_pusd: int = 0
    input_tokens: int = 0  # of all answers
    cached_tokens: int = 0  # of them, read from a provider's cache
    cache_saved_pusd: int = 0  # by reading from it, less what writing to it has cost
    waiting: dict[str, str] = field(default_factory=dict)  # model -> which batch its rows wait for
    remarks: list[str] = field(default_factory=list)  # what a person should know of the run

    def count_input(self, usage: Usage, saved_pusd: int) -> None:
        """Count the input of an answer, and what a cache saved on it."""
        self.input_tokens += usage.total_input
        self.cached_tokens += usage.cached_input
        self.cache_saved_pusd += saved_pusd

    def cache_told(self) -> dict[str, Any]:
        """Return what of the input came from providers' caches, and what that saved."""
        return {
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "hit_rate": self.cached_tokens / self.input_tokens if self.input_tokens else 0.0,
            "saved_usd": f"{self.cache_saved_pusd * PICO_USD:f}",
        }

    def cascades_told(self) -> dict[str, Any] | None:
        """Return how many requests of cascades were answered by two models that agreed; None without cascades."""
        settled = self.cascades_kept + self.cascades_asked_up
        if not settled:
            return None
        return {
            "kept": self.cascades_kept,
            "asked_up": self.cascades_asked_up,
            "share_kept": self.cascades_kept / settled,
            "discarded_usd": f"{self.discarded_pusd * PICO_USD:f}",
        }

    def nothing_comes(self) -> bool:
        """Tell whether no request is out, so that no answer can come."""
        return self.under_way == 0

    def plus(self, other: "Counters") -> "Counters":
        """Return the sums of two processes."""
        return Counters(**{one.name: _sum(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)})

    def set_to(self, other: "Counters") -> None:
        """Take over every count of *other*."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))

    @property
    def done(self) -> int:
        """Return the number of requests that have come to an end."""
        return sum(self.settled.values())


def _sum(one: Any, other: Any) -> Any:
    return {key: one[key] + other[key] for key in one} if type(one) is dict else one + other


class StopSignal:
    """A wish to stop that every waiting worker hears at once."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.reason: str | None = None

    def set(self, reason: str) -> None:
        """Ask every lane to start nothing new; the first *reason* stays."""
        if self.reason is None:
            self.reason = reason
            self._event.set()

    async def wait(self) -> None:
        """Wait until the run is to stop."""
        await self._event.wait()

    async def sleep(self, wait_s: float) -> None:
        """Sleep, but wake up when the run is to stop."""
        with anyio.move_on_after(wait_s):
            await self._event.wait()
