"""Buckets that enforce a rate, as a provider does."""

import math
from typing import NamedTuple

from .retry_after import retry_headers
from .script import Bucket, holds
from .wire import Ask, Headers


class Refusal(NamedTuple):
    """A request is above a limit: which one, and the headers that say how long to wait."""

    body: str
    headers: Headers


class _Level:
    """One quantity that refills steadily up to its depth."""

    def __init__(self, per_min: float, window_s: float) -> None:
        self.per_min = per_min
        self.depth = max(1.0, per_min * window_s / 60)
        self.left = self.depth
        self._at_s = 0.0

    def refill(self, now_s: float) -> None:
        self.left = min(self.depth, self.left + (now_s - self._at_s) * self.per_min / 60)
        self._at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Return how long until *amount* is there; more than the depth is served from a full bucket."""
        return max(0.0, min(amount, self.depth) - self.left) * 60 / self.per_min

    def headers(self, unit: str) -> Headers:
        return (
            (f"x-ratelimit-limit-{unit}", f"{self.per_min:.0f}"),
            (f"x-ratelimit-remaining-{unit}", f"{max(0, math.floor(self.left))}"),
            (f"x-ratelimit-reset-{unit}", f"{(self.depth - self.left) * 60 / self.per_min:.3f}s"),
        )


class Gate:
    """One bucket of a script, at work."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._requests = _level(bucket.requests_per_min, bucket.window_s)
        self._tokens = _level(bucket.tokens_per_min, bucket.window_s)

    def admit(self, ask: Ask, elapsed_s: float, tokens: int) -> Refusal | None:
        """Take a request of *tokens* tokens in, or return why not."""
        if not holds(self._bucket.when, ask, elapsed_s, draw=0.0):
            return None
        for level, amount, body in ((self._requests, 1, "rate"), (self._tokens, tokens, "rate_tokens")):
            if level is not None:
                level.refill(elapsed_s)
                if (wait_s := level.wait_s(amount)) > 1e-9:
                    return Refusal(body, self._wait_headers(wait_s))
        for level, amount in ((self._requests, 1), (self._tokens, tokens)):
            if level is not None:
                level.left -= amount
        return None

    def headers(self, ask: Ask, elapsed_s: float) -> Headers:
        """Return the limit headers that go with every reply, none when the bucket does not advertise."""
        if not self._bucket.advertise or not holds(self._bucket.when, ask, elapsed_s, draw=0.0):
            return ()
        found: Headers = ()
        for level, unit in ((self._requests, "requests"), (self._tokens, "tokens")):
            if level is not None:
                found += level.headers(unit)
        return found

    def _wait_headers(self, wait_s: float) -> Headers:
        form = self._bucket.retry_after
        return () if form is None else retry_headers(form, wait_s)


def _level(per_min: float | None, window_s: float) -> _Level | None:
    return None if per_min is None else _Level(per_min, window_s)
