"""How a reply goes over the wire: as it should, or broken in one of the ways providers and their proxies break it."""

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from .wire import Headers, render_head

_PIECE_BYTES: Final = 256 << 10
_SETTLE_S: Final = 0.02  # a reset discards what the other side has not read yet: let it read first


class Fault(StrEnum):
    """How a reply goes over the wire; `NONE` is the way it should."""

    NONE = "none"
    RESET = "reset"  # RST before any byte
    CLOSE = "close"  # FIN before any byte
    HANG = "hang"  # no byte, ever
    CUT_HEAD = "cut_head"  # half of the headers, then FIN
    HANG_HEAD = "hang_head"  # half of the headers, then silence
    SLOW_HEAD = "slow_head"  # a byte of the headers every step_s
    BAD_STATUS_LINE = "bad_status_line"
    LONG_HEADER = "long_header"  # a header line of 32 KB
    RESET_BODY = "reset_body"  # half of the body, then RST
    CUT_BODY = "cut_body"  # half of the body, then FIN
    CUT_CHUNK = "cut_chunk"  # FIN inside the second chunk
    HANG_BODY = "hang_body"  # half of the body, then silence
    SLOW_BODY = "slow_body"  # a byte of the body every step_s
    KEEP_ALIVE = "keep_alive"  # a blank line every step_s for duration_s, then the body: DeepSeek under load
    EXTRA_BYTES = "extra_bytes"  # more bytes than Content-Length says
    CHUNKED = "chunked"  # good: in three chunks
    NO_LENGTH = "no_length"  # good: ended by closing the connection
    GZIP = "gzip"  # good: compressed
    BAD_GZIP = "bad_gzip"  # said to be gzip, but is not
    UNKNOWN_ENCODING = "unknown_encoding"  # a Content-Encoding nobody knows


class Outgoing(NamedTuple):
    """A reply on its way. The headers have no length yet."""

    status: int
    headers: Headers
    body: bytes
    step_s: float = 0.0
    duration_s: float = 0.0

    def head(self, *more: tuple[str, str]) -> bytes:
        """Return the head with *more* headers."""
        return render_head(self.status, (*self.headers, *more))

    def plain_head(self) -> bytes:
        """Return the head with the length of the body."""
        return self.head(("content-length", str(len(self.body))))


class Wire:
    """The sending side of a connection; it counts what was sent."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable = asyncio.Event()
        self._writable.set()
        self.sent_bytes = 0
        self.status = 0

    def write(self, data: bytes) -> None:
        """Send *data* without waiting."""
        self.sent_bytes += len(data)
        self._transport.write(data)

    async def send(self, data: bytes, *, status: int = 0) -> None:
        """Send *data*, no faster than the other side reads; *status* says that its line is now out."""
        self.status = status or self.status
        for start in range(0, len(data), _PIECE_BYTES):
            self.write(data[start : start + _PIECE_BYTES])
            await self._writable.wait()

    async def drip(self, data: bytes, step_s: float) -> None:
        """Send *data* byte by byte."""
        for place in range(len(data)):
            self.write(data[place : place + 1])
            await asyncio.sleep(step_s)

    def pause(self) -> None:
        """Hold `send` back."""
        self._writable.clear()

    def resume(self) -> None:
        """Let `send` go on."""
        self._writable.set()

    def close(self) -> None:
        """End the connection after what was sent."""
        self._transport.close()

    async def reset(self) -> None:
        """End the connection by RST."""
        if self.sent_bytes:
            await asyncio.sleep(_SETTLE_S)
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


Act = Callable[[Wire, Outgoing], Awaitable[None]]


async def _plain(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.plain_head() + out.body, status=out.status)


async def _silence() -> None:
    await asyncio.Event().wait()  # until the client leaves or the server stops


async def _reset(wire: Wire, out: Outgoing) -> None:
    await wire.reset()


async def _close(wire: Wire, out: Outgoing) -> None:
    wire.close()


async def _hang(wire: Wire, out: Outgoing) -> None:
    await _silence()


async def _half_head(wire: Wire, out: Outgoing) -> None:
    head = out.plain_head()
    await wire.send(head[: len(head) // 2])


async def _cut_head(wire: Wire, out: Outgoing) -> None:
    await _half_head(wire, out)
    wire.close()


async def _hang_head(wire: Wire, out: Outgoing) -> None:
    await _half_head(wire, out)
    await _silence()


async def _slow_head(wire: Wire, out: Outgoing) -> None:
    await wire.drip(out.plain_head(), out.step_s)
    await wire.send(out.body, status=out.status)


async def _bad_status_line(wire: Wire, out: Outgoing) -> None:
    await wire.send(b"HTTP/one banana\r\n\r\n" + out.body)
    wire.close()


async def _long_header(wire: Wire, out: Outgoing) -> None:
    out = out._replace(headers=(*out.headers, ("x-long", "x" * (32 << 10))))
    await _plain(wire, out)


async def _half_body(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.plain_head() + out.body[: len(out.body) // 2], status=out.status)


async def _reset_body(wire: Wire, out: Outgoing) -> None:
    await _half_body(wire, out)
    await wire.reset()


async def _cut_body(wire: Wire, out: Outgoing) -> None:
    await _half_body(wire, out)
    wire.close()


async def _hang_body(wire: Wire, out: Outgoing) -> None:
    await _half_body(wire, out)
    await _silence()


async def _slow_body(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.plain_head(), status=out.status)
    await wire.drip(out.body, out.step_s)


def _chunks(out: Outgoing) -> list[bytes]:
    third = len(out.body) // 3
    parts = (out.body[:third], out.body[third : 2 * third], out.body[2 * third :])
    return [_chunk(part) for part in parts if part]


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part)


_CHUNKED: Final = ("transfer-encoding", "chunked")
_END: Final = b"0\r\n\r\n"


async def _chunked(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.head(_CHUNKED), status=out.status)
    for chunk in _chunks(out):
        await wire.send(chunk)
        await asyncio.sleep(out.step_s)
    await wire.send(_END)


async def _cut_chunk(wire: Wire, out: Outgoing) -> None:
    first, second, *_ = _chunks(out)
    await wire.send(out.head(_CHUNKED) + first + second[: len(second) // 2], status=out.status)
    wire.close()


async def _keep_alive(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.head(_CHUNKED), status=out.status)
    for _ in range(max(1, round(out.duration_s / out.step_s))):
        await wire.send(_chunk(b"\n"))
        await asyncio.sleep(out.step_s)
    await wire.send(_chunk(out.body) + _END)


async def _extra_bytes(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.plain_head() + out.body + b"\r\nleft over", status=out.status)
    wire.close()


async def _no_length(wire: Wire, out: Outgoing) -> None:
    await wire.send(out.head(("connection", "close")) + out.body, status=out.status)
    wire.close()


def _encoded(name: str, encode: Callable[[bytes], bytes]) -> Act:
    async def act(wire: Wire, out: Outgoing) -> None:
        await _plain(wire, out._replace(headers=(*out.headers, ("content-encoding", name)), body=encode(out.body)))

    return act


_ACTS: Final[Mapping[Fault, Act]] = {
    Fault.NONE: _plain,
    Fault.RESET: _reset,
    Fault.CLOSE: _close,
    Fault.HANG: _hang,
    Fault.CUT_HEAD: _cut_head,
    Fault.HANG_HEAD: _hang_head,
    Fault.SLOW_HEAD: _slow_head,
    Fault.BAD_STATUS_LINE: _bad_status_line,
    Fault.LONG_HEADER: _long_header,
    Fault.RESET_BODY: _reset_body,
    Fault.CUT_BODY: _cut_body,
    Fault.CUT_CHUNK: _cut_chunk,
    Fault.HANG_BODY: _hang_body,
    Fault.SLOW_BODY: _slow_body,
    Fault.KEEP_ALIVE: _keep_alive,
    Fault.EXTRA_BYTES: _extra_bytes,
    Fault.CHUNKED: _chunked,
    Fault.NO_LENGTH: _no_length,
    Fault.GZIP: _encoded("gzip", gzip.compress),
    Fault.BAD_GZIP: _encoded("gzip", lambda body: b"\x1f\x8bnot gzip" + body),
    Fault.UNKNOWN_ENCODING: _encoded("x-banana", lambda body: body),
}

WHOLE: Final = frozenset(
    {
        Fault.NONE, Fault.SLOW_HEAD, Fault.SLOW_BODY, Fault.KEEP_ALIVE, Fault.CHUNKED, Fault.NO_LENGTH, Fault.GZIP,
        Fault.EXTRA_BYTES, Fault.LONG_HEADER, Fault.BAD_GZIP, Fault.UNKNOWN_ENCODING,
    }
)  # fmt: skip
"""After these every byte of the reply was sent."""


async def perform(fault: Fault, wire: Wire, out: Outgoing) -> None:
    """Put *out* on the wire in the way of *fault*."""
    await _ACTS[fault](wire, out)
