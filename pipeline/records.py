"""The values that pass between stages. No I/O and no third-party import here."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, NamedTuple

PICO_USD = Decimal("1e-12")  # the ledger counts money in whole pico-USD


class Task(StrEnum):
    """What a prompt asks for."""

    CODE = "code"
    CLASSIFICATION = "classification"
    REASONING = "reasoning"
    TRANSLATION = "translation"
    CREATIVE = "creative"
    GENERAL = "general"
    VISION = "vision"


class Difficulty(StrEnum):
    """How hard a prompt is expected to be."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


class Tier(StrEnum):
    """A column of the route table, from cheap to dear."""

    BUDGET = "budget"
    BALANCED = "balanced"
    QUALITY = "quality"


class Status(StrEnum):
    """What became of a row."""

    OK = "ok"
    FAILED = "failed"
    BLOCKED = "blocked"
    TRUNCATED = "truncated"
    PENDING = "pending"


class Finish(StrEnum):
    """How a provider ended an answer, its own word mapped to one of ours."""

    OK = "ok"
    EMPTY = "empty"  # nothing but white space came
    TRUNCATED = "truncated"
    BLOCKED = "blocked"
    INCOMPLETE = "incomplete"  # the provider broke off: ask again
    UNEXPECTED = "unexpected"  # a tool call nobody offered
    UNKNOWN = "unknown"  # a word we have never seen: never taken for a good answer


class UsageStatus(StrEnum):
    """Whether the billed tokens were reported."""

    MEASURED = "measured"
    MISSING = "missing"
    INVALID = "invalid"


class Usage(NamedTuple):
    """Billable tokens in disjoint classes: fresh, cached, cache-writing input; output (`reasoning` is part of it)."""

    input: int
    output: int
    cached_input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def total_input(self) -> int:
        """Return every input token, fresh, cached or written to a cache."""
        return self.input + self.cached_input + self.cache_write_5m + self.cache_write_1h


class Hours(NamedTuple):
    """A part of some days of the week, 0 being Monday: minutes after 00:00 UTC, `start` included and `end` not."""

    days: tuple[int, ...]
    start: int
    end: int


class LongPrice(NamedTuple):
    """Prices, as in `Price`, of every token of a request with more input tokens than `over_input_tokens`."""

    over_input_tokens: int
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None


class Price(NamedTuple):
    """Prices of one model in USD per million tokens, in force from `since` on, at some `hours` only where given."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    since: date = date.min
    source: str = ""
    checked: date | None = None  # when somebody last looked at the source
    hours: tuple[Hours, ...] = ()
    long: tuple[LongPrice, ...] = ()  # in order of `over_input_tokens`
    batch: "Price | None" = None  # in a provider's batch; None: no such price is known


class Model(NamedTuple):
    """A model as routed: who serves it, what it can take, what it costs. `prices` are in order of `since`."""

    name: str
    provider: str
    context_tokens: int
    prices: tuple[Price, ...]
    vision: bool = False
    api_name: str = ""  # the name the provider knows it by; empty: `name`
    retires: date | None = None
    only: Mapping[str, tuple[Any, ...]] = {}  # column -> values: the rows this model may take
    options: Mapping[str, Any] = {}  # capabilities of the dialect, as the adapter names them

    @property
    def wire_name(self) -> str:
        """Return the name to send."""
        return self.api_name or self.name


class Parameters(NamedTuple):
    """What is the same for every request of a job."""

    max_output_tokens: int
    temperature: float | None = None
    schema: str | None = None  # JSON text of a JSON Schema; models write the properties in its order
    choices: tuple[str, ...] = ()  # the only answers allowed


class Request(NamedTuple):
    """One distinct question to one model. `messages` (JSON text of a list) replaces `system` and `user` where given."""

    request_id: bytes  # 16 bytes, see `identity`
    row_id: str  # id of the first row that asks it
    user: str
    system: str | None = None
    image: str | None = None
    messages: str | None = None
    input_tokens: int = 0  # estimate
    task: str = Task.GENERAL
    escalate_to: str | None = None
    cascade: str | None = None  # who is asked too, and when, see `agreement`


class HttpRequest(NamedTuple):
    """A request in some dialect; the transport adds host and key."""

    path: str
    body: bytes
    method: Literal["GET", "POST", "DELETE"] = "POST"


class HttpResponse(NamedTuple):
    """A whole HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What a model said, and what it will be billed as."""

    text: str
    finish: Finish = Finish.OK
    raw_finish: str = ""
    usage: Usage | None = None
    usage_status: UsageStatus = UsageStatus.MEASURED
    model_echo: str = ""
    provider_request_id: str = ""
    limits: Mapping[str, str] = {}  # rate-limit headers, for `limits`
