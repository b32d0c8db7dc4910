"""The answers of one batch into the ledger: joined by id, each once, whatever order, repeats or gaps they come with."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.errors import CallError
from pipeline.lanes.batch_client import BatchClient
from pipeline.lanes.cascade import open_case
from pipeline.lanes.case import Case, Shared
from pipeline.lanes.route import Route
from pipeline.ledger import Batch, BatchBook
from pipeline.providers.batches import Line, Remote
from pipeline.records import Answer, Request

_WORKERS = 64  # answers that wait for the disk together
_OK = 200


class Collector:
    """Takes the answers of *batch*. Afterwards `settled` has what is done with, `unsettled` what is asked once more."""

    def __init__(self, route: Route, read: Callable[[], Iterator[Request]], shared: Shared, batch: Batch) -> None:
        self.settled: set[bytes] = set()
        self.unsettled: list[Case] = []
        self._route = route
        self._read = read
        self._shared = shared
        self._batch = batch
        self._requests: dict[bytes, Request] = {}
        self._answered: set[bytes] = set()
        self._before: set[bytes] = set()  # taken by an earlier run
        self._errors: dict[bytes, Line] = {}
        self._odd: Counter[str] = Counter()

    @property
    def has_answers(self) -> bool:
        """Tell whether the batch brought anything, in this run or an earlier one."""
        return bool(self._answered or self._before)

    async def collect(self, client: BatchClient, remote: Remote, book: BatchBook, folder: Path) -> list[str]:
        """Take every line of the results, of answers and of errors, and return what is to be said of them.

        Of several lines with one id the first good answer counts. What an earlier run took of them is not taken again.

        Raises:
            CallError: when the results can't be had; what was taken stays taken.
        """
        members = book.members(self._batch)
        self._requests = {member.request_id: Request(*member[:2], user="", task=member.task) for member in members}
        for request in self._read():
            if request.request_id in self._requests:
                self._requests[request.request_id] = request
        self._before = book.taken(self._batch)
        failure: CallError | None = None
        send, receive = anyio.create_memory_object_stream[tuple[bytes, Line]](_WORKERS)
        async with anyio.create_task_group() as group, send:
            for _ in range(_WORKERS):
                group.start_soon(self._work, client, receive.clone())
            receive.close()
            try:
                await self._read_lines(client.lines(remote, folder / self._batch.intent), send)
            except CallError as error:  # a task group would wrap it
                failure = error
        if failure is not None:
            raise failure
        missing = len(self._requests.keys() - self._answered - self._before)
        told = [f"{count} lines {what}" for what, count in self._odd.items()]
        lost = f"{missing} of {len(self._requests)} requests have no answer and are asked again"
        return [*told, lost] if missing else told

    async def _read_lines(
        self, lines: AsyncIterator[Line | None], send: MemoryObjectSendStream[tuple[bytes, Line]]
    ) -> None:
        async for line in lines:
            key = self._sort(line)
            if key is not None and line is not None:
                await send.send((key, line))
        for key, line in self._errors.items():
            if key not in self._answered:
                self._answered.add(key)
                await send.send((key, line))

    def _sort(self, line: Line | None) -> bytes | None:
        """Return the request that *line* answers well; keep an error for the end, and count what is odd."""
        key = _key(line)
        if line is None or key not in self._requests:
            self._odd["can't be read" if line is None else "have an id that was never sent"] += 1
        elif key in self._answered:
            self._odd["repeat an id"] += 1
        elif key not in self._before and line.response is not None:  # without a response as if it were missing
            if line.response.status == _OK:
                self._answered.add(key)
                return key
            self._errors.setdefault(key, line)
        return None

    async def _work(self, client: BatchClient, lines: MemoryObjectReceiveStream[tuple[bytes, Line]]) -> None:
        async with lines:
            async for key, line in lines:
                assert line.response is not None
                result: Answer | CallError
                try:
                    result = client.decode(line.response)
                except CallError as error:
                    result = error.with_traceback(None)
                case = open_case(self._requests[key], self._route, self._shared)
                if await case.take(result, self._batch.batch_id, self._batch.asked_at or self._batch.begun_at):
                    self.settled.add(key)
                else:
                    self.unsettled.append(case)


def _key(line: Line | None) -> bytes:
    try:
        return bytes.fromhex(line.custom_id if line else "")
    except ValueError:
        return b""
