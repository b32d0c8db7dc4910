"""Anthropic's Message Batches. Reference: platform.claude.com/docs, build-with-claude/batch-processing."""

from typing import Any

import msgspec

from pipeline.providers.batches import Envelope, FileDialect, Line, Page, Phase, Remote
from pipeline.providers.batches.reading import read_as, read_json_line, seconds_of
from pipeline.records import HttpRequest, HttpResponse

_PATH = "/messages/batches"
# Statuses of the errors that a line may hold, which come without their HTTP status.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _Batch(msgspec.Struct):
    id: str
    processing_status: str
    request_counts: _Counts | None = None
    created_at: str | None = None


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False


class AnthropicBatches:
    """One request that holds them all. A batch has no metadata: it is known by its time and its number of requests."""

    max_requests = 100_000
    max_bytes = 256_000_000
    files: FileDialect | None = None
    has_marks = False
    newest_first = True

    def entry(self, custom_id: str, request: HttpRequest) -> bytes:
        """Return the element of a request; its body is JSON already."""
        return msgspec.json.encode({"custom_id": custom_id, "params": msgspec.Raw(request.body)})

    def envelope(self, _intent: str, /) -> Envelope:
        """Return the JSON around the elements; posting it makes the batch."""
        return Envelope(_PATH, {"content-type": "application/json"}, b'{"requests":[', b",", b"]}")

    def status(self, batch_id: str) -> HttpRequest:
        """Return the request for one batch."""
        return HttpRequest(f"{_PATH}/{batch_id}", b"", "GET")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that cancels a batch; what is finished is kept and billed."""
        return HttpRequest(f"{_PATH}/{batch_id}/cancel", b"")

    def listing(self, page: str) -> HttpRequest:
        """Return the request for a page of 100 batches, newest first."""
        return HttpRequest(f"{_PATH}?limit=100&after_id={page}" if page else f"{_PATH}?limit=100", b"", "GET")

    def read_batch(self, response: HttpResponse) -> Remote:
        """Return the batch."""
        return _remote(read_as(response, _Batch))

    def read_listing(self, response: HttpResponse, _page: str, /) -> Page:
        """Return the batches of the page; the next one begins after the last of them."""
        page = read_as(response, _Page)
        return Page([_remote(batch) for batch in page.data], page.data[-1].id if page.has_more and page.data else "")

    def read_line(self, line: bytes) -> Line | None:
        """Return the message of a line, or its error as the response it would have been."""
        found = read_json_line(line)
        result = found.get("result") if found else None
        if found is None or not isinstance(found.get("custom_id"), str) or not isinstance(result, dict):
            return None
        custom_id, kind = found["custom_id"], str(result.get("type"))
        if kind == "succeeded":
            return Line(custom_id, HttpResponse(200, {}, msgspec.json.encode(result.get("message"))))
        if kind == "errored":
            return Line(custom_id, HttpResponse(_status(result), {}, msgspec.json.encode(result.get("error"))))
        return Line(custom_id, None, kind)


def _status(result: dict[str, Any]) -> int:
    error = result.get("error")
    inner = error.get("error") if isinstance(error, dict) else None
    return _STATUSES.get(str(inner.get("type")) if isinstance(inner, dict) else "", 500)


def _remote(batch: _Batch) -> Remote:
    ended = batch.processing_status == "ended"
    counts = batch.request_counts
    return Remote(
        batch_id=batch.id,
        phase=Phase.ENDED if ended else Phase.RUNNING,
        word=batch.processing_status,
        created_at=seconds_of(batch.created_at),
        requests=sum(getattr(counts, name) for name in counts.__struct_fields__) if counts else None,
        # The results' URL is a full one; the documented path on the configured host is the same place.
        results=(HttpRequest(f"{_PATH}/{batch.id}/results", b"", "GET"),) if ended else (),
        remains=(HttpRequest(f"{_PATH}/{batch.id}", b"", "DELETE"),),
    )
