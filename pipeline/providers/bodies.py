"""What every dialect needs to read a response that may hold anything."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pipeline.errors import CallError, ErrorKind
from pipeline.records import HttpResponse

Body = TypeVar("Body")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(response: HttpResponse) -> Any:
    """Return the body as JSON. NaN, a byte order mark and duplicate keys pass, of which the last wins.

    Lone surrogates, which can only come from escapes, become U+FFFD.

    Raises:
        CallError: BAD_BODY for all else, nesting and integers beyond Python's own limits included.
    """
    try:
        text = response.body.decode("utf-8-sig")
        value = json.loads(text)
        if "\\ud" in text.lower():
            value = json.loads(without_surrogates(json.dumps(value, ensure_ascii=False)))
        return value
    except (ValueError, RecursionError) as error:
        raise bad_body(response, "is not JSON") from error


def read(response: HttpResponse, decoder: msgspec.json.Decoder[Body]) -> Body | None:
    """Return the body as *decoder* has it, None where it is JSON of another form.

    Raises:
        CallError: BAD_BODY where it is not JSON.
    """
    try:
        return decoder.decode(response.body)
    except (ValueError, RecursionError):
        value = parse(response)  # lone surrogates, NaN and huge numbers, which the decoder refuses
    try:
        return msgspec.convert(value, decoder.type)
    except msgspec.ValidationError:
        return None


def bad_body(response: HttpResponse, problem: str) -> CallError:
    """Return the error for a body that *problem*. It describes the body without quoting it."""
    kind = printable(response.headers.get("content-type", "no content type"), most=40)
    return CallError(
        ErrorKind.BAD_BODY,
        f"the body {problem} ({kind}, {len(response.body)} bytes)",
        status=response.status,
        maybe_paid=True,
    )


def without_surrogates(text: str) -> str:
    """Return *text* with U+FFFD for lone surrogates, which can be neither sent nor stored."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def encode_with_surrogates(value: Any) -> bytes:
    """Return *value* as JSON where the strict encoder refuses a lone surrogate."""
    return without_surrogates(json.dumps(value, ensure_ascii=False)).encode()


def printable(text: str, *, most: int) -> str:
    """Return at most *most* characters of *text*, white space in one line and control characters gone."""
    line = " ".join(text[: 4 * most].split())
    return "".join(letter for letter in line if letter.isprintable())[:most]


def limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tell of limits, lower case: `x-ratelimit-*`, `anthropic-ratelimit-*` and their kin."""
    # HTTP/1.1 leaves the case to the sender, and X-RateLimit-... is common.
    return {name.lower(): value for name, value in headers.items() if "ratelimit" in name.lower()}
