"""What follows an attempt."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks import Weakness
from pipeline.errors import CallError, ErrorKind
from pipeline.records import Answer, Finish, Status
from pipeline.steps import Done, Escalate, GiveUp, Repair, Retry, RetryPolicy, Step, StopLane, Tries, next_step

POLICY = RetryPolicy(max_attempts=3, base_s=0.5, cap_s=8.0, max_retry_after_s=120.0, max_rate_limits=10, max_repairs=0)
STOPS = (ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.CONFIG)
REPEATS = (ErrorKind.OVERLOAD, ErrorKind.SERVER, ErrorKind.TRANSPORT, ErrorKind.TIMEOUT, ErrorKind.BAD_BODY)
DOUBT = Weakness("uncertain", "the answer says 'possibly'", worthless=False)
WRONG = Weakness("label", "'x' is not one of the 3 choices", worthless=True)

ERRORS = st.builds(
    CallError, st.sampled_from(ErrorKind), st.text(max_size=5), retry_after_s=st.none() | st.floats(0, 10_000)
)
ANSWERS = st.builds(Answer, st.text(max_size=5), st.sampled_from(Finish), st.sampled_from(["", "stop", "odd"]))
RESULTS = ERRORS | ANSWERS
TRIES = st.builds(
    lambda faults, limits, empties: Tries(faults + limits, limits, min(empties, faults)),
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.integers(0, 3),
)


def step_after(result: Answer | CallError, tries: Tries | None = None, **changes: Any) -> Step:
    arguments: dict[str, Any] = {"policy": POLICY, "weakness": None, "can_escalate": False, "rng": random.Random(7)}
    return next_step(result, Tries().after(result) if tries is None else tries, **(arguments | changes))


def after_times(result: Answer | CallError, times: int, **changes: Any) -> Step:
    """Return the step after *times* equal results."""
    tries = Tries()
    for _ in range(times):
        tries = tries.after(result)
    return step_after(result, tries, **changes)


def ended(step: Step) -> Done | GiveUp:
    """Return what an escalation comes to when the stronger model gives nothing, after checking that it is one."""
    assert isinstance(step, Escalate)
    assert step.reason == step.otherwise.reason
    return step.otherwise


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", STOPS)
@pytest.mark.parametrize("can_escalate", [True, False])
def test_what_a_person_must_mend_stops_the_lane(kind: ErrorKind, can_escalate: bool) -> None:
    """A refused key, an empty account or a wrong URL is no row's fault: the lane stops and the row stays pending."""
    step = step_after(CallError(kind, "no", status=401), can_escalate=can_escalate)

    assert step == StopLane(kind, f"{kind} (HTTP 401): no")


@pytest.mark.parametrize("kind", REPEATS)
def test_passing_faults_are_asked_again_up_to_the_limit(kind: ErrorKind) -> None:
    """Such a call is repeated after a wait, and at the last attempt the row fails or escalates."""
    error = CallError(kind, "busy", code="c")

    for attempt in (1, 2):
        step = after_times(error, attempt, can_escalate=True)
        assert isinstance(step, Retry)
        assert not step.pool_wide
    last = GiveUp(Status.FAILED, f"{kind}: busy", "c")
    assert after_times(error, 3) == last
    assert ended(after_times(error, 3, can_escalate=True)) == last


def test_a_rate_limit_pauses_everybody_and_counts_for_itself() -> None:
    """A rate limit pauses the pool, and many of them use up none of the attempts that faults have."""
    limit, fault = CallError(ErrorKind.RATE), CallError(ErrorKind.SERVER)
    tries = Tries()
    for _ in range(9):
        tries = tries.after(limit)
        step = step_after(limit, tries)
        assert isinstance(step, Retry)
        assert step.pool_wide

    assert isinstance(step_after(fault, tries.after(fault)), Retry)
    assert step_after(limit, tries.after(limit)) == GiveUp(Status.FAILED, "rate", "rate")


@pytest.mark.parametrize("kind", [ErrorKind.RATE, *REPEATS])
def test_too_long_a_wait_stops_the_lane_and_says_how_long(kind: ErrorKind) -> None:
    """Nobody sleeps for an hour on a provider's word: the lane stops, with the time in its reason."""
    assert isinstance(step_after(CallError(kind, retry_after_s=120.0)), Retry)
    step = step_after(CallError(kind, retry_after_s=3600.0))

    assert isinstance(step, StopLane)
    assert step.reason.endswith("asks to wait 3600 s")


@pytest.mark.parametrize("can_escalate", [True, False])
def test_a_wrong_request_fails_at_once(can_escalate: bool) -> None:
    """A request the provider calls wrong is neither repeated nor sent to a dearer model."""
    error = CallError(ErrorKind.BAD_REQUEST, "too long", code="context_length_exceeded", status=400)

    step = step_after(error, can_escalate=can_escalate)

    assert step == GiveUp(Status.FAILED, "bad_request (HTTP 400): too long", "context_length_exceeded")


def test_a_blocked_request_may_be_tried_elsewhere_but_not_again() -> None:
    """A content policy is the model's: another may answer, and where none does the row is blocked, not failed."""
    error = CallError(ErrorKind.BLOCKED, "policy", code="content_filter")
    last = GiveUp(Status.BLOCKED, "blocked: policy", "content_filter")

    assert step_after(error) == last
    assert ended(step_after(error, can_escalate=True)) == last


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("can_escalate", [True, False])
def test_a_sound_answer_is_done(can_escalate: bool) -> None:
    """An answer with nothing against it ends the row."""
    assert step_after(Answer("yes"), can_escalate=can_escalate) == Done(Answer("yes"))


def test_a_cut_answer_is_never_ok() -> None:
    """An answer at the token limit escalates once, and is kept as truncated otherwise."""
    answer = Answer("once upon", Finish.TRUNCATED, "length")
    last = Done(answer, Status.TRUNCATED, "cut short: length")

    assert step_after(answer, weakness=WRONG) == last
    assert ended(step_after(answer, can_escalate=True)) == last


def test_an_empty_answer_gets_one_more_chance() -> None:
    """Nothing said is asked once more, then escalates or fails."""
    empty = Answer("", Finish.EMPTY, "stop")
    last = GiveUp(Status.FAILED, "empty", "empty", empty)

    assert isinstance(after_times(empty, 1, can_escalate=True), Retry)
    assert after_times(empty, 2) == last
    assert ended(after_times(empty, 2, can_escalate=True)) == last


def test_an_empty_answer_at_the_last_attempt_fails() -> None:
    """The second chance of an empty answer is one of the attempts, not one more."""
    empty, fault = Answer("", Finish.EMPTY), CallError(ErrorKind.SERVER)

    assert isinstance(step_after(empty, Tries().after(fault).after(empty)), Retry)
    assert isinstance(step_after(empty, Tries().after(fault).after(fault).after(empty)), GiveUp)


def test_an_answer_broken_off_is_asked_again_like_a_fault() -> None:
    """A provider that broke off is asked again up to the limit, and the piece is kept with the failure."""
    piece = Answer("The ans", Finish.INCOMPLETE, "insufficient_system_resource")
    last = GiveUp(
        Status.FAILED,
        "the provider broke off: insufficient_system_resource",
        "insufficient_system_resource",
        piece,
    )

    assert isinstance(after_times(piece, 2, can_escalate=True), Retry)
    assert after_times(piece, 3) == last
    assert ended(after_times(piece, 3, can_escalate=True)) == last


@pytest.mark.parametrize("finish", [Finish.UNEXPECTED, Finish.UNKNOWN])
def test_an_ending_nobody_knows_is_never_ok(finish: Finish) -> None:
    """An unknown finish reason is not repeated: it escalates or fails, with the provider's word in the reason."""
    answer = Answer("yes", finish, "odd")
    last = GiveUp(Status.FAILED, f"{finish} finish reason: odd", "odd", answer)

    assert step_after(answer) == last
    assert ended(step_after(answer, can_escalate=True)) == last


def test_a_blocked_answer_is_kept_because_it_is_billed() -> None:
    """A filtered answer is blocked, and stays with the row for its usage."""
    answer = Answer("", Finish.BLOCKED, "content_filter")
    last = GiveUp(Status.BLOCKED, "blocked: content_filter", "content_filter", answer)

    assert step_after(answer) == last
    assert ended(step_after(answer, can_escalate=True)) == last


def test_a_doubtful_answer_escalates_and_counts_where_it_cannot() -> None:
    """Words of doubt ask a stronger model once; without one the answer is ok, and its reason says the doubt."""
    answer = Answer("possibly")
    last = Done(answer, Status.OK, DOUBT.reason)

    assert step_after(answer, weakness=DOUBT) == last
    assert ended(step_after(answer, weakness=DOUBT, can_escalate=True)) == last


def test_a_worthless_answer_is_repaired_before_anything_else() -> None:
    """A wrong label is shown to the model once; after that it escalates or fails, and a doubtful answer is no such."""
    answer, policy = Answer("x"), POLICY._replace(max_repairs=1)
    tries = Tries().after(answer)

    assert step_after(answer, tries, weakness=WRONG, policy=policy, can_escalate=True) == Repair(answer, WRONG.reason)
    repaired = tries._replace(repairs=1).after(answer)
    assert repaired.repairs == 1
    assert isinstance(step_after(answer, repaired, weakness=WRONG, policy=policy), GiveUp)
    assert isinstance(step_after(answer, repaired, weakness=WRONG, policy=policy, can_escalate=True), Escalate)
    assert isinstance(step_after(answer, tries, weakness=DOUBT, policy=policy), Done)
    cut = Answer("x", Finish.TRUNCATED)
    assert isinstance(step_after(cut, Tries().after(cut), weakness=WRONG, policy=policy), Done)


def test_a_worthless_answer_escalates_and_fails_where_it_cannot() -> None:
    """A label that is none escalates; without a stronger model the row fails and keeps the answer."""
    answer = Answer("x")
    last = GiveUp(Status.FAILED, WRONG.reason, "label", answer)

    assert step_after(answer, weakness=WRONG) == last
    assert ended(step_after(answer, weakness=WRONG, can_escalate=True)) == last


# ---------------------------------------------------------------------------------------------------------- properties


@given(
    result=RESULTS,
    tries=TRIES,
    weakness=st.sampled_from([None, DOUBT, WRONG]),
    can_escalate=st.booleans(),
    seed=st.integers(),
)
def test_every_result_has_a_step(
    result: Answer | CallError, tries: Tries, weakness: Weakness | None, can_escalate: bool, seed: int
) -> None:
    """There is a step for all results; only a sound or doubted whole answer is ok, and nothing hopeless is repeated."""
    tries = tries.after(result)
    step = step_after(result, tries, weakness=weakness, can_escalate=can_escalate, rng=random.Random(seed))

    if isinstance(step, Escalate):
        assert can_escalate
        step = step.otherwise
        assert step.reason
    else:
        assert not (can_escalate and isinstance(step, Done) and step.reason)
    if isinstance(step, Done) and step.status is Status.OK:
        assert isinstance(result, Answer)
        assert result.finish is Finish.OK
        assert weakness is not WRONG
    if isinstance(step, StopLane):
        assert isinstance(result, CallError)
        assert result.kind in STOPS or (result.retry_after_s or 0) > POLICY.max_retry_after_s
    if isinstance(step, Retry):
        assert 0 <= step.wait_s <= 1.25 * POLICY.max_retry_after_s
        assert tries.faults < POLICY.max_attempts or step.pool_wide
        assert tries.rate_limits < POLICY.max_rate_limits or not step.pool_wide
        assert not isinstance(result, CallError) or result.kind not in (
            *STOPS,
            ErrorKind.BAD_REQUEST,
            ErrorKind.BLOCKED,
        )


@given(kind=st.sampled_from([ErrorKind.RATE, *REPEATS]), asked_s=st.floats(0, 120), seed=st.integers())
def test_no_one_returns_before_the_provider_wants(kind: ErrorKind, asked_s: float, seed: int) -> None:
    """The wait is at least what was asked for, and at most a quarter more where the provider's wish decides it."""
    step = step_after(CallError(kind, retry_after_s=asked_s), rng=random.Random(seed))

    assert isinstance(step, Retry)
    assert asked_s <= step.wait_s <= max(1.25 * asked_s, 0.0 if kind is ErrorKind.RATE else POLICY.base_s)


@given(attempt=st.integers(1, 5000), kind=st.sampled_from([ErrorKind.RATE, *REPEATS]), seed=st.integers())
def test_backoff_grows_to_its_cap(attempt: int, kind: ErrorKind, seed: int) -> None:
    """Without a wish the ceiling doubles from base to cap and stays there, however many attempts are allowed."""
    policy = POLICY._replace(max_attempts=10_000, max_rate_limits=10_000)
    limits = attempt if kind is ErrorKind.RATE else 0

    step = step_after(CallError(kind), Tries(attempt, limits), policy=policy, rng=random.Random(seed))

    assert isinstance(step, Retry)
    ceiling_s = min(8.0, 0.5 * 2.0 ** min(attempt - 1, 20))
    low, high = (ceiling_s, 1.25 * ceiling_s) if kind is ErrorKind.RATE else (0.0, ceiling_s)
    assert low <= step.wait_s <= high


@given(
    kinds=st.lists(st.sampled_from([*ErrorKind, Finish.EMPTY, Finish.INCOMPLETE]), min_size=13, max_size=13),
    seed=st.integers(),
)
def test_a_row_comes_to_an_end(kinds: list[ErrorKind | Finish], seed: int) -> None:
    """Whatever comes, one model is asked about one row at most once more than both counts allow to repeat."""
    rng = random.Random(seed)
    tries = Tries()
    for kind in kinds:
        result = CallError(kind) if isinstance(kind, ErrorKind) else Answer("", kind)
        tries = tries.after(result)
        if not isinstance(step_after(result, tries, rng=rng), Retry):
            break

    assert tries.attempts <= (POLICY.max_attempts - 1) + (POLICY.max_rate_limits - 1) + 1


def test_the_same_randomness_gives_the_same_step() -> None:
    """A decision depends on its arguments alone, so a night can be replayed."""
    error = CallError(ErrorKind.SERVER)

    assert step_after(error, rng=random.Random(3)) == step_after(error, rng=random.Random(3))
