"""A model ready to be asked: its provider, its limits, its price, and whether it still works."""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from pipeline.catalogue import cost_pusd
from pipeline.lanes.breaker import Breaker
from pipeline.limits import Pool, Quota
from pipeline.records import Answer, Model, Price, Request, Usage
from pipeline.steps import RetryPolicy

# What follows the name of a model in the name of one of its versions: -2024-08-06, -20241022, -0613, -05-20, -latest.
_VERSION = re.compile(r"([-@:](latest|preview|exp|\d{4}-\d\d-\d\d|\d\d-\d\d|\d{3,8}))+$")


class Reply(NamedTuple):
    """An answer, with its latency in seconds where it is not the time just spent waiting."""

    answer: Answer
    latency_s: float | None = None


class Ask(Protocol):
    """How a provider is asked; raises CallError."""

    def __call__(self, request: Request, model: Model) -> Awaitable[Reply]:
        """Return the reply to *request*."""


class Service:
    """One provider: the quota its models share, and why it is not asked any more."""

    def __init__(self, name: str, pool: Pool, ask: Ask, policy: RetryPolicy, *, is_remote: bool = True) -> None:
        self.name = name
        self.pool = pool
        self.ask = ask
        self.policy = policy
        self.is_remote = is_remote
        self.halted: str | None = None


class Route:
    """One model of a service."""

    def __init__(
        self,
        model: Model,
        service: Service,
        price_at: Callable[[float], Price],
        max_output_tokens: int,
        breaker: Breaker,
        quotas: Sequence[Quota] = (),
    ) -> None:
        self.model = model
        self.service = service
        self.gate = service.pool.gate(*quotas)
        self.breaker = breaker
        self._price_at = price_at
        self._max_output_tokens = max_output_tokens
        self._halted: str | None = None

    @property
    def halted(self) -> str | None:
        """Return why this model is not asked any more, None while it is."""
        return self._halted or self.service.halted

    def halt(self, reason: str, *, whole_service: bool) -> None:
        """Ask this model, or every model of its provider, nothing more in this run."""
        if whole_service:
            self.service.halted = self.service.halted or reason
        else:
            self._halted = self._halted or reason

    def cost(self, usage: Usage, at: float) -> int:
        """Return what *usage* costs in pico-USD, for a request sent at *at* (Unix seconds)."""
        return cost_pusd(usage, self._price_at(at))

    def worst_cost(self, request: Request, at: float) -> int:
        """Return the most that *request* can cost: a token is at least one byte of UTF-8."""
        texts = (request.messages or request.user, request.system or "")
        most = max(sum(len(text.encode("utf-8", "replace")) for text in texts) + 64, request.input_tokens)
        return self.cost(Usage(most, self._max_output_tokens), at)


def other_model(echo: str, asked: Model) -> str | None:
    """Return *echo*, the name under which an answer came, unless it is *asked* or a version of it."""
    return None if echo == asked.wire_name or not echo or _family(echo) == _family(asked.wire_name) else echo


@lru_cache(maxsize=1024)
def _family(name: str) -> str:
    """Return a model's name without the vendor before it and the version behind it."""
    return _VERSION.sub("", name.rpartition("/")[2].casefold())
