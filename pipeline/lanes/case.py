"""One request on its way: asked, judged, written down, and asked again until an answer is final."""

import random
import time
from collections.abc import Mapping
from typing import NamedTuple, assert_never

import anyio

from pipeline.checks import tidy, weakness
from pipeline.errors import CallError, ErrorKind
from pipeline.lanes.budget import Budget
from pipeline.lanes.route import Ask, Route, other_model
from pipeline.lanes.tried import Tried
from pipeline.lanes.watch import Counters, StopSignal
from pipeline.ledger import Attempt, Entry, Ledger
from pipeline.limits import Ticket
from pipeline.records import Answer, Parameters, Request, Status, Usage
from pipeline.repair import repair
from pipeline.steps import Done, Escalate, GiveUp, Repair, Retry, Step, StopLane, Tries, next_step

_OUTAGE = frozenset({ErrorKind.OVERLOAD, ErrorKind.SERVER, ErrorKind.TRANSPORT, ErrorKind.TIMEOUT, ErrorKind.BAD_BODY})
# What every request would get, if the first does: it is not asked of many at a time.
_REFUSED = frozenset({ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.CONFIG, ErrorKind.BAD_REQUEST})
_NO_USAGE = Usage(0, 0)
_LOOK_EVERY_S = 0.1


class Shared(NamedTuple):
    """What every lane of a run uses."""

    routes: Mapping[str, Route]
    parameters: Parameters
    ledger: Ledger
    carried: dict[bytes, Entry]
    budget: Budget
    counters: Counters
    stop: StopSignal
    rng: random.Random

    async def end_when_drained(self, work: anyio.CancelScope) -> None:
        """Once the run is to stop, end it when nothing is under way, though some may wait for their turn at a limit."""
        await self.stop.wait()
        while self.counters.under_way or not self.ledger.is_idle:  # noqa: ASYNC110 - a hot path keeps these two
            await anyio.sleep(_LOOK_EVERY_S)
        work.cancel()


class Case:
    """One request on its way to a final attempt."""

    __slots__ = (
        "ask",
        "asked",
        "asked_s",
        "attempts",
        "fallback",
        "max_output_tokens",
        "probing",
        "request",
        "route",
        "shared",
        "spent_pusd",
        "tries",
    )

    def __init__(self, request: Request, route: Route, shared: Shared) -> None:
        self.request = request
        self.asked = request  # what is sent: the request, or its repair
        self.route = route
        self.shared = shared
        before = shared.carried.get(request.request_id) if shared.carried else None
        self.attempts, self.spent_pusd = before[:2] if before else (0, 0)
        self.tries = Tries()  # of the present route
        self.asked_s: float | None = None  # when that was first asked
        self.probing = False  # whether this attempt probes a provider that is down
        self.ask: Ask | None = None  # in place of the route's
        self.max_output_tokens = shared.parameters.max_output_tokens
        self.fallback: tuple[Tried, Done | GiveUp] | None = None  # what stands when an escalation comes to nothing

    async def settle(self) -> bool:
        """Ask until a step is final, or until the request escalates: True says that this is to be called again.

        Returning False without a final step leaves the request pending.
        """
        while (tried := await self.attempt()) is not None:
            step = self.judge(tried)
            if isinstance(step, Done):
                await self._finish(tried, step)
                return False
            if isinstance(step, Escalate):
                await self._write(tried, step.reason)
                self._escalate(tried, step.otherwise)
                return True
            if isinstance(step, GiveUp) and self._is_outage(tried):
                await self._write(tried, None)
                self.route.halt(f"{self.route.service.name} does not answer: {step.reason}", whole_service=False)
                break
            if isinstance(step, GiveUp):
                await self._finish(*(self.fallback or (tried, step)), last=tried)
                return False
            if not await self._follow(tried, step):
                break
        if self.fallback is not None and self.shared.stop.reason is None:
            await self._finish(*self.fallback)
        return False

    def _is_outage(self, tried: Tried) -> bool:
        """Tell whether a failure is not the row's fault, as nobody ever got an answer from its model."""
        down = isinstance(tried.result, CallError) and tried.result.kind in _OUTAGE
        return down and self.fallback is None and not self.route.breaker.has_answered

    def judge(self, tried: Tried) -> Step:
        """Return what an attempt leads to."""
        result, parameters = tried.result, self.shared.parameters
        if not self.probing:  # a dead provider is not the row's fault
            self.tries = self.tries.after(result)
        weak = None
        if isinstance(result, Answer):
            weak = weakness(result, task=self.request.task, parameters=parameters)
            self.route.mended += self.tries.repairs > 0 and weak is None
        policy = self.route.service.policy
        return next_step(
            result,
            self.tries,
            policy=policy if self.route.is_worth_repairing else policy._replace(max_repairs=0),
            weakness=weak,
            can_escalate=self._next_route() is not None,
            rng=self.shared.rng,
        )

    async def _follow(self, tried: Tried, step: Repair | Retry | StopLane) -> bool:
        """Write the attempt down and do what *step* says; tell whether to ask again."""
        match step:
            case Repair():
                await self._write(tried, step.reason)
                self.asked = repair(self.request, step.answer.text, step.reason, self.shared.parameters)
                self.tries = self.tries._replace(repairs=self.tries.repairs + 1)
                self.shared.counters.repairs += 1
                self.route.repairs += 1
                return True
            case Retry():
                await self._write(tried, None)
                return await self.wait(step)
            case StopLane():
                await self._write(tried, step.reason)
                self.halt(step)
                return False
            case _:
                assert_never(step)

    async def attempt(self) -> Tried | None:
        """Send the request once; None when the run, the route or the money says no."""
        shared, route = self.shared, self.route
        gate = route.gate
        ticket = await gate.enter(self.asked.input_tokens, self.max_output_tokens)
        try:
            if not await self._breaker_lets_go():
                return None
            worst = 0
            if shared.budget.cap_pusd is not None:
                worst = route.worst_cost(self.asked, time.time(), max_output_tokens=self.max_output_tokens)
                if not await shared.budget.reserve(worst):
                    shared.stop.set("cap")
                    return None
            if shared.stop.reason is not None or route.halted is not None:
                shared.budget.settle(worst, 0)
                return None
            claimed = gate.claim(ticket, self.asked.input_tokens, self.max_output_tokens)
            if isinstance(claimed, str):
                shared.budget.settle(worst, 0)
                route.halt(claimed, whole_service=False)
                return None
            self.attempts += 1
            return await self._send(worst, claimed)
        finally:
            gate.leave()

    async def _send(self, worst: int, ticket: Ticket) -> Tried:
        shared, route = self.shared, self.route
        started_at, began = time.time(), time.monotonic()
        usage, cost, latency_s, other = _NO_USAGE, 0, None, None
        result: Answer | CallError
        if self.asked_s is None:
            self.asked_s = began
        shared.counters.under_way += 1
        try:
            answer, latency_s = await (self.ask or route.service.ask)(self.asked, route.model)
            result = self.tidied(answer)
            usage, cost, other = self._bill(result, started_at)
            route.breaker.succeed(began)
            route.gate.answered(ticket, result.usage, result.limits)
        except CallError as error:
            result = error.with_traceback(None)  # whose frames would keep the body
            if error.kind is ErrorKind.RATE:
                route.gate.refused(ticket)
            route.gate.observe(error.limits)
            self.count_failure(error)
        except anyio.get_cancelled_exc_class():
            shared.counters.cut_off += route.service.is_remote
            raise
        finally:
            shared.counters.under_way -= 1
            shared.budget.settle(worst, cost)
        if not (isinstance(result, CallError) and result.kind in _REFUSED):
            route.open_up()
        self._count(cost, other)
        if latency_s is None:
            latency_s = time.monotonic() - began
        return Tried(self.attempts, route.model.name, result, started_at, latency_s, usage, cost, other)

    def tidied(self, answer: Answer) -> Answer:
        """Return *answer* as the job wants it."""
        return tidy(answer, self.shared.parameters)

    def halt(self, step: StopLane) -> None:
        """Stop the lane, and those of the same provider where its key or its quota is the reason."""
        whole_service = step.kind in (ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.RATE)
        self.route.halt(step.reason, whole_service=whole_service)

    async def take_part(self, part: Tried, *, problem: str) -> bool:
        """Settle with a *part* of a pack's answer, already counted; with a *problem* only bill it, and say False."""
        self.attempts += 1
        self.spent_pusd += part.cost_pusd
        tried = part._replace(number=self.attempts)
        if problem:
            await self._write(tried, problem)
            return False
        assert isinstance(tried.result, Answer)
        await self._finish(tried, Done(tried.result))
        return True

    def _bill(self, answer: Answer, started_at: float, *, batch: bool = False) -> tuple[Usage, int, str | None]:
        """Return the tokens of *answer*, estimated where they were not told, their cost, and who else answered."""
        usage = answer.usage or Usage(self.asked.input_tokens, len(answer.text.encode("utf-8", "replace")) // 3 + 1)
        other = other_model(answer.model_echo, self.route.model)
        # Whoever answered is billed, where we know its price.
        billed = self.shared.routes.get(other or "") or self.route
        self.shared.counters.count_input(usage, billed.saved_by_cache(usage, started_at, batch=batch))
        return usage, billed.cost(usage, started_at, batch=batch), other

    def _count(self, cost: int, other: str | None) -> None:
        """Count what an attempt has cost, and who else answered it."""
        self.spent_pusd += cost
        counters = self.shared.counters
        counters.attempts += 1
        counters.spent_pusd += cost
        counters.other_models.update([other] if other else ())

    async def take(self, result: Answer | CallError, batch: str, started_at: float) -> bool:
        """Judge what came in *batch*, asked at *started_at*; False when `settle` is to go on from it."""
        usage, cost, other = _NO_USAGE, 0, None
        if isinstance(result, Answer):
            result = self.tidied(result)
            usage, cost, other = self._bill(result, started_at, batch=True)
        self.attempts += 1
        self._count(cost, other)
        # How long it took says nothing of the model: a latency of 0 counts as unknown.
        tried = Tried(self.attempts, self.route.model.name, result, started_at, 0.0, usage, cost, other, batch)
        step = self.judge(tried)
        match step:
            case Done() | GiveUp():
                return await self._accept(tried, step)
            case Escalate():
                await self._write(tried, step.reason)
                self._escalate(tried, step.otherwise)
            case Repair():
                await self._follow(tried, step)
            case Retry() | StopLane():
                await self._write(tried, None)
            case _:
                assert_never(step)
        return False

    async def _accept(self, tried: Tried, step: Done | GiveUp) -> bool:
        """Take what a batch gave for final; tell whether that settles the request."""
        await self._finish(tried, step)
        return True

    def count_failure(self, error: CallError) -> None:
        """Tell the counters and the breaker of *error*."""
        self.shared.counters.maybe_paid += error.maybe_paid
        if error.kind is ErrorKind.RATE:
            self.shared.counters.rate_limited += 1
        elif error.kind in _OUTAGE:
            self.route.breaker.fail(self.request.request_id, time.monotonic(), asked_s=self.asked_s)
        elif error.kind is ErrorKind.BAD_REQUEST and self.route.breaker.refuse(f"{error.status} {error.code}"):
            self.route.halt(
                f"the first answers were all the same refusal ({error.status} {error.code}): {error.message}",
                whole_service=False,
            )

    async def _breaker_lets_go(self) -> bool:
        """Wait while the provider is down; False when that takes too long, or the run is to stop."""
        breaker, stop = self.route.breaker, self.shared.stop
        self.probing = False
        while breaker.is_open:
            now = time.monotonic()
            if breaker.gave_up(now):
                self.route.halt(f"{self.route.service.name} does not answer", whole_service=False)
            if stop.reason is not None or self.route.halted is not None:
                return False
            wait_s = breaker.wait_s(now)
            if wait_s == 0:
                self.probing = True
                return True
            await stop.sleep(min(wait_s, 0.25))
        return True

    async def wait(self, retry: Retry) -> bool:
        """Wait before a retry; False when there is none in this run."""
        shared, breaker = self.shared, self.route.breaker
        if retry.pool_wide:
            self.route.gate.pause(retry.wait_s)
        elif breaker.is_open or breaker.may_retry():
            await shared.stop.sleep(retry.wait_s)
        else:
            return False
        shared.counters.retries += 1
        return shared.stop.reason is None and self.route.halted is None

    def _next_route(self) -> Route | None:
        """Return where the request may be escalated to: once, and only to a model that works."""
        if self.request.escalate_to is None or self.route.model.name == self.request.escalate_to:
            return None
        route = self.shared.routes.get(self.request.escalate_to)
        return route if route is not None and route.halted is None else None

    def _escalate(self, tried: Tried, otherwise: Done | GiveUp) -> None:
        route = self._next_route()
        assert route is not None
        self.route, self.tries, self.asked_s, self.fallback = route, Tries(), None, (tried, otherwise)
        self.asked = self.request
        self.shared.counters.escalations += 1

    async def _write(self, tried: Tried, reason: str | None) -> None:
        """Write an attempt that settles nothing; it is on the disk before the request goes out again."""
        await self.shared.ledger.append(self._line(tried, None, reason))

    async def _finish(self, tried: Tried, step: Done | GiveUp, *, last: Tried | None = None) -> None:
        """Settle the request with what *tried* gave. When that was not the *last* attempt, both lines are written."""
        shared = self.shared
        if last is not None and last is not tried:
            await self._write(last, None)
        line = self._line(tried, step.status, step.reason)
        if self.fallback is not None and tried is self.fallback[0]:
            # It was written, and its cost counted, before the escalation.
            line = line._replace(cost_pusd=0, repeats=tried.number)
        await shared.ledger.append(line)
        shared.counters.settled[step.status] += 1

    def _line(self, tried: Tried, status: Status | None, reason: str | None) -> Attempt:
        so_far = Entry(self.attempts, self.spent_pusd)
        return tried.line(self.request, self.shared.ledger.run, so_far, status, reason)
