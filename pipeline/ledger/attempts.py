"""One attempt at one request, and how it is laid down: compressed where it pays, with a checksum of every field."""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pipeline.records import Usage

_PACK_FROM_BYTES = 1024  # below, deflate saves less than it costs
_PLAIN, _DEFLATED, DROPPED = 0, 1, 2


class Attempt(NamedTuple):
    """A line of the ledger. `final` marks the attempt that settled its request; `total_*` count all up to it."""

    request_id: bytes
    row_id: str
    night: int
    run: int
    attempt: int  # 1 for the first
    model: str  # the one asked, which differs from the planned one after an escalation
    final: bool
    status: str | None  # of the request, on the final attempt
    reason: str | None
    started_at: float  # Unix seconds, UTC
    latency_s: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    usage_status: str | None
    cost_pusd: int
    total_cost_pusd: int
    provider_request_id: str
    finish: str
    http_status: int
    error_kind: str
    error_code: str
    model_echo: str
    repeats: int  # the attempt that this line states once more, after an escalation that came to nothing; 0: none
    batch: str  # the provider's name of the batch it was part of, at the batch price; empty: sent by itself
    shared_by: int  # requests that were sent as one and share its tokens and cost; 1: sent alone
    answer: str | None


def usage_of(attempt: Attempt) -> Usage:
    """Return the billed tokens of *attempt* in disjoint classes."""
    writes = (attempt.cache_write_5m_tokens, attempt.cache_write_1h_tokens)
    fresh = attempt.input_tokens - attempt.cached_tokens - sum(writes)
    return Usage(fresh, attempt.output_tokens, attempt.cached_tokens, *writes, attempt.reasoning_tokens)


# `packed` of a record: as it is, deflated, or taken out (the answer then stands in the output only).
COLUMNS = (*Attempt._fields, "packed", "check_crc")
_FINAL = Attempt._fields.index("final")  # SQLite has no booleans
_TEXT = Attempt._fields.index("answer")


def pack(attempt: Attempt, *, dropped: bool = False) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`; *dropped* says that there was an answer, which stands in the output only."""
    answer, packed = None, DROPPED if dropped else _PLAIN
    if attempt.answer is not None:
        answer = attempt.answer.encode("utf-8", "replace")
        if len(answer) >= _PACK_FROM_BYTES:
            answer, packed = zlib.compress(answer, 1), _DEFLATED
    # sqlite3 takes plain int and str at once, and asks a registry of adapters about anything else, bool included.
    values: list[Any] = [*attempt, packed]
    values[_FINAL], values[_TEXT] = int(attempt.final), answer
    values.append(_checksum(values))
    return tuple(values)


def unpack(values: Sequence[Any]) -> Attempt | None:
    """Return the attempt, or None when a field is not what was written."""
    *fields, check = values
    if _checksum(fields) != check:
        return None
    packed, answer = fields.pop(), fields[_TEXT]
    if answer is not None:
        fields[_TEXT] = (zlib.decompress(answer) if packed == _DEFLATED else answer).decode()
    fields[_FINAL] = bool(fields[_FINAL])
    return Attempt._make(fields)


def _checksum(values: list[Any]) -> int:
    # SQLite checks nothing in its main file: a flipped bit in an answer would go out as an answer.
    return zlib.crc32(msgspec.msgpack.encode(values))
