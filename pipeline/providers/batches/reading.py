"""What both batch dialects need to read a response that may hold anything."""

from typing import Any, TypeVar

import msgspec

from pipeline.providers import bodies, failures
from pipeline.records import HttpResponse

AnyShape = TypeVar("AnyShape")


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
