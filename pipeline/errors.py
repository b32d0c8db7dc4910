"""The two errors raised on purpose: `JobError` asks a person to act, `CallError` asks the dispatcher to."""

from collections.abc import Mapping
from enum import StrEnum


class JobError(Exception):
    """Raised when the job cannot run as written. *problems* are sentences, each with where, what and what is right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LockedError(JobError):
    """Raised when another run holds the lock of this job; the message names its process and host."""


class ErrorKind(StrEnum):
    """Why a call failed; each kind has one action (`steps.next_step`)."""

    AUTH = "auth"  # key refused: stop the lane, rows stay pending
    QUOTA = "quota"  # money or quota used up: stop the lane, rows stay pending
    RATE = "rate"  # too fast: pause the pool, then retry
    OVERLOAD = "overload"  # provider busy: back off, then retry
    SERVER = "server"  # provider broken: back off, then retry
    TRANSPORT = "transport"  # the connection failed: back off, then retry; may have been paid
    TIMEOUT = "timeout"  # no whole answer in time, or 408/409: retry; may have been paid
    BAD_BODY = "bad_body"  # 200 with something unreadable: retry, then fail the row
    BAD_REQUEST = "bad_request"  # the request is wrong: fail the row
    BLOCKED = "blocked"  # content policy: blocked row, no retry on the same model
    CONFIG = "config"  # redirect, wrong URL, model or parameter, no recording: stop the lane, a person must act


class CallError(Exception):
    """Raised by a provider when a call gave no answer.

    *code* is the provider's own code, *message* a short text without keys, *retry_after_s* what the provider asked for,
    *status* the HTTP status (0 when there was none), *maybe_paid* whether the provider may bill this attempt. `limits`
    are the headers of the response that tell of rate limits.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str = "",
        *,
        code: str = "",
        status: int = 0,
        retry_after_s: float | None = None,
        maybe_paid: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s
        self.maybe_paid = maybe_paid
        self.limits: Mapping[str, str] = {}
