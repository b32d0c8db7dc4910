"""When to stop asking a provider that is down, and when to try again. Time is an argument; nothing waits here."""

import math
from collections import deque
from typing import NamedTuple

# Thresholds as used by production circuit breakers: 5 failures on end, or half of the last 20.
_CONSECUTIVE = 5
_WINDOW = 20
# A retry budget as in Finagle and Google's SRE book: a tenth of the successes, and a few to begin with.
_RETRY_SHARE = 0.1
_RETRY_FLOOR = 10.0
_EQUAL_REFUSALS = 20


class BreakerPolicy(NamedTuple):
    """Times of a breaker, in seconds."""

    probe_every_s: float = 30.0
    give_up_s: float = 900.0  # of an outage
    give_up_at_start_s: float = 12.0  # when no answer ever came; that nobody connects may take 10 s to show


class Breaker:
    """Counts the outcomes of one model's calls.

    Closed: calls go out. Open: none but one probe every `probe_every_s`. It opens on failures of different rows only,
    and on none of a row that was asked before another one that was answered: it failed while the provider worked. So
    neither poison rows nor calls that hang for long close a lane.
    """

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self._failing_rows: dict[bytes, None] = {}
        self._window: deque[bytes | None] = deque(maxlen=_WINDOW)
        self._opened_at: float | None = None
        self._probe_at = 0.0
        self._succeeded = False
        self._worked_s = -math.inf  # when the latest call went out that was answered
        self._retry_credit = _RETRY_FLOOR
        self._refusals: dict[str, int] = {}

    @property
    def is_open(self) -> bool:
        """Tell whether calls are held back."""
        return self._opened_at is not None

    @property
    def has_answered(self) -> bool:
        """Tell whether an answer ever came."""
        return self._succeeded

    def succeed(self, sent_s: float = -math.inf) -> None:
        """Count an answer, good or weak, to a call that went out at *sent_s*: the provider works."""
        self._succeeded = True
        self._worked_s = max(self._worked_s, sent_s)
        self._failing_rows.clear()
        self._window.append(None)
        self._opened_at = None
        self._retry_credit += _RETRY_SHARE

    def fail(self, request_id: bytes, now_s: float, *, asked_s: float | None = None) -> None:
        """Count an outage-like failure of a request that was first asked at *asked_s*."""
        if asked_s is not None and asked_s < self._worked_s:
            return
        self._failing_rows[request_id] = None
        self._window.append(request_id)
        full = len(self._window) == _WINDOW
        failing = set(self._window) - {None}
        mostly_bad = full and self._window.count(None) * 2 <= _WINDOW and len(failing) > 1
        if self._opened_at is None and (len(self._failing_rows) >= _CONSECUTIVE or mostly_bad):
            self._opened_at = now_s
            self._probe_at = now_s + self.policy.probe_every_s
            self._window.clear()

    def refuse(self, what: str) -> bool:
        """Count a refusal of a request as wrong; True when the first answers of all were the same refusal."""
        self._refusals[what] = self._refusals.get(what, 0) + 1
        return not self._succeeded and self._refusals[what] >= _EQUAL_REFUSALS

    def wait_s(self, now_s: float) -> float:
        """Return how long a call must wait: 0 to go now. Whoever gets 0 from an open breaker is its probe."""
        if self._opened_at is None:
            return 0.0
        if now_s < self._probe_at:
            return self._probe_at - now_s
        self._probe_at = now_s + self.policy.probe_every_s
        return 0.0

    def gave_up(self, now_s: float) -> bool:
        """Tell whether the outage has lasted too long to wait on."""
        if self._opened_at is None:
            return False
        limit_s = self.policy.give_up_s if self._succeeded else self.policy.give_up_at_start_s
        return now_s - self._opened_at > limit_s

    def may_retry(self) -> bool:
        """Take one retry from the budget; False when it is used up."""
        if self._retry_credit < 1:
            return False
        self._retry_credit -= 1
        return True
