"""Batch APIs: many requests in one file, answered within a day at a lower price. Data in, data out, as the dialects."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from pipeline.errors import JobError
from pipeline.records import HttpRequest, HttpResponse

DIALECTS = ("openai", "anthropic", "gemini", "mistral")


class Phase(Enum):
    """How far a batch has come, whatever its provider calls it."""

    RUNNING = "running"
    ENDED = "ended"  # completed, expired or cancelled: what is finished can be had
    FAILED = "failed"  # refused as a whole: there are no results


class Remote(NamedTuple):
    """What a provider says of a batch."""

    batch_id: str
    phase: Phase
    word: str  # the provider's own state
    intent: str = ""  # our mark, empty where the provider keeps none
    created_at: float = 0.0  # Unix seconds
    requests: int | None = None  # how many it holds, where it says so
    results: tuple[HttpRequest, ...] = ()  # where the answers are, errors included
    problem: str = ""  # why it failed, with the line
    remains: tuple[HttpRequest, ...] = ()  # what deletes all that is left of it but its input, in this order


class Line(NamedTuple):
    """One line of the results: a whole response, or why there is none (expired, cancelled, ...)."""

    custom_id: str
    response: HttpResponse | None
    problem: str = ""


class Envelope(NamedTuple):
    """What stands around the entries in the body that carries them."""

    path: str
    headers: Mapping[str, str]
    head: bytes
    separator: bytes
    tail: bytes
    root: str = ""  # what goes before the path of the base URL


class Page(NamedTuple):
    """A page of the list of batches."""

    batches: list[Remote]
    next: str = ""  # what `listing` takes for the page after it, empty after the last one


class FileDialect(Protocol):
    """How a batch is made of a file that goes up before."""

    def read_upload(self, response: HttpResponse) -> str:
        """Return the id of the uploaded file. Raises CallError for any other response."""

    def create(self, file_id: str, intent: str, model: str) -> HttpRequest:
        """Return the request that makes a batch of an uploaded file for *model*, by the name the provider knows."""

    def delete(self, file_id: str) -> HttpRequest:
        """Return the request that deletes an uploaded file."""


class BatchDialect(Protocol):
    """How one provider's batches are made and read."""

    max_requests: int
    max_bytes: int  # of the entries
    files: FileDialect | None  # None: posting the entries makes the batch
    has_marks: bool  # whether a batch carries our intent, so that it can be known again
    newest_first: bool  # whether the list of batches is said to be in that order

    def entry(self, custom_id: str, request: HttpRequest) -> bytes:
        """Return *request* as an entry of a batch."""

    def envelope(self, intent: str, /) -> Envelope:
        """Return what goes around the entries."""

    def status(self, batch_id: str) -> HttpRequest:
        """Return the request for the state of a batch."""

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that stops a batch."""

    def listing(self, page: str) -> HttpRequest:
        """Return the request for a page of the batches: the first one where *page* is empty, or the `next` of one."""

    def read_batch(self, response: HttpResponse) -> Remote:
        """Return a batch. Raises CallError for any other response."""

    def read_listing(self, response: HttpResponse, page: str) -> Page:
        """Return what was asked for as *page*. Raises CallError for any other response."""

    def read_line(self, line: bytes) -> Line | None:
        """Return a line of the results, None where it is none."""


def find_batch_dialect(name: str) -> BatchDialect:
    """Return the batch dialect called *name*.

    Raises:
        JobError: when there is none.
    """
    from pipeline.providers.batches.anthropic import AnthropicBatches
    from pipeline.providers.batches.gemini import GeminiBatches
    from pipeline.providers.batches.mistral import MistralBatches
    from pipeline.providers.batches.openai import OpenAIBatches

    kinds = (OpenAIBatches, AnthropicBatches, GeminiBatches, MistralBatches)
    made: dict[str, type[BatchDialect]] = dict(zip(DIALECTS, kinds, strict=True))
    if name in made:
        return made[name]()
    raise JobError(f"no batch API {name!r}; there are: {', '.join(DIALECTS)}")
