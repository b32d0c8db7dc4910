"""The online lane: bounded workers, each with one request at a time, from the spool to the ledger."""

import random
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, assert_never

import anyio
from anyio.abc import TaskGroup

from pipeline.checks import tidy, weakness
from pipeline.errors import CallError, ErrorKind
from pipeline.lanes.budget import Budget
from pipeline.lanes.route import Route, other_model
from pipeline.lanes.watch import Counters, StopSignal
from pipeline.ledger import Attempt, Entry, Ledger
from pipeline.limits import Ticket
from pipeline.records import Answer, Parameters, Request, Status, Usage
from pipeline.steps import Done, Escalate, GiveUp, Retry, Step, StopLane, Tries, next_step

_OUTAGE = frozenset({ErrorKind.OVERLOAD, ErrorKind.SERVER, ErrorKind.TRANSPORT, ErrorKind.TIMEOUT, ErrorKind.BAD_BODY})
_NO_USAGE = Usage(0, 0)
_LOOK_EVERY_S = 0.1
_MOST_ESCALATED = 1024  # of a lane, beyond which its workers see to them; each takes some kilobytes


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


class _Tried(NamedTuple):
    """One attempt, before anyone decided what it means."""

    number: int
    model: str
    result: Answer | CallError
    started_at: float
    latency_s: float
    usage: Usage
    cost_pusd: int
    other: str | None = None  # the model that answered, where it is not the one asked

    @property
    def remark(self) -> str | None:
        """Return what is to be said of the attempt, whatever it leads to."""
        if isinstance(self.result, CallError):
            return f"{self.result.kind}: {self.result.message}"
        return f"answered by another model: {self.other}" if self.other else None


class Lane:
    """Asks one model's requests. One that escalates goes on by itself, so that a slow model holds up no other."""

    def __init__(self, route: Route, requests: Iterator[Request], shared: Shared) -> None:
        self._route = route
        self._requests = requests
        self._shared = shared
        self._escalated = 0  # requests that are on their way without a worker

    async def run(self, workers: int) -> None:
        """Settle every request, or stop early when the run or the route does."""
        async with anyio.create_task_group() as escalated:
            with self._route.gate.steady(workers):
                async with anyio.create_task_group() as group:
                    for _ in range(workers):
                        group.start_soon(self._work, escalated)

    async def _work(self, escalated: TaskGroup) -> None:
        stop, route = self._shared.stop, self._route
        while stop.reason is None and route.halted is None:
            request = next(self._requests, None)
            if request is None:
                return
            case = _Case(request, route, self._shared)
            while await case.settle():
                if self._escalated < _MOST_ESCALATED:
                    self._escalated += 1
                    escalated.start_soon(self._go_on, case)
                    break

    async def _go_on(self, case: "_Case") -> None:
        while await case.settle():
            pass
        self._escalated -= 1


class _Case:
    """One request on its way to a final attempt."""

    __slots__ = ("asked_s", "attempts", "fallback", "probing", "request", "route", "shared", "spent_pusd", "tries")

    def __init__(self, request: Request, route: Route, shared: Shared) -> None:
        self.request = request
        self.route = route
        self.shared = shared
        before = shared.carried.get(request.request_id) if shared.carried else None
        self.attempts, self.spent_pusd = before or (0, 0)
        self.tries = Tries()  # of the present route
        self.asked_s: float | None = None  # when that was first asked
        self.probing = False  # whether this attempt probes a provider that is down
        self.fallback: tuple[_Tried, Done | GiveUp] | None = None  # what stands when an escalation comes to nothing

    async def settle(self) -> bool:
        """Ask until a step is final, or until the request escalates: True says that this is to be called again.

        Returning False without a final step leaves the request pending.
        """
        while (tried := await self._try()) is not None:
            step = self._judge(tried)
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

    def _is_outage(self, tried: _Tried) -> bool:
        """Tell whether a failure is not the row's fault, as nobody ever got an answer from its model."""
        down = isinstance(tried.result, CallError) and tried.result.kind in _OUTAGE
        return down and self.fallback is None and not self.route.breaker.has_answered

    def _judge(self, tried: _Tried) -> Step:
        """Return what an attempt leads to."""
        result, parameters = tried.result, self.shared.parameters
        if not self.probing:  # a dead provider is not the row's fault
            self.tries = self.tries.after(result)
        weak = None
        if isinstance(result, Answer):
            weak = weakness(result, task=self.request.task, parameters=parameters)
        return next_step(
            result,
            self.tries,
            policy=self.route.service.policy,
            weakness=weak,
            can_escalate=self._next_route() is not None,
            rng=self.shared.rng,
        )

    async def _follow(self, tried: _Tried, step: Retry | StopLane) -> bool:
        """Write the attempt down and do what *step* says; tell whether to ask again."""
        match step:
            case Retry():
                await self._write(tried, None)
                return await self._wait(step)
            case StopLane():
                await self._write(tried, step.reason)
                whole_service = step.kind in (ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.RATE)
                self.route.halt(step.reason, whole_service=whole_service)
                return False
            case _:
                assert_never(step)

    async def _try(self) -> _Tried | None:
        """Send the request once; None when the run, the route or the money says no."""
        shared, route = self.shared, self.route
        gate = route.gate
        ticket = await gate.enter(self.request.input_tokens, shared.parameters.max_output_tokens)
        try:
            if not await self._breaker_lets_go():
                return None
            worst = 0
            if shared.budget.cap_pusd is not None:
                worst = route.worst_cost(self.request, time.time())
                if not await shared.budget.reserve(worst):
                    shared.stop.set("cap")
                    return None
            if shared.stop.reason is not None or route.halted is not None:
                shared.budget.settle(worst, 0)
                return None
            claimed = gate.claim(ticket, self.request.input_tokens, shared.parameters.max_output_tokens)
            if isinstance(claimed, str):
                shared.budget.settle(worst, 0)
                route.halt(claimed, whole_service=False)
                return None
            self.attempts += 1
            return await self._send(worst, claimed)
        finally:
            gate.leave()

    async def _send(self, worst: int, ticket: Ticket) -> _Tried:
        shared, route = self.shared, self.route
        started_at, began = time.time(), time.monotonic()
        usage, cost, latency_s, other = _NO_USAGE, 0, None, None
        result: Answer | CallError
        if self.asked_s is None:
            self.asked_s = began
        shared.counters.under_way += 1
        try:
            answer, latency_s = await route.service.ask(self.request, route.model)
            result = tidy(answer, shared.parameters)
            usage = result.usage or Usage(
                self.request.input_tokens, len(result.text.encode("utf-8", "replace")) // 3 + 1
            )
            other = other_model(answer.model_echo, route.model)
            # Whoever answered is billed, where we know its price.
            cost = (shared.routes.get(other or "") or route).cost(usage, started_at)
            route.breaker.succeed(began)
            route.gate.answered(ticket, result.usage, result.limits)
        except CallError as error:
            result = error.with_traceback(None)  # whose frames would keep the body
            if error.kind is ErrorKind.RATE:
                route.gate.refused(ticket)
            self._count_failure(error)
        except anyio.get_cancelled_exc_class():
            shared.counters.cut_off += route.service.is_remote
            raise
        finally:
            shared.counters.under_way -= 1
            shared.budget.settle(worst, cost)
        shared.counters.attempts += 1
        shared.counters.spent_pusd += cost
        shared.counters.other_models.update([other] if other else ())
        self.spent_pusd += cost
        if latency_s is None:
            latency_s = time.monotonic() - began
        return _Tried(self.attempts, route.model.name, result, started_at, latency_s, usage, cost, other)

    def _count_failure(self, error: CallError) -> None:
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

    async def _wait(self, retry: Retry) -> bool:
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

    def _escalate(self, tried: _Tried, otherwise: Done | GiveUp) -> None:
        route = self._next_route()
        assert route is not None
        self.route, self.tries, self.asked_s, self.fallback = route, Tries(), None, (tried, otherwise)
        self.shared.counters.escalations += 1

    async def _write(self, tried: _Tried, reason: str | None) -> None:
        """Write an attempt that settles nothing; it is on the disk before the request goes out again."""
        await self.shared.ledger.append(self._attempt(tried, None, reason))

    async def _finish(self, tried: _Tried, step: Done | GiveUp, *, last: _Tried | None = None) -> None:
        """Settle the request with what *tried* gave. When that was not the *last* attempt, both lines are written."""
        shared = self.shared
        if last is not None and last is not tried:
            await self._write(last, None)
        line = self._attempt(tried, step.status, step.reason)
        if self.fallback is not None and tried is self.fallback[0]:
            # It was written, and its cost counted, before the escalation.
            line = line._replace(cost_pusd=0, repeats=tried.number)
        await shared.ledger.append(line)
        shared.counters.settled[step.status] += 1

    def _attempt(self, tried: _Tried, status: Status | None, reason: str | None) -> Attempt:
        """Return the line of the ledger; a *status* makes it the final one."""
        result, usage = tried.result, tried.usage
        answer = result if isinstance(result, Answer) else None
        error = result if isinstance(result, CallError) else None
        run = self.shared.ledger.run
        return Attempt(
            request_id=self.request.request_id,
            row_id=self.request.row_id,
            night=run.night,
            run=run.id,
            attempt=self.attempts,
            model=tried.model,
            final=status is not None,
            status=status and status.value,
            reason=reason or tried.remark,
            started_at=tried.started_at,
            latency_s=tried.latency_s,
            input_tokens=usage.total_input,
            cached_tokens=usage.cached_input,
            output_tokens=usage.output,
            reasoning_tokens=usage.reasoning,
            usage_status=answer and answer.usage_status.value,
            cost_pusd=tried.cost_pusd,
            total_cost_pusd=self.spent_pusd,
            provider_request_id=answer.provider_request_id if answer else "",
            finish=answer.raw_finish if answer else "",
            http_status=error.status if error else 200,
            error_kind=error.kind.value if error else "",
            error_code=error.code if error else "",
            model_echo=answer.model_echo if answer else "",
            repeats=0,
            answer=answer and answer.text,
        )
