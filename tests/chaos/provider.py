"""What happens to each request: limits first, then the script; and the log of it."""

import itertools
import time
from collections import Counter
from typing import Final, NamedTuple

from .answers import ODD_ANSWERS, SIZED_ANSWERS, SIZES, say, usage_of
from .faults import Wire
from .log import Arrival, Completion, Log, digest
from .pacing import Gate
from .refusals import ERRORS, refusal
from .retry_after import retry_headers
from .script import Choice, Director, Do, RetryAfter, Script
from .wire import Ask, BadRequestError, Headers, Reply, Request, find_mark, read_ask

_CHAT_PATH: Final = "/chat/completions"
_LOGGED_HEADERS: Final = ("host", "user-agent", "content-type", "accept-encoding", "idempotency-key")
_BUCKET: Final = -2  # as the number of a rule in the log


class Turn(NamedTuple):
    """What happens to one request."""

    n: int
    rule: int
    reply: Reply
    headers: Headers
    do: Do
    latency_s: float = 0.0


class Provider:
    """Decides what happens to each request, and writes the log."""

    def __init__(self, script: Script, log: Log) -> None:
        self.log = log
        self._director = Director(script)
        self._gates = [Gate(bucket) for bucket in script.buckets]
        self._numbers = itertools.count(1)
        self._attempts = Counter[str]()
        self._started_s: float | None = None

    def play(self, script: Script) -> None:
        """Follow *script* from now on."""
        self._director = Director(script)
        self._gates = [Gate(bucket) for bucket in script.buckets]

    def take(self, request: Request, connection: int) -> Turn:
        """Log *request* and return what happens to it."""
        now_s = time.monotonic()
        if self._started_s is None:
            self._started_s = now_s
        n, mark = next(self._numbers), find_mark(request.body)
        self._attempts[mark] += 1
        attempt = self._attempts[mark]
        refused = 0 if request.method == "POST" and request.path.endswith(_CHAT_PATH) else 404
        try:
            ask = read_ask(request, n=n, attempt=attempt, mark=mark)
        except BadRequestError:
            ask, refused = Ask(n, attempt, mark, "", request.key, "", 0), refused or 400
        self.log.write(_arrival(request, ask, connection, now_s))
        if refused:
            return Turn(n, -1, refusal(refused), (), Do())
        return self._decide(ask, now_s - self._started_s)

    def _decide(self, ask: Ask, elapsed_s: float) -> Turn:
        tokens = usage_of(ask, "")[0] + ask.max_tokens
        refused = None
        for gate in self._gates:
            refused = refused or gate.admit(ask, elapsed_s, tokens)
        limits = tuple(header for gate in self._gates for header in gate.headers(ask, elapsed_s))
        if refused is not None:
            return Turn(ask.n, _BUCKET, ERRORS[refused.body], limits + refused.headers, Do())
        choice = self._director.choose(ask, elapsed_s)
        do = choice.do
        latency_s = do.latency_s
        if isinstance(latency_s, tuple):
            low, high = latency_s
            latency_s = low + (high - low) * self._director.draw(ask, choice.rule)
        return Turn(ask.n, choice.rule, _reply(do, ask), limits + _headers(choice), do, latency_s)

    def finish(self, turn: Turn, wire: Wire, outcome: str) -> None:
        """Log that the reply of *turn* is over."""
        reply = turn.reply
        self.log.write(
            Completion(
                n=turn.n, t=time.monotonic(), at=time.time(), status=wire.status, rule=turn.rule, fault=turn.do.fault,
                outcome=outcome, bytes=wire.sent_bytes, answer=None if reply.text is None else digest(reply.text),
                usage=reply.usage,
            )
        )  # fmt: skip


def _arrival(request: Request, ask: Ask, connection: int, now_s: float) -> Arrival:
    headers = request.headers
    return Arrival(
        n=ask.n, t=now_s, at=time.time(), connection=connection, method=request.method, path=request.path,
        model=ask.model, mark=ask.mark, attempt=ask.attempt, max_tokens=ask.max_tokens, bytes=len(request.body),
        key=digest(ask.key) if ask.key else "",
        headers={name: headers[name] for name in _LOGGED_HEADERS if name in headers},
    )  # fmt: skip


def _reply(do: Do, ask: Ask) -> Reply:
    """Return the body that *do* asks for."""
    if do.body is not None:
        reply = _named(do.body, do, ask)
    elif do.status is not None and do.status >= 300:
        reply = refusal(do.status)
    else:
        reply = say(ask, do.text and do.text.replace("{mark}", ask.mark))
    return reply if do.status is None else reply._replace(status=do.status)


def _named(body: str, do: Do, ask: Ask) -> Reply:
    if body in SIZED_ANSWERS:
        return SIZED_ANSWERS[body](ask, do.size_bytes or SIZES[body])
    return ERRORS[body] if body in ERRORS else ODD_ANSWERS[body](ask)


def _headers(choice: Choice) -> Headers:
    headers = tuple(
        (name, value if isinstance(value, str) else value[min(choice.hit, len(value)) - 1])
        for name, value in choice.do.headers.items()
    )
    wait = choice.do.retry_after
    if wait is None:
        return headers
    wait = wait if isinstance(wait, RetryAfter) else RetryAfter(wait_s=wait)
    return headers + retry_headers(wait.form, wait.wait_s)
