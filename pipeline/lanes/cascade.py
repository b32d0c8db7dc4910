"""A request that several models are asked: what each says is in the ledger before the next is asked, or none is."""

from pipeline.agreement import Ask, Heard, Keep, comparable, next_of, read_cascade
from pipeline.lanes.case import Case, Shared
from pipeline.lanes.route import Route
from pipeline.lanes.tried import Tried
from pipeline.ledger import Attempt
from pipeline.records import Request, Status
from pipeline.steps import Done, Escalate, GiveUp, Tries

_PAIR = 2  # models that are asked in any case


def open_case(request: Request, route: Route, shared: Shared) -> Case:
    """Return *request* on its way, to be asked of *route* first."""
    return Case(request, route, shared) if request.cascade is None else Cascading(request, route, shared)


def is_begun(request: Request, shared: Shared) -> bool:
    """Tell whether a model was heard on *request* in an earlier run."""
    return request.request_id in shared.carried and bool(shared.carried[request.request_id].heard)


class Cascading(Case):
    """A request on its way through a cascade. While one of its models can't be asked it stays pending.

    No other model is asked in its place: that would cost more than was planned, for another quality.
    """

    __slots__ = ("_agree", "_heard", "_models")

    def __init__(self, request: Request, route: Route, shared: Shared) -> None:
        super().__init__(request, route, shared)
        assert request.cascade is not None
        cascade = read_cascade(request.cascade)
        self._agree = cascade.agree
        self._models = (route.model.name, *cascade.then)
        before = shared.carried.get(request.request_id)
        self._heard: list[Attempt] = [] if before is None else list(before.heard)

    async def settle(self) -> bool:
        """Ask the next model; True says that this is to be called again, False that nothing is left to do now."""
        match next_of(self._said(), len(self._models)):
            case Keep(place):
                await self._keep(place)
                return False
            case Ask(place):
                self._turn_to(self.shared.routes[self._models[place]])
        while True:
            async with self.route.service.places:
                if (tried := await self.attempt()) is None:
                    return False
                step = self.judge(tried)
                if isinstance(step, Done | GiveUp):
                    return await self._hear(tried, step)
            assert not isinstance(step, Escalate), "a cascade has no escalation beside it"
            if not await self._follow(tried, step):
                return False

    async def _accept(self, tried: Tried, step: Done | GiveUp) -> bool:
        """Hear what the first model said in a batch; `settle` is to go on from it."""
        await self._hear(tried, step)
        return False

    def _said(self) -> list[Heard]:
        """Return what can be compared of the answers. One that was cut short, or is worthless, agrees with none."""
        return [
            Heard(comparable(line.answer or "", self._agree) if line.status == Status.OK else None, _is_sound(line))
            for line in self._heard
        ]

    def _turn_to(self, route: Route) -> None:
        if route is not self.route:
            self.route, self.tries, self.asked_s, self.asked = route, Tries(), None, self.request

    async def _hear(self, tried: Tried, step: Done | GiveUp) -> bool:
        """Write down what a model said; False where nobody ever got an answer from it, which stops its lane."""
        if isinstance(step, GiveUp) and self._is_outage(tried):
            await self._write(tried, None)
            self.route.halt(f"{self.route.service.name} does not answer: {step.reason}", whole_service=False)
            return False
        line = self._line(tried, step.status, step.reason)._replace(final=False)
        await self.shared.ledger.append(line)
        self._heard.append(line)
        return True

    async def _keep(self, place: int) -> None:
        """Settle the request with what the model at *place* said, stated once more."""
        shared, kept, counters = self.shared, self._heard[place], self.shared.counters
        run = shared.ledger.run
        line = kept._replace(
            night=run.night,
            run=run.id,
            attempt=self.attempts,
            final=True,
            cost_pusd=0,
            total_cost_pusd=self.spent_pusd,
            repeats=kept.attempt,
        )
        await shared.ledger.append(line)
        counters.settled[Status(kept.status or "")] += 1
        counters.cascades_kept += len(self._heard) <= _PAIR
        counters.cascades_asked_up += len(self._heard) > _PAIR
        counters.discarded_pusd += sum(one.cost_pusd for one in self._heard if one is not kept)


def _is_sound(line: Attempt) -> bool:
    return line.status in (Status.OK, Status.TRUNCATED)
