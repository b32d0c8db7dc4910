"""What comes after an attempt: a pure decision. Waiting and sending are elsewhere, randomness is an argument."""

import random
from typing import NamedTuple, assert_never

from pipeline.checks import Weakness
from pipeline.errors import CallError, ErrorKind
from pipeline.records import Answer, Finish, Status


class RetryPolicy(NamedTuple):
    """How often and how slowly to ask one model again."""

    max_attempts: int = 5  # not counting those that met a rate limit
    base_s: float = 0.5
    cap_s: float = 8.0
    max_retry_after_s: float = 120.0  # a provider that asks for a longer wait has its lane stopped
    # Meeting a limit is not the row's fault, so it gets a count of its own, which only stops what would go on for ever,
    # such as one prompt that is larger than the tokens allowed in a minute.
    max_rate_limits: int = 50
    max_repairs: int = 1  # of answers of a wrong form


class Tries(NamedTuple):
    """What came of asking one model so far. A row that escalates starts anew."""

    attempts: int = 0
    rate_limits: int = 0
    empties: int = 0
    repairs: int = 0

    def after(self, result: Answer | CallError) -> "Tries":
        """Return the tries with *result* counted."""
        limited = isinstance(result, CallError) and result.kind is ErrorKind.RATE
        empty = isinstance(result, Answer) and result.finish is Finish.EMPTY
        return Tries(self.attempts + 1, self.rate_limits + limited, self.empties + empty, self.repairs)

    @property
    def faults(self) -> int:
        """Return how many attempts count against `max_attempts`."""
        return self.attempts - self.rate_limits


class Done(NamedTuple):
    """The row has its answer: ok (*reason* says what may be doubted) or truncated."""

    answer: Answer
    status: Status = Status.OK
    reason: str = ""


class GiveUp(NamedTuple):
    """The row failed or was blocked. *answer* is what came all the same, kept because it is billed."""

    status: Status
    reason: str
    code: str
    answer: Answer | None = None


class Retry(NamedTuple):
    """Ask the same model again after *wait_s* seconds; where *pool_wide*, nobody may ask it until then."""

    wait_s: float
    pool_wide: bool


class Repair(NamedTuple):
    """Show the same model its answer and what is wrong with its form, before anyone else is asked."""

    answer: Answer
    reason: str


class Escalate(NamedTuple):
    """Ask the next stronger model; where that gives no answer, *otherwise* stands."""

    reason: str
    otherwise: Done | GiveUp


class StopLane(NamedTuple):
    """Nobody gets an answer from this model now and a person must act. The row stays pending."""

    kind: ErrorKind
    reason: str


Step = Done | GiveUp | Retry | Repair | Escalate | StopLane


def next_step(
    result: Answer | CallError,
    tries: Tries,
    *,
    policy: RetryPolicy,
    weakness: Weakness | None,
    can_escalate: bool,
    rng: random.Random,
) -> Step:
    """Decide what follows *result*, which *tries* has counted; *weakness* is what `checks` found in an answer.

    A whole answer of a wrong form is repaired first. Whatever falls short of a sound answer escalates where it can,
    save a wrong request. Where it can't, a doubtful answer is Done all the same, and a worthless one failed.
    """
    if isinstance(result, Answer):
        broken = result.finish is Finish.OK and weakness is not None and weakness.worthless
        if broken and tries.repairs < policy.max_repairs:
            assert weakness is not None
            return Repair(result, weakness.reason)
        step = _after_answer(result, tries, policy, weakness, rng)
    else:
        step = _after_error(result, tries, policy, rng)
        can_escalate = can_escalate and result.kind is not ErrorKind.BAD_REQUEST
    # Only a sound answer has no reason.
    if can_escalate and isinstance(step, Done | GiveUp) and step.reason:
        return Escalate(step.reason, step)
    return step


def _after_error(error: CallError, tries: Tries, policy: RetryPolicy, rng: random.Random) -> Step:
    match error.kind:
        case ErrorKind.AUTH | ErrorKind.QUOTA | ErrorKind.CONFIG:
            return StopLane(error.kind, _describe(error))
        case ErrorKind.RATE:
            again = tries.rate_limits < policy.max_rate_limits
        case ErrorKind.OVERLOAD | ErrorKind.SERVER | ErrorKind.TRANSPORT | ErrorKind.TIMEOUT | ErrorKind.BAD_BODY:
            again = tries.faults < policy.max_attempts
        case ErrorKind.BAD_REQUEST | ErrorKind.BLOCKED:
            again = False
        case _:
            assert_never(error.kind)
    if again:
        return _ask_again(error, tries, policy, rng)
    status = Status.BLOCKED if error.kind is ErrorKind.BLOCKED else Status.FAILED
    return GiveUp(status, _describe(error), error.code or str(error.kind))


def _ask_again(error: CallError, tries: Tries, policy: RetryPolicy, rng: random.Random) -> Retry | StopLane:
    asked_s = error.retry_after_s
    if asked_s is not None and asked_s > policy.max_retry_after_s:
        return StopLane(error.kind, f"{_describe(error)}; asks to wait {asked_s:.0f} s")
    limited = error.kind is ErrorKind.RATE
    if limited and asked_s is None:
        asked_s = _ceiling_s(tries.rate_limits, policy)
    # Jitter only lengthens what was asked for: all who wait would return at the same moment, and not one too early.
    wait_s = 0.0 if asked_s is None else asked_s * rng.uniform(1.0, 1.25)
    return Retry(wait_s if limited else max(wait_s, _backoff_s(tries, policy, rng)), pool_wide=limited)


def _after_answer(
    answer: Answer, tries: Tries, policy: RetryPolicy, weakness: Weakness | None, rng: random.Random
) -> Step:
    again = tries.faults < policy.max_attempts
    code = answer.raw_finish or str(answer.finish)
    match answer.finish:
        case Finish.OK:
            return _after_whole_answer(answer, weakness)
        case Finish.TRUNCATED:
            return Done(answer, Status.TRUNCATED, f"cut short: {code}")
        case Finish.BLOCKED:
            return GiveUp(Status.BLOCKED, f"blocked: {code}", code, answer)
        case Finish.EMPTY:
            again = again and tries.empties <= 1
            reason, code = "empty", str(answer.finish)
        case Finish.INCOMPLETE:
            reason = f"the provider broke off: {code}"
        case Finish.UNEXPECTED | Finish.UNKNOWN:
            again = False
            reason = f"{answer.finish} finish reason: {code}"
        case _:
            assert_never(answer.finish)
    if again:
        return Retry(_backoff_s(tries, policy, rng), pool_wide=False)
    return GiveUp(Status.FAILED, reason, code, answer)


def _after_whole_answer(answer: Answer, weakness: Weakness | None) -> Done | GiveUp:
    if weakness is None:
        return Done(answer)
    if weakness.worthless:
        return GiveUp(Status.FAILED, weakness.reason, weakness.code, answer)
    return Done(answer, Status.OK, weakness.reason)


def _ceiling_s(times: int, policy: RetryPolicy) -> float:
    # The exponent is capped because 2.0 ** 1024 overflows a float.
    return min(policy.cap_s, policy.base_s * 2.0 ** min(times - 1, 64))


def _backoff_s(tries: Tries, policy: RetryPolicy, rng: random.Random) -> float:
    """Return a wait by exponential backoff with full jitter, as AWS describes it."""
    return rng.uniform(0.0, _ceiling_s(tries.faults, policy))


def _describe(error: CallError) -> str:
    status = f" (HTTP {error.status})" if error.status else ""
    return f"{error.kind}{status}: {error.message}" if error.message else f"{error.kind}{status}"
