"""What several batch dialects have in common: forms to upload, and responses that may hold anything."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from pipeline.providers import bodies, failures
from pipeline.providers.batches import Envelope, Line
from pipeline.records import HttpResponse

MARK = "rowroute_intent"  # key of the metadata, where a batch has any: OpenAI takes 16 keys of 64 characters
_BOUNDARY = "rowroute-7f3a1c5e9b2d4860"  # can't be in the entries, which have no line breaks of their own

AnyShape = TypeVar("AnyShape")


class File(msgspec.Struct):
    """An uploaded file, at OpenAI's and Mistral's."""

    id: str


def read_as(response: HttpResponse, shape: type[AnyShape]) -> AnyShape:
    """Return the body as *shape*.

    Raises:
        CallError: for an error status, and for a body that is anything else.
    """
    if not 200 <= response.status < 300:
        raise failures.call_error(response)
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (ValueError, RecursionError) as error:
        raise bodies.bad_body(response, "is not what a batch API says") from error


def read_json_line(line: bytes) -> dict[str, Any] | None:
    """Return a line of results as a mapping, None where it is none."""
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def form_of(file_name: str) -> Envelope:
    """Return the form by which OpenAI and Mistral take a file of lines for a batch."""
    purpose = 'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch'
    file = f'Content-Disposition: form-data; name="file"; filename="{file_name}"\r\nContent-Type: application/jsonl'
    return parts_of("/files", "form-data", purpose, file)


def parts_of(path: str, kind: str, first: str, file: str) -> Envelope:
    """Return an envelope of two parts: the *first* one as it is, and the entries under the headers *file*."""
    return Envelope(
        path=path,
        headers={"content-type": f"multipart/{kind}; boundary={_BOUNDARY}"},
        head=f"--{_BOUNDARY}\r\n{first}\r\n--{_BOUNDARY}\r\n{file}\r\n\r\n".encode(),
        separator=b"\n",
        tail=f"\r\n--{_BOUNDARY}--\r\n".encode(),
    )


def read_response_line(line: bytes) -> Line | None:
    """Return the response in a line of OpenAI's or Mistral's; a status of 0 or null is none."""
    found = read_json_line(line)
    if found is None or not isinstance(found.get("custom_id"), str):
        return None
    custom_id, response, error = found["custom_id"], found.get("response"), found.get("error")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int) and response["status_code"]:
        headers = {"x-request-id": str(response.get("request_id") or "")}
        return Line(
            custom_id, HttpResponse(response["status_code"], headers, msgspec.json.encode(response.get("body")))
        )
    code = error.get("code") or error.get("message") if isinstance(error, dict) else None
    return Line(custom_id, None, str(code or "no response"))


def seconds_of(time: str | None) -> float:
    """Return an ISO 8601 time as Unix seconds, 0 where it is none."""
    try:
        return datetime.fromisoformat((time or "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
