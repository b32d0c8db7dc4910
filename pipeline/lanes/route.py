"""A model ready to be asked: its provider, its limits, its price, and whether it still works."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

import anyio

from pipeline.catalogue import bill, cheap_from
from pipeline.lanes.batch_client import BatchClient
from pipeline.lanes.breaker import Breaker
from pipeline.lanes.watch import StopSignal
from pipeline.limits import Pool, Quota
from pipeline.packing import Packing
from pipeline.records import Answer, Model, Parameters, Price, Request, Usage
from pipeline.steps import RetryPolicy

# What follows the name of a model in the name of one of its versions: -2024-08-06, -20241022, -0613, -05-20, -latest.
_VERSION = re.compile(r"([-@:](latest|preview|exp|\d{4}-\d\d-\d\d|\d\d-\d\d|\d{3,8}))+$")

_REPAIRS_TO_TRY, _LEAST_MENDED = 20, 0.1  # a repair costs as much as the first question, or more
_AROUND_BYTES = 256  # what a chat format and the form of the answer put round the texts


class Reply(NamedTuple):
    """An answer, with its latency in seconds where it is not the time just spent waiting."""

    answer: Answer
    latency_s: float | None = None


class Ask(Protocol):
    """How a provider is asked; raises CallError."""

    def __call__(self, request: Request, model: Model) -> Awaitable[Reply]:
        """Return the reply to *request*."""


class Tariff(NamedTuple):
    """A price, and what one usage costs at it in pico-USD, asked alone and in a batch."""

    price: Price
    alone: Callable[[Usage], int]
    in_batch: Callable[[Usage], int]

    @classmethod
    def of(cls, price: Price) -> "Tariff":
        """Return the tariff of *price*."""
        return cls(price, bill(price), bill(price.batch or price))


class Packed(NamedTuple):
    """How rows are packed: *ask* allows a whole pack to write more than a row may."""

    packing: Packing
    ask: Ask


class Service:
    """One provider: the quota its models share, and why it is not asked any more."""

    batches: BatchClient | None = None  # its batch API, where it has one
    ask_with: Callable[[Parameters], Ask] | None = None  # how it is asked with other parameters than the job's
    poll_s = 60.0  # how often a batch is looked at

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
        tariff_at: Callable[[float], Tariff],
        parameters: Parameters,
        breaker: Breaker,
        quotas: Sequence[Quota] = (),
    ) -> None:
        self.model = model
        self.service = service
        self.gate = service.pool.gate(*quotas)
        self.breaker = breaker
        self._tariff_at = tariff_at
        self._max_output_tokens = parameters.max_output_tokens
        self._form_bytes = len((parameters.schema or "").encode()) + sum(
            len(one.encode()) for one in parameters.choices
        )
        self._halted: str | None = None
        self._waits = False
        self._cheap_from = 0.0
        self.opened = anyio.Event()  # set once more than one request may be under way
        self.repairs = 0
        self.mended = 0  # repairs after which the form was right

    def open_up(self) -> None:
        """Let everybody ask: the model is there and takes what it is sent."""
        self.opened.set()

    @property
    def is_worth_repairing(self) -> bool:
        """Tell whether answers of a wrong form are asked for once more: until that has hardly ever helped."""
        return self.repairs < _REPAIRS_TO_TRY or self.mended >= _LEAST_MENDED * self.repairs

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

    def wait_for_cheap_hours(self) -> None:
        """Start no request in hours that are dearer than others of the week."""
        self._waits = True

    def dear_for_s(self, now: float) -> float:
        """Return for how many seconds from *now* (Unix seconds) no request may start; 0 where it may."""
        # Hours begin and end with minutes, so a look a minute is enough.
        if self._waits and self._cheap_from // 60 < now // 60:
            self._cheap_from = cheap_from(self.model, datetime.fromtimestamp(now, UTC)).timestamp()
        return max(0.0, self._cheap_from - now)

    def cost(self, usage: Usage, at: float, *, batch: bool = False) -> int:
        """Return what *usage* costs in pico-USD, for a request sent at *at* (Unix seconds), in a *batch* or alone."""
        tariff = self._tariff_at(at)
        return (tariff.in_batch if batch else tariff.alone)(usage)

    async def cheap_hours(self, stop: StopSignal) -> None:
        """Wait while no request may start, or until the run is to stop."""
        while stop.reason is None and (dear_for_s := self.dear_for_s(time.time())):
            await stop.sleep(min(dear_for_s, 60.0))  # the clock may be set meanwhile

    def saved_by_cache(self, usage: Usage, at: float, *, batch: bool = False) -> int:
        """Return what reading from a cache saved in pico-USD; below 0 where writing to it has cost more."""
        if usage.total_input == usage.input:
            return 0
        fresh = Usage(usage.total_input, usage.output)
        return self.cost(fresh, at, batch=batch) - self.cost(usage, at, batch=batch)

    def price(self, at: float) -> Price:
        """Return the price of a request sent at *at* (Unix seconds)."""
        return self._tariff_at(at).price

    def worst_cost(
        self, request: Request, at: float, *, batch: bool = False, max_output_tokens: int | None = None
    ) -> int:
        """Return the most that *request* can cost: a token is a byte of UTF-8 at least, and may go into a cache."""
        texts = (request.messages or request.user, request.system or "")
        size = sum(len(text.encode("utf-8", "replace")) for text in texts) + self._form_bytes + _AROUND_BYTES
        most = max(size, request.input_tokens)
        output = max_output_tokens or self._max_output_tokens
        ways = (Usage(most, output), Usage(0, output, cache_write_5m=most), Usage(0, output, cache_write_1h=most))
        return max(self.cost(usage, at, batch=batch) for usage in ways)


def other_model(echo: str, asked: Model) -> str | None:
    """Return *echo*, the name under which an answer came, unless it is *asked* or a version of it."""
    return None if echo == asked.wire_name or not echo or _family(echo) == _family(asked.wire_name) else echo


@lru_cache(maxsize=1024)
def _family(name: str) -> str:
    """Return a model's name without the vendor before it and the version behind it."""
    return _VERSION.sub("", name.rpartition("/")[2].casefold())
