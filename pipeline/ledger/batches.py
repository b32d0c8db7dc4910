"""Batches in the ledger: on the disk before anything is sent, so that no crash makes two of one."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pipeline.ledger.store import reading


class BatchState(StrEnum):
    """How far a batch has come; each state is on the disk before what follows it is done."""

    INTENT = "intent"  # the entries are written and listed; nothing was sent
    UPLOADED = "uploaded"  # the provider has the file
    ASKED = "asked"  # the batch was asked for: it may be there, whatever we heard
    CREATED = "created"  # it is there, and its id is known
    COLLECTED = "collected"  # every answer is in the ledger
    VOID = "void"  # it never was, or there are no answers to be had: its requests are free
    DELETED = "deleted"  # collected or void, and the provider has nothing of it any more


_OPEN = (BatchState.INTENT, BatchState.UPLOADED, BatchState.ASKED, BatchState.CREATED)


class Batch(NamedTuple):
    """A batch that was begun. Times are Unix seconds; `worst_pusd` is the most that it may cost."""

    intent: str
    model: str
    state: BatchState
    requests: int
    sha256: str  # of the entries
    worst_pusd: int
    deadline: float | None
    run: int
    begun_at: float
    asked_at: float | None = None
    file_id: str = ""
    batch_id: str = ""
    note: str = ""


class Member(NamedTuple):
    """One request of a batch, in the order of its entries."""

    request_id: bytes
    row_id: str
    task: str


class BatchBook:
    """The batches of a job. Each method is durable when it returns. Has a connection of its own."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def begin(self, batch: Batch, members: Iterable[Member]) -> None:
        """Note a batch that is meant to be sent, with its requests."""
        lines = ((batch.intent, line, *member) for line, member in enumerate(members))
        with reading(self._path), self._connection:  # which commits, or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(_INSERT, batch)
            self._connection.executemany("INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?)", lines)

    def move(self, batch: Batch, state: BatchState, *, file_id: str = "", batch_id: str = "", note: str = "") -> Batch:
        """Note a new state of *batch*, and return it; an id that is not given stays."""
        moved = batch._replace(
            state=state,
            asked_at=time.time() if state is BatchState.ASKED else batch.asked_at,
            file_id=file_id or batch.file_id,
            batch_id=batch_id or batch.batch_id,
            note=note or batch.note,
        )
        with reading(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "UPDATE batches SET state = ?, asked_at = ?, file_id = ?, batch_id = ?, note = ? WHERE intent = ?",
                (moved.state.value, moved.asked_at, moved.file_id, moved.batch_id, moved.note, moved.intent),
            )
            if state not in _OPEN:  # nobody asks again which requests were in it
                self._connection.execute("DELETE FROM batch_requests WHERE intent = ?", (moved.intent,))
        return moved

    def open_batches(self) -> list[Batch]:
        """Return the batches whose answers are still to come, the oldest first."""
        return self._in(_OPEN)

    def _in(self, states: Sequence[BatchState]) -> list[Batch]:
        marks = ", ".join("?" * len(states))
        query = f"SELECT {', '.join(Batch._fields)} FROM batches WHERE state IN ({marks}) ORDER BY begun_at, intent"  # noqa: S608
        with reading(self._path):
            rows = self._connection.execute(query, [state.value for state in states]).fetchall()
        return [Batch(*row)._replace(state=BatchState(row[2])) for row in rows]

    def left_over(self) -> list[Batch]:
        """Return the batches that are done with, and of which the provider may still have something."""
        return [batch for batch in self._in((BatchState.COLLECTED, BatchState.VOID)) if batch.file_id or batch.batch_id]

    def known_ids(self) -> frozenset[str]:
        """Return the provider's ids of all batches that there ever were."""
        with reading(self._path):
            return frozenset(name for (name,) in self._connection.execute("SELECT batch_id FROM batches") if name)

    def members(self, batch: Batch) -> list[Member]:
        """Return the requests of *batch* in order."""
        query = "SELECT request_id, row_id, task FROM batch_requests WHERE intent = ? ORDER BY line"
        with reading(self._path):
            return list(map(Member._make, self._connection.execute(query, (batch.intent,))))

    def taken(self, batch: Batch) -> set[bytes]:
        """Return the requests whose answer from *batch* is in the ledger already."""
        with reading(self._path):
            found = self._connection.execute("SELECT request_id FROM attempts WHERE batch = ?", (batch.batch_id,))
            return {request_id for (request_id,) in found}


_INSERT = f"INSERT INTO batches ({', '.join(Batch._fields)}) VALUES ({', '.join('?' * len(Batch._fields))})"  # noqa: S608
