"""The whole body of an answer, unpacked, and never more of it than may be kept."""

import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

from pipeline.errors import CallError, ErrorKind
from pipeline.records import HttpResponse

MAX_BODY_BYTES: Final = 16 << 20  # unpacked; a gzip bomb is cut off here
_TOO_LARGE: Final = f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB"
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})


async def whole(status: int, headers: Mapping[str, str], content: aiohttp.StreamReader) -> HttpResponse:
    """Return the answer with all of its body, unpacked.

    Raises:
        CallError: BAD_BODY when that is more than `MAX_BODY_BYTES`, or can't be unpacked.
    """
    body = await _read(content)
    if body and headers.get("Content-Encoding", "").lower() in _PACKED:
        body = _unpacked(body)
    return HttpResponse(status, headers, body)


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = await content.readany()
    if content.at_eof():
        return body
    parts, size = [body], len(body)
    while not content.at_eof():
        part = await content.readany()
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _bad_body(_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    try:
        plain = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise _bad_body("the answer can't be unpacked") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _bad_body(_TOO_LARGE)
    if not unpacker.eof or unpacker.unused_data:
        raise _bad_body("the answer can't be unpacked")
    return plain


def _bad_body(problem: str) -> CallError:
    return CallError(ErrorKind.BAD_BODY, problem, status=HTTPStatus.OK, maybe_paid=True)
