"""HTTP/1.1 as the chaos server speaks it: requests out of bytes, replies into bytes."""

import http
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

import msgspec

Headers = tuple[tuple[str, str], ...]

_MARK = re.compile(rb'mark=([^;"\\\s]{1,80});')
_MAX_HEAD_BYTES = 64 << 10
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus} | {529: "Overloaded"}


class BadRequestError(Exception):
    """Raised for bytes that are no request with a known length."""


class Request(NamedTuple):
    """A whole request; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """Return the key it was sent with, as a bearer token or in a header of its own."""
        for name in ("x-api-key", "api-key", "x-goog-api-key"):
            if name in self.headers:
                return self.headers[name]
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Ask(NamedTuple):
    """What a request asks for, as the rules see it."""

    n: int  # arrival number, from 1
    attempt: int  # how often this mark has been seen, from 1
    mark: str  # of the row; empty when the prompt holds none
    model: str
    key: str
    user: str  # text of the last message
    max_tokens: int  # of output, 0 when not given


class Reply(NamedTuple):
    """An HTTP reply with what a provider would know of it: the text the model said and the tokens it bills."""

    status: int
    body: bytes
    content_type: str = "application/json"
    text: str | None = None
    usage: tuple[int, int, int] | None = None  # input, cached input (part of it), output
    headers: Headers = ()


class _Message(msgspec.Struct):
    content: str | list[dict[str, object]] | None = None


class _ChatBody(msgspec.Struct):
    model: str = ""
    messages: list[_Message] = []
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decode_chat = msgspec.json.Decoder(_ChatBody).decode


def take_request(buffer: bytearray) -> Request | None:
    """Take one whole request off the front of *buffer*; None while it is not whole.

    Raises:
        BadRequestError: when the bytes can't become a request.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > _MAX_HEAD_BYTES:
            raise BadRequestError("no end of the headers")
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    words = first.split(" ")
    length = headers.get("content-length", "0")
    if len(words) != 3 or not length.isdecimal() or "transfer-encoding" in headers:
        raise BadRequestError(f"not a request with a length: {first[:80]!r}")
    stop = end + 4 + int(length)
    if len(buffer) < stop:
        return None
    body = bytes(buffer[end + 4 : stop])
    del buffer[:stop]
    return Request(words[0], words[1], headers, body)


def find_mark(body: bytes) -> str:
    """Return the first `mark=...;` of a prompt, empty where there is none."""
    found = _MARK.search(body)
    return found[1].decode("utf-8", "replace") if found else ""


def read_ask(request: Request, *, n: int, attempt: int, mark: str) -> Ask:
    """Return what *request* asks for.

    Raises:
        BadRequestError: when its body is no chat completion.
    """
    try:
        chat = _decode_chat(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"not a chat completion: {error}") from error
    content = chat.messages[-1].content if chat.messages else ""
    user = content if isinstance(content, str) else msgspec.json.encode(content).decode()
    limit = chat.max_completion_tokens or chat.max_tokens or 0
    return Ask(n, attempt, mark, chat.model, request.key, user, limit)


def render_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return status line and headers, with the blank line that ends them."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def http_date(at: float) -> str:
    """Return *at* (Unix seconds) as an HTTP-date."""
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
