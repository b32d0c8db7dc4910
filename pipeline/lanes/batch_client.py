"""One provider's batches over a connection: entries into a file, a file into a batch, a batch into lines."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import CallError, ErrorKind
from pipeline.ledger import Batch
from pipeline.providers import Adapter, failures
from pipeline.providers.batches import BatchDialect, Envelope, Line, Phase, Remote
from pipeline.records import Answer, HttpRequest, HttpResponse, Model, Parameters, Request
from pipeline.transport import Endpoint

GONE = frozenset({404, 410})  # answers are kept for about 30 days
_CLOCK_SKEW_S = 300.0  # between the provider's clock and ours
_MOST_PAGES = 50  # of the listing, at 100 batches each


class Written(NamedTuple):
    """A file of entries that is on the disk."""

    requests: tuple[Request, ...]  # without their texts
    sha256: str


class BatchClient:
    """Speaks the batch *dialect* of a provider whose requests *adapter* encodes. Every method raises CallError."""

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: BatchDialect,
        adapter: Adapter,
        parameters: Parameters,
        *,
        deletes: bool = False,
    ) -> None:
        self.deletes = deletes  # whether what is done with is to be deleted at the provider
        self._endpoint = endpoint
        self._dialect = dialect
        self._adapter = adapter
        self._parameters = parameters

    @property
    def has_marks(self) -> bool:
        """Tell whether a batch carries our mark, so that it can be known again."""
        return self._dialect.has_marks

    def feed(self, requests: Iterator[Request], model: Model) -> "Feed":
        """Return *requests* as entries."""
        return Feed(requests, lambda request: self._entry(request, model))

    def _entry(self, request: Request, model: Model) -> bytes:
        encoded = self._adapter.encode(request, model, self._parameters)
        return self._dialect.entry(request.request_id.hex(), encoded)

    def write(self, feed: "Feed", intent: str, file: Path) -> Written:
        """Write entries to *file* until it is full or the *feed* ends. The provider's limits count bytes of UTF-8.

        An entry that is larger than a whole batch gets a file of its own, for the provider to refuse.
        """
        taken: list[Request] = []
        writer = _Entries(file, self._dialect.envelope(intent))
        with writer:
            while len(taken) < self._dialect.max_requests:
                entry = feed.take(self._dialect.max_bytes - writer.size if taken else None)
                if entry is None:
                    break
                request, body = entry
                taken.append(request._replace(user="", system=None, messages=None, image=None))
                writer.add(body)
        return Written(tuple(taken), writer.sha256)

    async def upload(self, file: Path, intent: str) -> str:
        """Send the file up, where batches are made of files, and return its id; empty otherwise."""
        if self._dialect.files is None:
            return ""
        return self._dialect.files.read_upload(await self._post(file, intent))

    async def create(self, batch: Batch, file: Path, model: Model) -> Remote:
        """Make the batch of *model*. An error may mean that it was made all the same, see `is_certain`."""
        files = self._dialect.files
        if files is None:
            return self._dialect.read_batch(await self._post(file, batch.intent))
        return self._dialect.read_batch(
            await self._endpoint.send(files.create(batch.file_id, batch.intent, model.wire_name))
        )

    async def _post(self, file: Path, intent: str) -> HttpResponse:
        envelope = self._dialect.envelope(intent)
        return await self._endpoint.send_file(envelope.path, file, envelope.headers, root=envelope.root)

    async def find(self, batch: Batch, known: frozenset[str]) -> list[Remote]:
        """Return the batches on the server that may be *batch*: the marked one, or those of its time and size."""
        found: list[Remote] = []
        name = ""
        for _ in range(_MOST_PAGES):
            answer = await self._endpoint.send(self._dialect.listing(name))
            page, name = self._dialect.read_listing(answer, name)
            found += [remote for remote in page if self._may_be(remote, batch, known)]
            if not name or (self._dialect.newest_first and page[-1].created_at < batch.begun_at - _CLOCK_SKEW_S):
                return found
        if found:
            return found
        raise CallError(ErrorKind.SERVER, "too many batches to tell whether it is among them")

    def _may_be(self, remote: Remote, batch: Batch, known: frozenset[str]) -> bool:
        if self.has_marks:
            return remote.intent == batch.intent
        since = (batch.asked_at or batch.begun_at) - _CLOCK_SKEW_S
        fits = remote.created_at >= since and remote.requests in (None, batch.requests)
        return fits and remote.batch_id not in known

    async def status(self, batch_id: str) -> Remote:
        """Return how far the batch has come."""
        return self._dialect.read_batch(await self._endpoint.send(self._dialect.status(batch_id)))

    async def cancel(self, batch_id: str) -> None:
        """Ask for the batch to be stopped; what is finished can still be had."""
        response = await self._endpoint.send(self._dialect.cancel(batch_id))
        if not 200 <= response.status < 300:
            raise failures.call_error(response)

    async def delete(self, batch: Batch) -> bool:
        """Delete what the provider has of *batch*, input and results; False while it is still running.

        What is not there any more counts as deleted.
        """
        found: list[HttpRequest] = []
        if batch.file_id and self._dialect.files is not None:
            found.append(self._dialect.files.delete(batch.file_id))
        if batch.batch_id:
            answer = await self._endpoint.send(self._dialect.status(batch.batch_id))
            if answer.status not in GONE:
                remote = self._dialect.read_batch(answer)
                if remote.phase is Phase.RUNNING:
                    return False
                found += remote.remains
        for request in found:
            answer = await self._endpoint.send(request)
            if not 200 <= answer.status < 300 and answer.status not in GONE:
                raise failures.call_error(answer)
        return True

    async def lines(self, remote: Remote, stem: Path) -> AsyncIterator[Line | None]:
        """Yield every line of the results, of answers and of errors; None for one that is no line.

        They come by way of files whose names begin with *stem*.
        """
        for place, request in enumerate(remote.results):
            file = stem.with_name(f"{stem.name}-{place}.results")
            response = await self._endpoint.download(request, file)
            if response.status != 200:
                raise failures.call_error(response)
            with file.open("rb") as lines:
                for line in lines:
                    if line.strip():
                        yield self._dialect.read_line(line)
            file.unlink()

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer in a line's response."""
        return self._adapter.decode(response)


def is_certain(error: CallError) -> bool:
    """Tell whether nothing was made: the provider refused, or never heard of it."""
    return (400 <= error.status < 500 and error.status not in (408, 409)) or (not error.status and not error.maybe_paid)


class Feed:
    """Requests as entries, one kept back where it does not fit."""

    def __init__(self, requests: Iterator[Request], encode: Callable[[Request], bytes]) -> None:
        self._entries = ((request, encode(request)) for request in requests)
        self._next = next(self._entries, None)

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing left."""
        return self._next is None

    def take(self, room: int | None) -> tuple[Request, bytes] | None:
        """Return the next entry, None when there is none or it needs more than *room* bytes with its separator."""
        taken = self._next
        if taken is None or (room is not None and len(taken[1]) + 1 > room):
            return None
        self._next = next(self._entries, None)
        return taken


class _Entries:
    """A body on its way to the disk."""

    def __init__(self, file: Path, envelope: Envelope) -> None:
        self._file = file.open("wb")
        self._envelope = envelope
        self._hash = hashlib.sha256()
        self._started = False
        self.size = 0  # of the entries, separators included

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> "_Entries":
        self._put(self._envelope.head)
        return self

    def add(self, entry: bytes) -> None:
        self.size += self._put(self._envelope.separator + entry if self._started else entry)
        self._started = True

    def _put(self, part: bytes) -> int:
        self._hash.update(part)
        return self._file.write(part)

    def __exit__(self, *_: object) -> None:
        self._put(self._envelope.tail)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def file_hash(file: Path) -> str:
    """Return the SHA-256 of *file* in hex, empty where there is none."""
    if not file.exists():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
