"""The batch lane: requests in a few files, answered within hours at the batch price; no file becomes two batches."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio

from pipeline.errors import CallError, ErrorKind
from pipeline.lanes.batch_client import GONE, BatchClient, Feed, file_hash, is_certain
from pipeline.lanes.cascade import is_begun, open_case
from pipeline.lanes.case import Case, Shared
from pipeline.lanes.collecting import Collector
from pipeline.lanes.online import Lane
from pipeline.lanes.route import Route
from pipeline.ledger import Batch, BatchBook, BatchState, Member
from pipeline.providers.batches import Phase, Remote
from pipeline.records import Request

_CANCEL_S = 600.0  # providers take up to ten minutes to stop a batch
_STOPS = frozenset({ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.CONFIG})
_SETTLE_S = 30.0  # after which a listing is believed to have what was made
_UNMADE = (BatchState.INTENT, BatchState.UPLOADED)


class BatchPlan(NamedTuple):
    """What was decided for a model before the run. Times are Unix seconds."""

    submit: bool  # whether new requests go into a batch
    due_at: float | None = None  # when what has no answer is asked one by one; None: a batch may take its time
    wait: bool = False  # whether the run stays until the batches are answered
    poll_s: float = 60.0


class BatchTools(NamedTuple):
    """What a batch lane works with."""

    client: BatchClient
    book: BatchBook
    folder: Path  # of the files on their way
    plan: BatchPlan


class BatchLane:
    """Settles one model's requests by batches: follows those that were begun, and begins others.

    *read* gives the requests of the plan, as often as it is called.
    """

    def __init__(self, route: Route, read: Callable[[], Iterator[Request]], shared: Shared, tools: BatchTools) -> None:
        self._route = route
        self._read = read
        self._shared = shared
        self._tools = tools
        self._one_by_one = not tools.plan.submit
        self._held: set[bytes] = set()  # requests that are not to be asked now: in a batch, or lost with one
        self._settled: set[bytes] = set()
        self._unsettled: list[Case] = []  # answers that are to be followed by another request
        self._cancelled: dict[str, float] = {}  # intent -> since when
        self._lost: set[str] = set()  # ids of batches whose answers are gone
        self._capped = False  # whether the cap left requests out
        self._worst: dict[bytes, int] = {}  # what is set aside for a request on its way into a file
        self._spent: dict[str, int] = {}  # intent -> what its answers cost in this run

    async def run(self, workers: int) -> None:
        """Settle every request, or leave it to a batch that a later run will find answered."""
        for batch in self._tools.book.open_batches():
            if batch.model == self._route.model.name:
                self._shared.budget.hold(batch.worst_pusd)
                await self._follow(batch)
        if any(entry.heard for entry in self._shared.carried.values()):
            # Their first model has answered already, maybe in a batch.
            begun = (request for request in self._left() if is_begun(request, self._shared))
            self._unsettled += [open_case(request, self._route, self._shared) for request in begun]
        while self._may_submit() and await self._submit():
            pass  # what a batch leaves without an answer goes into another one, while there is time
        await self._go_on(workers)
        if self._one_by_one:
            await Lane(self._route, self._left(), self._shared).run(workers)
        if self._tools.client.deletes:
            await self._tidy()

    async def _tidy(self) -> None:
        """Delete at the provider what is done with; what can't be deleted now is tried again by the next run."""
        for batch in self._tools.book.left_over():
            if batch.model != self._route.model.name or self._shared.stop.reason is not None:
                continue
            try:
                if await self._tools.client.delete(batch):
                    self._tools.book.move(batch, BatchState.DELETED)
            except CallError as error:
                name, told = batch.batch_id or batch.file_id, f"{error.kind}: {error.message}"
                self._remark(f"batch {name} can't be deleted at the provider ({told}); the next run tries again")

    def _may_submit(self) -> bool:
        if self._is_due():
            self._one_by_one = True
        return self._shared.stop.reason is None and self._route.halted is None and not self._one_by_one

    def _is_due(self, batch: Batch | None = None) -> bool:
        """Tell whether it is too late for a batch: by the plan of now, or by that of the run that began *batch*."""
        dues = [self._tools.plan.due_at, batch and batch.deadline]
        return any(due_at is not None and time.time() >= due_at for due_at in dues)

    def _left(self) -> Iterator[Request]:
        done = self._held | self._settled | {case.request.request_id for case in self._unsettled}
        return (request for request in self._read() if request.request_id not in done)

    async def _go_on(self, workers: int) -> None:
        """Ask again where the answer of a batch is to be followed by another request."""
        cases = iter(self._unsettled)

        async def work() -> None:
            while self._shared.stop.reason is None and (case := next(cases, None)) is not None:
                while await case.settle():
                    pass  # it has gone on to a stronger model

        async with anyio.create_task_group() as group:
            for _ in range(min(workers, len(self._unsettled))):
                group.start_soon(work)

    async def _submit(self) -> bool:
        """Put what is left into batches; False when nothing was left."""
        feed = self._tools.client.feed(self._affordable(self._left()), self._route.model)
        begun = not feed.is_empty
        while not feed.is_empty and self._may_submit():
            await self._follow(self._begin(feed))
        if self._capped:
            self._shared.stop.set("cap")
        return begun

    def _affordable(self, requests: Iterator[Request]) -> Iterator[Request]:
        """Yield *requests* while their worst price still fits under the cap, and set it aside."""
        budget = self._shared.budget
        for request in requests:
            if budget.cap_pusd is not None:
                worst = self._route.worst_cost(request, time.time(), batch=True)
                if not budget.reserve_now(worst):
                    self._capped = True
                    return
                self._worst[request.request_id] = worst
            yield request

    def _begin(self, feed: Feed) -> Batch:
        """Write the next file, and then the intent to send it."""
        intent = secrets.token_hex(16)
        written = self._tools.client.write(feed, intent, self._file(intent))
        members = [Member(request.request_id, request.row_id, request.task) for request in written.requests]
        batch = Batch(
            intent=intent,
            model=self._route.model.name,
            state=BatchState.INTENT,
            requests=len(members),
            sha256=written.sha256,
            worst_pusd=sum(self._worst.pop(member.request_id, 0) for member in members),
            deadline=self._tools.plan.due_at,
            run=self._shared.ledger.run.id,
            begun_at=time.time(),
        )
        self._tools.book.begin(batch, members)
        return batch

    def _file(self, intent: str) -> Path:
        return self._tools.folder / f"{intent}.entries"

    async def _follow(self, batch: Batch) -> None:
        """Bring *batch* as far as it comes: to its answers, or to where this run need not wait for it."""
        members = {member.request_id for member in self._tools.book.members(batch)}
        self._held |= members
        while batch.state not in (BatchState.COLLECTED, BatchState.VOID):
            self._shared.counters.under_way += 1  # a signal waits for the end of a step
            try:
                batch, word = await self._step(batch)
            except CallError as error:
                batch, word = self._after_error(batch, error)
            finally:
                self._shared.counters.under_way -= 1
            if batch.state in (BatchState.COLLECTED, BatchState.VOID):
                break
            stays = (self._tools.plan.wait or batch.intent in self._cancelled) and self._route.halted is None
            if word and (not stays or self._shared.stop.reason is not None):
                self._shared.counters.waiting[batch.model] = f"batch {batch.batch_id or batch.intent}: {word}"
                # What it costs is not known yet, so the cap must count its worst.
                self._shared.budget.settle(batch.worst_pusd, batch.worst_pusd)
                return
            if word:
                await self._shared.stop.sleep(self._tools.plan.poll_s)
        if batch.batch_id not in self._lost:
            self._held -= members
        self._shared.budget.settle(batch.worst_pusd, self._spent.get(batch.intent, 0))
        self._file(batch.intent).unlink(missing_ok=True)

    async def _step(self, batch: Batch) -> tuple[Batch, str]:
        """Take the next step of the protocol; a word says what it waits for, none that the next step can follow."""
        book, client, file = self._tools.book, self._tools.client, self._file(batch.intent)
        if batch.state in _UNMADE and (self._is_due(batch) or file_hash(file) != batch.sha256):
            return book.move(batch, BatchState.VOID, note="too late, or its file is gone; no batch was made"), ""
        match batch.state:
            case BatchState.INTENT:
                file_id = await client.upload(file, batch.intent)
                return book.move(batch, BatchState.UPLOADED, file_id=file_id), ""
            case BatchState.UPLOADED:
                batch = book.move(batch, BatchState.ASKED)
                remote = await client.create(batch, file, self._route.model)
                return book.move(batch, BatchState.CREATED, batch_id=remote.batch_id), ""
            case BatchState.ASKED:
                return await self._find(batch)
            case _:
                return await self._look(batch)

    async def _find(self, batch: Batch) -> tuple[Batch, str]:
        """Adopt the batch that was asked for before a crash or a lost answer, or know that there is none."""
        settle_s = min(self._tools.plan.poll_s, _SETTLE_S)
        wait_s = (batch.asked_at or 0.0) + settle_s - time.time()
        if wait_s > 0:
            await self._shared.stop.sleep(wait_s)  # a listing may be a little behind
        found = await self._tools.client.find(batch, self._tools.book.known_ids())
        if len(found) > 1 and not self._tools.client.has_marks:
            names = ", ".join(remote.batch_id for remote in found)
            return batch, f"may be any of {names}; cancel those that are not, then run it again"
        if found:
            self._remark(f"batch {found[0].batch_id} was made before a crash or a lost answer, and is taken over")
            return self._tools.book.move(batch, BatchState.CREATED, batch_id=found[0].batch_id), ""
        return self._tools.book.move(batch, BatchState.UPLOADED), ""

    async def _look(self, batch: Batch) -> tuple[Batch, str]:
        remote = await self._tools.client.status(batch.batch_id)
        if remote.phase is Phase.FAILED:
            self._remark(
                f"batch {batch.batch_id} failed: {remote.problem or remote.word}; its rows are asked one by one"
            )
            self._one_by_one = True
            if not remote.results:
                return self._tools.book.move(batch, BatchState.VOID, note=remote.problem), ""
            await self._collect(batch, remote)
            return self._tools.book.move(batch, BatchState.COLLECTED, note=remote.problem or remote.word), ""
        if remote.phase is Phase.ENDED:
            await self._collect(batch, remote)
            return self._tools.book.move(batch, BatchState.COLLECTED, note=remote.word), ""
        if self._is_due(batch):
            return await self._cancel(batch, remote)
        return batch, remote.word

    async def _cancel(self, batch: Batch, remote: Remote) -> tuple[Batch, str]:
        """Stop a batch that comes too late; give it up where the provider takes too long to stop it."""
        self._one_by_one = True
        since = self._cancelled.get(batch.intent)
        if since is None:
            self._cancelled[batch.intent] = time.time()
            await self._tools.client.cancel(batch.batch_id)
        elif time.time() - since > _CANCEL_S:
            self._remark(f"batch {batch.batch_id} could not be stopped; its rows are asked again and may be paid twice")
            self._shared.counters.maybe_paid += batch.requests
            return self._tools.book.move(batch, BatchState.VOID, note="given up at the deadline"), ""
        return batch, f"{remote.word}, to be stopped"

    async def _collect(self, batch: Batch, remote: Remote) -> None:
        before = self._shared.counters.spent_pusd
        collector = Collector(self._route, self._read, self._shared, batch)
        told = await collector.collect(self._tools.client, remote, self._tools.book, self._tools.folder)
        self._spent[batch.intent] = self._shared.counters.spent_pusd - before
        self._settled |= collector.settled
        self._unsettled += collector.unsettled
        for remark in told:
            self._remark(f"batch {batch.batch_id} ({remote.word}): {remark}")
        if not collector.has_answers:
            self._one_by_one = True  # or an odd provider would get, and bill, batch after batch

    def _after_error(self, batch: Batch, error: CallError) -> tuple[Batch, str]:
        """Decide what a failed call means: nothing is given up that may be there, nothing is made twice."""
        book, told = self._tools.book, f"{error.kind}: {error.message}"
        if batch.state is BatchState.CREATED and error.status in GONE:
            self._lost.add(batch.batch_id)
            self._route.halt(
                f"batch {batch.batch_id}: the provider has it no more ({told}); run it again to ask its rows anew, "
                "which is paid again",
                whole_service=False,
            )
            return book.move(batch, BatchState.VOID, note=told), ""
        if batch.state is BatchState.CREATED:
            return batch, told
        current = next((each for each in book.open_batches() if each.intent == batch.intent), batch)
        if current.state is BatchState.ASKED and batch.state is BatchState.UPLOADED and is_certain(error):
            current = book.move(current, BatchState.UPLOADED)
        if error.kind in _STOPS:
            self._route.halt(f"{told} (batch)", whole_service=error.kind is not ErrorKind.CONFIG)
        elif is_certain(error) and error.kind is not ErrorKind.RATE and error.status and batch.state in _UNMADE:
            self._remark(f"a batch was refused ({told}); its rows are asked one by one")
            self._one_by_one = True
            return book.move(current, BatchState.VOID, note=told), ""
        return current, told

    def _remark(self, text: str) -> None:
        self._shared.counters.remarks.append(f"{self._route.model.name}: {text}")
