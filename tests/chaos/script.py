"""What the chaos server does, as data: rules with a condition and an action, and buckets that enforce a rate.

A script is JSON, for instance::

    {"seed": 7, "rules": [
        {"when": {"share": 0.05}, "do": {"status": 429, "retry_after": 1}},
        {"when": {"mark": "row-000013"}, "do": {"body": "server_error"}},
        {"when": {"attempt": [1], "share": 0.01}, "do": {"fault": "reset_body"}}
    ], "buckets": [{"requests_per_min": 600, "window_s": 0.1}]}

The first rule whose conditions all hold decides; a request that no rule takes gets the good answer.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .answers import ODD_ANSWERS, SIZED_ANSWERS
from .faults import Fault
from .refusals import ERRORS
from .retry_after import WaitForm
from .wire import Ask

_BODIES = (*ERRORS, *ODD_ANSWERS, *SIZED_ANSWERS)


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a script: unknown keys are refused."""


class RetryAfter(_Data, frozen=True):
    """A Retry-After header; a plain number in the script means this many seconds."""

    form: WaitForm = WaitForm.SECONDS
    wait_s: float = 1.0


class When(_Data, frozen=True):
    """The conditions of a rule; all that are given must hold, none given holds always."""

    nth: tuple[int, ...] = ()  # arrival numbers, from 1
    every: int | None = None  # every so many arrivals
    first: int | None = None  # arrivals 1 to this
    after: int | None = None  # arrivals beyond this
    after_s: float | None = None  # seconds since the first arrival
    before_s: float | None = None
    attempt: tuple[int, ...] = ()  # how often this mark has been seen, from 1
    share: float | None = None  # of the requests; drawn from seed, rule, mark and attempt, so in any order alike
    mark: str | None = None  # regular expression of the whole mark
    model: str | None = None  # regular expression of the whole model name
    key: str | None = None  # regular expression of the whole bearer token
    times: int | None = None  # the rule acts so often at most

    def __post_init__(self) -> None:
        for pattern in (self.mark, self.model, self.key):
            if pattern is not None:
                _compile(pattern)
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, not {self.share}")


class Do(_Data, frozen=True):
    """What to answer, and how to put it on the wire."""

    body: str | None = None  # a name in `refusals` or `answers`; if none is given, what is usual for the status
    status: int | None = None
    text: str | None = None  # the model's answer; {mark} stands for the row's mark
    headers: Mapping[str, str | tuple[str, ...]] = {}  # of several values the next one each time, the last one stays
    retry_after: float | RetryAfter | None = None
    latency_s: float | tuple[float, float] = 0.0  # two numbers: uniform between them
    fault: Fault = Fault.NONE
    step_s: float = 0.05
    duration_s: float = 1.0
    size_bytes: int | None = None  # decoded size of huge_body and gzip_bomb

    def __post_init__(self) -> None:
        if self.body is not None and self.body not in _BODIES:
            raise ValueError(f"no body {self.body!r}; there are: {', '.join(_BODIES)}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status must be between 200 and 599, not {self.status}")


class Rule(_Data, frozen=True):
    """One rule of a script."""

    do: Do
    when: When = When()


class Bucket(_Data, frozen=True):
    """A rate that is enforced by 429, for the requests that *when* takes."""

    when: When = When()
    requests_per_min: float | None = None
    tokens_per_min: float | None = None  # counted as prompt and allowed output together, as providers do
    window_s: float = 1.0  # the bucket holds this much traffic: a minute's limit may be enforced in slices
    advertise: bool = False  # send x-ratelimit-* headers with every reply
    retry_after: WaitForm | None = WaitForm.SECONDS

    def __post_init__(self) -> None:
        if self.when.share is not None or self.when.times is not None:
            raise ValueError("a bucket holds for every request that its conditions name: share and times can't be set")


class Script(_Data, frozen=True):
    """Everything the server does."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    default: Do = Do()  # for a request that no rule takes


class Choice(NamedTuple):
    """What is to happen to one request."""

    rule: int  # its number in the script; -1 for the default
    hit: int  # how often the rule has acted, from 1
    do: Do


def load_script(source: Script | Mapping[str, Any] | Path) -> Script:
    """Return the script in *source*: a script, its data, or a JSON file.

    Raises:
        ValueError: naming the place of the mistake.
    """
    if isinstance(source, Script):
        return source
    if isinstance(source, Path):
        return msgspec.json.decode(source.read_bytes(), type=Script)
    return msgspec.convert(source, Script)


class Director:
    """Chooses the action for each request, counting how often each rule has acted."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._hits = [0] * (len(script.rules) + 1)  # the last one counts the default

    def choose(self, ask: Ask, elapsed_s: float) -> Choice:
        """Return what happens to *ask*, which came *elapsed_s* after the first request."""
        for number, rule in enumerate(self.script.rules):
            spent = rule.when.times is not None and self._hits[number] >= rule.when.times
            if not spent and holds(rule.when, ask, elapsed_s, self.draw(ask, number)):
                return self._take(number, rule.do)
        return self._take(-1, self.script.default)

    def draw(self, ask: Ask, number: int) -> float:
        """Return a number in [0, 1) that depends on the seed, *number* and which attempt at which row this is."""
        name = f"{self.script.seed}/{number}/{ask.mark}/{ask.attempt if ask.mark else ask.n}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) / 2**64

    def _take(self, number: int, do: Do) -> Choice:
        self._hits[number] += 1
        return Choice(number, self._hits[number], do)


def holds(when: When, ask: Ask, elapsed_s: float, draw: float) -> bool:
    """Say whether every condition of *when* holds, but for `times`."""
    return (
        _in_order(when, ask.n)
        and (not when.attempt or ask.attempt in when.attempt)
        and (when.after_s is None or elapsed_s >= when.after_s)
        and (when.before_s is None or elapsed_s < when.before_s)
        and _matches(when.mark, ask.mark)
        and _matches(when.model, ask.model)
        and _matches(when.key, ask.key)
        and (when.share is None or draw < when.share)
    )


def _in_order(when: When, n: int) -> bool:
    return (
        (not when.nth or n in when.nth)
        and (when.every is None or n % when.every == 0)
        and (when.first is None or n <= when.first)
        and (when.after is None or n > when.after)
    )


def _matches(pattern: str | None, text: str) -> bool:
    return pattern is None or re.fullmatch(pattern, text) is not None


def _compile(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
