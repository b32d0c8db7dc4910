"""Gemini's batches of generateContent from a file. Reference: ai.google.dev, api/batch-api; google-genai 3.6."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from pipeline.providers.batches import Envelope, FileDialect, Line, Page, Phase, Remote
from pipeline.providers.batches.reading import parts_of, read_as, read_json_line, seconds_of
from pipeline.records import HttpRequest, HttpResponse

# After the prefix: BATCH_STATE_ in the API's reference, JOB_STATE_ in what Google's own package makes of it.
_PHASES = {
    "FAILED": Phase.FAILED,
    "SUCCEEDED": Phase.ENDED,
    "PARTIALLY_SUCCEEDED": Phase.ENDED,
    "CANCELLED": Phase.ENDED,
    "EXPIRED": Phase.ENDED,
}  # QUEUED, PENDING, RUNNING, CANCELLING, PAUSED, UPDATING, and any word to come: still running
# Codes of google.rpc.Status and their HTTP statuses, as google/rpc/code.proto pairs them.
_STATUSES = {
    2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503,
    15: 500, 16: 401,
}  # fmt: skip
_CANCELLED = 1
_HTTP = range(400, 600)


class _Output(msgspec.Struct, rename="camel"):
    responses_file: str | None = None


class _About(msgspec.Struct, rename="camel"):
    display_name: str | None = None
    state: str | None = None
    create_time: str | None = None
    output: _Output | None = None


class _Status(msgspec.Struct):
    code: int | None = None
    message: str | None = None


class _Operation(msgspec.Struct):
    name: str
    metadata: _About | None = None
    done: bool = False
    response: _Output | None = None
    error: _Status | None = None


class _Operations(msgspec.Struct, rename="camel"):
    operations: list[_Operation] | None = None
    next_page_token: str | None = None


class _File(msgspec.Struct):
    name: str


class _Upload(msgspec.Struct):
    file: _File


class _Files:
    def read_upload(self, response: HttpResponse) -> str:
        """Return the file's name, as in `files/abc`."""
        return read_as(response, _Upload).file.name

    def create(self, file_id: str, intent: str, model: str) -> HttpRequest:
        """Return the request; the display name is what a batch is known by after a crash."""
        body = {"batch": {"displayName": intent, "inputConfig": {"fileName": file_id}}}
        path = quote(model if "/" in model else f"models/{model}")
        return HttpRequest(f"/{path}:batchGenerateContent", msgspec.json.encode(body))

    def delete(self, file_id: str) -> HttpRequest:
        """Return the request that deletes a file."""
        return HttpRequest(f"/{file_id}", b"", "DELETE")


class GeminiBatches:
    """A file of lines, one request each, and a batch made of it, for one model.

    The reference knows no greatest number of requests; ours bounds the size of the results, as large ones were made,
    billed, and then could not be had.
    """

    max_requests = 50_000
    max_bytes = 2_000_000_000  # of any file
    files: FileDialect | None = _Files()
    has_marks = True
    newest_first = False  # the reference names no order

    def entry(self, custom_id: str, request: HttpRequest) -> bytes:
        """Return the line of a request; its body is JSON already."""
        return msgspec.json.encode({"key": custom_id, "request": msgspec.Raw(request.body)})

    def envelope(self, intent: str, /) -> Envelope:
        """Return a body of two parts: what the file is called, and the file."""
        about = msgspec.json.encode({"file": {"displayName": intent, "mimeType": "application/jsonl"}}).decode()
        parts = parts_of(
            "/files", "related", f"Content-Type: application/json\r\n\r\n{about}", "Content-Type: application/jsonl"
        )
        headers = {**parts.headers, "x-goog-upload-protocol": "multipart"}
        return parts._replace(headers=headers, root="/upload")

    def status(self, batch_id: str) -> HttpRequest:
        """Return the request for one batch; its id is its name, as in `batches/abc`."""
        return HttpRequest(f"/{batch_id}", b"", "GET")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that cancels a batch."""
        return HttpRequest(f"/{batch_id}:cancel", b"{}")

    def listing(self, page: str) -> HttpRequest:
        """Return the request for a page of 100 batches."""
        return HttpRequest("/batches?pageSize=100" + (f"&pageToken={quote(page, safe='')}" if page else ""), b"", "GET")

    def read_batch(self, response: HttpResponse) -> Remote:
        """Return the batch that an operation is about."""
        return _remote(read_as(response, _Operation))

    def read_listing(self, response: HttpResponse, _page: str, /) -> Page:
        """Return the batches of the page and the token of the next one."""
        page = read_as(response, _Operations)
        return Page([_remote(operation) for operation in page.operations or []], page.next_page_token or "")

    def read_line(self, line: bytes) -> Line | None:
        """Return the response of a line, or its error as the response it would have been."""
        found = read_json_line(line)
        if found is None or not isinstance(found.get("key"), str):
            return None
        response, error = found.get("response"), found.get("error") or found.get("status")
        if isinstance(response, dict):
            return Line(found["key"], HttpResponse(HTTPStatus.OK, {}, msgspec.json.encode(response)))
        code = error.get("code") if isinstance(error, dict) else None
        if not isinstance(error, dict) or not isinstance(code, int) or code == _CANCELLED:
            return Line(found["key"], None, "no response" if code is None else "cancelled")
        status = code if code in _HTTP else _STATUSES.get(code, 500)
        return Line(found["key"], HttpResponse(status, {}, _as_error(error, status)))


def _as_error(error: dict[str, Any], status: int) -> bytes:
    return msgspec.json.encode({"error": {**error, "code": status}})


def _remote(operation: _Operation) -> Remote:
    about = operation.metadata or _About()
    word = (about.state or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    phase = _PHASES.get(word, Phase.RUNNING)
    if phase is Phase.RUNNING and operation.done:
        phase = Phase.FAILED if operation.error else Phase.ENDED
    output = operation.response or about.output or _Output()
    file = output.responses_file
    return Remote(
        batch_id=operation.name,
        phase=phase,
        word=word or "unknown",
        intent=about.display_name or "",
        created_at=seconds_of(about.create_time),
        results=(HttpRequest(f"/{file}:download?alt=media", b"", "GET"),) if file else (),
        remains=tuple(HttpRequest(f"/{name}", b"", "DELETE") for name in (file, operation.name) if name),
        problem=(operation.error and operation.error.message) or "",
    )
