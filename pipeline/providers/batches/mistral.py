"""Mistral's batch jobs. Reference: docs.mistral.ai, studio-api/batch-processing; shapes as in mistralai 3.7."""

from typing import Any

import msgspec

from pipeline.providers.batches import Envelope, FileDialect, Line, Page, Phase, Remote
from pipeline.providers.batches.reading import MARK, File, form_of, read_as, read_response_line
from pipeline.records import HttpRequest, HttpResponse

_PATH = "/batch/jobs"
_PAGE = 100  # jobs
_PHASES = {
    "FAILED": Phase.FAILED,
    "SUCCESS": Phase.ENDED,
    "TIMEOUT_EXCEEDED": Phase.ENDED,
    "CANCELLED": Phase.ENDED,
}  # QUEUED, RUNNING, CANCELLATION_REQUESTED, and any word to come: still running


class _Problem(msgspec.Struct):
    message: str | None = None
    count: int = 1


class _Job(msgspec.Struct):
    id: str
    status: str
    metadata: dict[str, Any] | None = None
    created_at: float | None = None
    total_requests: int | None = None
    output_file: str | None = None
    error_file: str | None = None
    errors: list[_Problem] | None = None


class _Jobs(msgspec.Struct):
    data: list[_Job] | None = None


class _Files:
    def read_upload(self, response: HttpResponse) -> str:
        """Return the file's id."""
        return read_as(response, File).id

    def create(self, file_id: str, intent: str, model: str) -> HttpRequest:
        """Return the request; the mark in its metadata is what a job is known by after a crash."""
        body = {
            "input_files": [file_id],
            "endpoint": "/v1/chat/completions",
            "model": model,
            "timeout_hours": 24,
            "metadata": {MARK: intent},
        }
        return HttpRequest(_PATH, msgspec.json.encode(body))

    def delete(self, file_id: str) -> HttpRequest:
        """Return the request that deletes a file."""
        return HttpRequest(f"/files/{file_id}", b"", "DELETE")


class MistralBatches:
    """A file of lines, one request each, and a job made of it, for one model."""

    max_requests = 1_000_000
    max_bytes = 512_000_000  # of any file
    files: FileDialect | None = _Files()
    has_marks = True
    newest_first = True

    def entry(self, custom_id: str, request: HttpRequest) -> bytes:
        """Return the line of a request; its body is JSON already."""
        return msgspec.json.encode({"custom_id": custom_id, "body": msgspec.Raw(request.body)})

    def envelope(self, intent: str, /) -> Envelope:
        """Return a multipart form with the purpose and the file."""
        return form_of(f"{intent}.jsonl")

    def status(self, batch_id: str) -> HttpRequest:
        """Return the request for one job."""
        return HttpRequest(f"{_PATH}/{batch_id}", b"", "GET")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that cancels a job."""
        return HttpRequest(f"{_PATH}/{batch_id}/cancel", b"")

    def listing(self, page: str) -> HttpRequest:
        """Return the request for a page of 100 jobs, newest first; pages are numbered from 0."""
        return HttpRequest(f"{_PATH}?page={page or 0}&page_size={_PAGE}&order_by=-created", b"", "GET")

    def read_batch(self, response: HttpResponse) -> Remote:
        """Return the job."""
        return _remote(read_as(response, _Job))

    def read_listing(self, response: HttpResponse, page: str) -> Page:
        """Return the jobs of *page*; a full one is followed by another."""
        jobs = read_as(response, _Jobs).data or []
        return Page([_remote(job) for job in jobs], str(int(page or 0) + 1) if len(jobs) >= _PAGE else "")

    def read_line(self, line: bytes) -> Line | None:
        """Return the response of a line; a status of 0 or null is none."""
        return read_response_line(line)


def _remote(job: _Job) -> Remote:
    files = [file for file in (job.output_file, job.error_file) if file]
    return Remote(
        batch_id=job.id,
        phase=_PHASES.get(job.status, Phase.RUNNING),
        word=job.status,
        intent=str((job.metadata or {}).get(MARK, "")),
        created_at=job.created_at or 0.0,
        requests=job.total_requests or None,
        results=tuple(HttpRequest(f"/files/{file}/content", b"", "GET") for file in files),
        remains=tuple(
            HttpRequest(path, b"", "DELETE") for path in (*(f"/files/{file}" for file in files), f"{_PATH}/{job.id}")
        ),
        problem="; ".join(f"{each.message} ({each.count} times)" for each in (job.errors or [])[:5]),
    )
