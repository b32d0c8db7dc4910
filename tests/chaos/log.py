"""What the server saw and sent: a JSON line when a request has come, and one when its reply is over."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_encode = msgspec.json.Encoder().encode


class Arrival(msgspec.Struct, tag_field="event", tag="arrive", kw_only=True, frozen=True):
    """A whole request has come."""

    n: int  # number of the request, from 1
    t: float  # monotonic seconds
    at: float  # Unix seconds
    connection: int
    method: str
    path: str
    model: str = ""
    mark: str = ""  # of the row; empty when the prompt holds none
    attempt: int = 0  # how often this mark has been seen, from 1
    max_tokens: int = 0
    bytes: int = 0  # of the body
    key: str = ""  # a digest: the log may be shown around
    headers: dict[str, str] = {}  # those that tell something, none that holds a key


class Completion(msgspec.Struct, tag_field="event", tag="done", kw_only=True, frozen=True):
    """The reply to request *n* is over."""

    n: int
    t: float
    at: float
    status: int  # 0: no status line was sent
    rule: int  # of the script; -1: the default, -2: a bucket
    fault: str = "none"
    outcome: str = "whole"  # partial: by script; gone: the client left first; stopped: the server was stopped
    bytes: int = 0  # sent, headers included
    answer: str | None = None  # digest of what the model said
    usage: tuple[int, int, int] | None = None  # input, cached input (part of it) and output tokens to be billed


class Exchange(msgspec.Struct, frozen=True):
    """A request with what became of it."""

    arrival: Arrival
    completion: Completion | None


class Log:
    """Takes the lines, in memory or in a file; what is in the file does not depend on the life of any process."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []

    def write(self, line: Arrival | Completion) -> None:
        """Add a line; in a file it is there when this returns."""
        text = _encode(line) + b"\n"
        if self._descriptor is None:
            self._lines.append(text)
        else:
            os.write(self._descriptor, text)

    def exchanges(self) -> list[Exchange]:
        """Return every request so far, in order of arrival; of a log in memory."""
        return parse_log(self._lines)


@contextmanager
def open_log(path: Path | None) -> Iterator[Log]:
    """Open a log: in memory, or appended to the file at *path*."""
    if path is None:
        yield Log()
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield Log(descriptor)
    finally:
        os.close(descriptor)


def read_log(path: Path) -> list[Exchange]:
    """Return every request in the file at *path*, in order of arrival; a last line cut short is left out."""
    *lines, _ = path.read_bytes().split(b"\n")
    return parse_log(lines)


def parse_log(lines: Iterable[bytes]) -> list[Exchange]:
    """Return every request in *lines*, in order of arrival."""
    decode = msgspec.json.Decoder(Arrival | Completion).decode
    exchanges: list[Exchange] = []
    # A server started again on the same file counts from 1 again: a reply is for the last request of its number.
    last = dict[int, int]()
    for line in lines:
        entry: Arrival | Completion = decode(line)
        if isinstance(entry, Arrival):
            last[entry.n] = len(exchanges)
            exchanges.append(Exchange(entry, None))
        else:
            place = last[entry.n]
            exchanges[place] = Exchange(exchanges[place].arrival, entry)
    return exchanges


def digest(text: str) -> str:
    """Return the short digest by which the log names an answer or a key."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
