"""OpenAI's Files and Batches. Reference: developers.openai.com/api/reference, guides/batch."""

from typing import Any

import msgspec

from pipeline.providers.batches import Envelope, FileDialect, Line, Page, Phase, Remote
from pipeline.providers.batches.reading import MARK, File, form_of, read_as, read_response_line
from pipeline.records import HttpRequest, HttpResponse

_PHASES = {
    "failed": Phase.FAILED,
    "completed": Phase.ENDED,
    "expired": Phase.ENDED,
    "cancelled": Phase.ENDED,
}  # validating, in_progress, finalizing, cancelling, and any word to come: still running


class _Problem(msgspec.Struct):
    message: str | None = None
    code: str | None = None
    line: int | None = None


class _Problems(msgspec.Struct):
    data: list[_Problem] | None = None


class _Counts(msgspec.Struct):
    total: int | None = None


class _Batch(msgspec.Struct):
    id: str
    status: str
    metadata: dict[str, Any] | None = None
    created_at: float | None = None
    request_counts: _Counts | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Problems | None = None


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False


class _Files:
    def read_upload(self, response: HttpResponse) -> str:
        """Return the file's id."""
        return read_as(response, File).id

    def create(self, file_id: str, intent: str, _model: str, /) -> HttpRequest:
        """Return the request; the mark in its metadata is what a batch is known by after a crash."""
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {MARK: intent},
        }
        return HttpRequest("/batches", msgspec.json.encode(body))

    def delete(self, file_id: str) -> HttpRequest:
        """Return the request that deletes a file."""
        return HttpRequest(f"/files/{file_id}", b"", "DELETE")


class OpenAIBatches:
    """A file of lines, one request each, and a batch made of it."""

    max_requests = 50_000
    max_bytes = 200_000_000
    files: FileDialect | None = _Files()
    has_marks = True
    newest_first = True

    def entry(self, custom_id: str, request: HttpRequest) -> bytes:
        """Return the line of a request; its body is JSON already."""
        head = {"custom_id": custom_id, "method": "POST", "url": f"/v1{request.path}"}
        return msgspec.json.encode({**head, "body": msgspec.Raw(request.body)})

    def envelope(self, intent: str, /) -> Envelope:
        """Return a multipart form with the purpose and the file."""
        return form_of(f"{intent}.jsonl")

    def status(self, batch_id: str) -> HttpRequest:
        """Return the request for one batch."""
        return HttpRequest(f"/batches/{batch_id}", b"", "GET")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that cancels a batch; what is finished is kept and billed."""
        return HttpRequest(f"/batches/{batch_id}/cancel", b"")

    def listing(self, page: str) -> HttpRequest:
        """Return the request for a page of 100 batches, newest first."""
        return HttpRequest(f"/batches?limit=100&after={page}" if page else "/batches?limit=100", b"", "GET")

    def read_batch(self, response: HttpResponse) -> Remote:
        """Return the batch. A completed one may have an error file only."""
        return _remote(read_as(response, _Batch))

    def read_listing(self, response: HttpResponse, _page: str, /) -> Page:
        """Return the batches of the page; the next one begins after the last of them."""
        page = read_as(response, _Page)
        return Page([_remote(batch) for batch in page.data], page.data[-1].id if page.has_more and page.data else "")

    def read_line(self, line: bytes) -> Line | None:
        """Return the response of a line; a status of 0 or null is none."""
        return read_response_line(line)


def _remote(batch: _Batch) -> Remote:
    files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
    problems = batch.errors.data or [] if batch.errors else []
    told = "; ".join(
        f"line {problem.line}: {problem.message}" if problem.line is not None else str(problem.message or problem.code)
        for problem in problems[:5]
    )
    return Remote(
        batch_id=batch.id,
        phase=_PHASES.get(batch.status, Phase.RUNNING),
        word=batch.status,
        intent=str((batch.metadata or {}).get(MARK, "")),
        created_at=batch.created_at or 0.0,
        requests=(batch.request_counts and batch.request_counts.total) or None,
        results=tuple(HttpRequest(f"/files/{file}/content", b"", "GET") for file in files),
        problem=told,
        remains=tuple(
            HttpRequest(f"/files/{file}", b"", "DELETE") for file in files
        ),  # a batch itself can't be deleted
    )
