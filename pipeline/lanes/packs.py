"""The lane of packed rows: several requests sent as one, each settled with its own answer, or asked alone."""

import time
from collections.abc import Iterator, Sequence

from anyio.abc import TaskGroup

from pipeline.checks import tidy, weakness
from pipeline.errors import CallError, ErrorKind
from pipeline.lanes.cascade import open_case
from pipeline.lanes.case import Case, Shared
from pipeline.lanes.online import Lane
from pipeline.lanes.route import Packed, Route
from pipeline.lanes.tried import Tried
from pipeline.packing import ITEM_TOKENS, PACK_TOKENS, NotUsableError, pack, shared_cost, shared_usage, unpack
from pipeline.records import Answer, Finish, Parameters, Request
from pipeline.steps import Retry, StopLane


class PackLane(Lane):
    """Asks one model's requests in packs; what a pack does not answer beyond doubt is asked again alone."""

    def __init__(self, route: Route, requests: Iterator[Request], shared: Shared, packed: Packed) -> None:
        super().__init__(route, requests, shared)
        self._packed = packed
        self._next = next(requests, None)
        self._refused = False  # whether a pack was refused as wrong
        model, written = route.model, packed.packing.max_output_tokens(shared.parameters.max_output_tokens)
        # No pack shall be longer than the model takes, nor so long that every token of it costs more.
        longest = [long.over_input_tokens for long in route.price(time.time()).long[:1]]
        self._room = min([model.context_tokens - written, *longest]) - PACK_TOKENS

    async def _work(self, escalated: TaskGroup) -> None:
        while self._goes_on():
            await self._route.cheap_hours(self._shared.stop)
            requests = self._take() if self._goes_on() else []
            if not requests:
                return
            for case in await self._settle(requests):
                if self._goes_on():
                    await self._see_to(case, escalated)

    def _take(self) -> list[Request]:
        """Return the next requests that go together: of one system message, never asked before, within the context."""
        taken: list[Request] = []
        tokens = 0
        while self._next is not None and len(taken) < self._packed.packing.rows:
            tokens += self._next.input_tokens + ITEM_TOKENS
            if taken and (tokens > self._room or not self._go_together(taken[0], self._next)):
                break
            taken.append(self._next)
            self._next = next(self._requests, None)
        return taken

    def _go_together(self, first: Request, other: Request) -> bool:
        return not self._refused and self._goes(first) and self._goes(other) and first.system == other.system

    def _goes(self, request: Request) -> bool:
        # One that failed in an earlier run may be what spoils a pack.
        packing = self._packed.packing
        return packing.takes(request) and request.cascade is None and request.request_id not in self._shared.carried

    async def _settle(self, requests: Sequence[Request]) -> list[Case]:
        """Ask *requests* as one and settle what is answered well; return what is to be asked alone."""
        cases = [open_case(request, self._route, self._shared) for request in requests]
        if len(requests) == 1:
            return cases
        tried = await _Pack(pack(requests, self._packed.packing), self._route, self._shared, self._packed).answered()
        if tried is None:
            return []
        if not isinstance(tried.result, Answer):
            # Longer answers than the model writes, say: no other pack would be taken either.
            self._refused = self._refused or tried.result.kind is ErrorKind.BAD_REQUEST
            return cases
        answer = tried.result
        try:
            texts = unpack(answer.text, requests)
            problem = "" if answer.finish is Finish.OK else f"ended {answer.finish}"
        except NotUsableError as error:
            texts, problem = [""] * len(requests), str(error)
        parts = self._shares(requests, tried, texts, problem)
        return [
            case
            for case, part in zip(cases, parts, strict=True)
            if not await case.take_part(part, problem=self._doubt(part, problem))
        ]

    def _doubt(self, part: Tried, problem: str) -> str:
        """Return why a row's part of the answer is not taken, empty when it is."""
        if problem:
            return f"the answer of its pack {problem}"
        assert isinstance(part.result, Answer)
        # A row's task says nothing here: free text is searched for doubt when it is asked alone.
        weak = weakness(part.result, task="", parameters=self._shared.parameters)
        return f"in a pack: {weak.reason}" if weak is not None else ""

    def _shares(self, requests: Sequence[Request], tried: Tried, texts: Sequence[str], problem: str) -> list[Tried]:
        """Return each row's part of a pack's answer, tokens and cost; the parts add up to what was billed."""
        answer, parameters = tried.result, self._shared.parameters
        assert isinstance(answer, Answer)
        written = [len(text.encode("utf-8", "replace")) for text in texts]
        usages = shared_usage(tried.usage, [request.input_tokens for request in requests], written)
        costs = shared_cost(tried.cost_pusd, usages, self._route.price(tried.started_at))
        return [
            tried._replace(
                # What can't be used is not kept: it would stand in the ledger once a row.
                result=answer._replace(text="") if problem else _part(answer, text, parameters),
                usage=usage,
                cost_pusd=cost,
                shared_by=len(requests),
            )
            for text, usage, cost in zip(texts, usages, costs, strict=True)
        ]


def _part(answer: Answer, text: str, parameters: Parameters) -> Answer:
    finish = answer.finish if text.strip() else Finish.EMPTY
    return tidy(answer._replace(text=text, finish=finish), parameters)


class _Pack(Case):
    """A pack on its way: sent like any request, but its answer is many."""

    def __init__(self, request: Request, route: Route, shared: Shared, packed: Packed) -> None:
        super().__init__(request, route, shared)
        self.ask = packed.ask
        self.max_output_tokens = packed.packing.max_output_tokens(shared.parameters.max_output_tokens)

    def tidied(self, answer: Answer) -> Answer:
        """Return *answer* as it came: what a row's answer must look like is asked of its part."""
        return answer

    def count_failure(self, error: CallError) -> None:
        """Count *error*, but for a refusal, which says nothing of requests that are sent alone."""
        if error.kind is not ErrorKind.BAD_REQUEST:
            super().count_failure(error)

    async def answered(self) -> Tried | None:
        """Ask until there is an answer or an error that another try won't mend; None when nobody is to be asked now."""
        while (tried := await self.attempt()) is not None:
            if isinstance(tried.result, Answer):
                return tried
            step = self.judge(tried)
            if isinstance(step, StopLane):
                self.halt(step)
                return None
            if not isinstance(step, Retry):
                return tried
            if not await self.wait(step):
                return None
        return None
