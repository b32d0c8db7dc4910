"""What the ledger knows: which requests are settled and how, and the answers of those a batch of rows needs."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import JobError
from pipeline.identity import IdMap, Ids, Values, as_ids
from pipeline.ledger.attempts import COLUMNS, DROPPED, Attempt, unpack
from pipeline.ledger.store import reading
from pipeline.records import Status

_FETCH = 4096
_PACKED = COLUMNS.index("packed")
_STATUSES = tuple(Status)
_SELECT = f"SELECT id, {', '.join(COLUMNS)} FROM attempts"  # noqa: S608
_SELECT_THESE = f"{_SELECT} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608


class Entry(NamedTuple):
    """What earlier attempts at an unsettled request came to."""

    attempts: int
    cost_pusd: int


class Done(NamedTuple):
    """The settled requests, as `request_id -> record`, see `Settled`; and what unsettled ones have cost so far."""

    records: IdMap
    carried: dict[bytes, Entry]
    damaged: int  # records whose checksum is wrong: taken as never written


class Settled(NamedTuple):
    """Where the final attempts of requests stand: record number (-1: unsettled) and status of each."""

    record: Values
    status: Values

    @classmethod
    def of(cls, found: Values) -> "Settled":
        """Split the values of `Done.records`."""
        return cls(np.where(found < 0, -1, found >> 3), np.where(found < 0, -1, found & 7))


def record_value(number: int, status: Status) -> int:
    """Return the value that stands for a final attempt in `Done.records`."""
    return number << 3 | _STATUSES.index(status)


def count_statuses(found: Values) -> dict[str, int]:
    """Count values of `Done.records` by status."""
    codes, counts = np.unique(found & 7, return_counts=True)
    return {_STATUSES[code]: int(count) for code, count in zip(codes, counts, strict=True)}


def find_done(
    connection: sqlite3.Connection,
    path: Path,
    *,
    again: frozenset[Status] = frozenset(),
    kept: frozenset[bytes] = frozenset(),
) -> Done:
    """Read the whole ledger once.

    Requests that ended in one of the statuses *again* count as unsettled, their cost so far is carried on; so do those
    whose answer was dropped, unless they are among the *kept*, whose answers stand in the output.

    Raises:
        JobError: when the ledger can't be read, or its records are out of order, so that looking one up may miss it.
    """
    records, carried, damaged, last = IdMap(), dict[bytes, Entry](), 0, 0
    final: dict[bytes, int] = {}
    with reading(path):
        cursor = connection.execute(_SELECT + " ORDER BY id")
        while rows := cursor.fetchmany(_FETCH):
            for number, *values in rows:
                if number <= last:
                    raise JobError(f"{path}: the ledger is damaged: record {number} comes after {last}; restore it")
                last = number
                attempt = unpack(values)
                if attempt is None:
                    damaged += 1
                    continue
                lost = values[_PACKED] == DROPPED and attempt.request_id not in kept
                settled = attempt.final and not lost and attempt.status not in again
                _take(number, attempt, final, carried, settled=settled)
    if final:
        records.add(as_ids(b"".join(final)), np.fromiter(final.values(), dtype=np.int64, count=len(final)))
    return Done(records, carried, damaged)


def _take(
    number: int, attempt: Attempt, final: dict[bytes, int], carried: dict[bytes, Entry], *, settled: bool
) -> None:
    """Let one attempt, in order of writing, change what is known of its request."""
    request_id = attempt.request_id
    before = carried.pop(request_id, Entry(0, 0))
    if settled:
        final[request_id] = record_value(number, Status(attempt.status or ""))
        return
    final.pop(request_id, None)
    total = attempt.total_cost_pusd if attempt.final else before.cost_pusd + attempt.cost_pusd
    carried[request_id] = Entry(attempt.attempt if attempt.final else before.attempts + 1, total)


def used_since(connection: sqlite3.Connection, path: Path, since: float) -> dict[str, tuple[int, int]]:
    """Return for each model how many attempts were sent since *since* (Unix seconds), and their tokens."""
    with reading(path):
        found = connection.execute(
            "SELECT model, count(*), sum(input_tokens + output_tokens) FROM attempts "
            "WHERE started_at >= ? AND repeats = 0 GROUP BY model",
            (since,),
        )
        return {model: (requests, tokens) for model, requests, tokens in found}


def read_settled(
    connection: sqlite3.Connection, path: Path, wanted: Ids, records: Sequence[int]
) -> list[Attempt | None]:
    """Return the attempt at each record number, None where it is damaged or not of the *wanted* request."""
    found: dict[int, Attempt] = {}
    with reading(path):
        for number, *values in connection.execute(_SELECT_THESE, (json.dumps(sorted(set(records))),)):
            attempt = unpack(values)
            if attempt is not None:
                found[number] = attempt
    raw = wanted.astype(">u8").tobytes()
    result = []
    for position, number in enumerate(records):
        attempt = found.get(number)
        right = attempt is not None and attempt.request_id == raw[16 * position : 16 * position + 16]
        result.append(attempt if right else None)
    return result


def all_answers(connection: sqlite3.Connection, path: Path) -> Iterator[Attempt]:
    """Yield every undamaged attempt that has an answer, in order of writing."""
    return (attempt for attempt in all_attempts(connection, path) if attempt.answer is not None)


def all_attempts(connection: sqlite3.Connection, path: Path) -> Iterator[Attempt]:
    """Yield every undamaged attempt, in order of writing."""
    with reading(path):
        for _, *values in connection.execute(_SELECT + " ORDER BY id"):
            attempt = unpack(values)
            if attempt is not None:
                yield attempt
