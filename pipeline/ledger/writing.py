"""Appending: one writer thread, commits shared by everyone who waits."""

import asyncio
import queue
import sqlite3
import threading
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import numpy as np

from pipeline.errors import JobError
from pipeline.identity import IdMap, as_ids
from pipeline.ledger.attempts import COLUMNS, Attempt, pack
from pipeline.ledger.reading import record_value
from pipeline.ledger.store import Run, reading
from pipeline.records import Status

_COMMIT_AFTER_S = 0.01  # the promise is 20 ms; the commit itself takes some of it
_COMMIT_ROWS = 256
_INSERT = f"INSERT INTO attempts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


class _Commit:
    """Attempts that reach the disk together, and those who wait for them."""

    __slots__ = ("attempts", "waiting")

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.waiting: list[asyncio.Future[None]] = []

    def release(self) -> None:
        """Let go on who waits; one who was cancelled is gone."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)


class Ledger:
    """Appends attempts. Made by `open_ledger`, inside the event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, run: Run, nothing_comes: Callable[[], bool]) -> None:
        self.run = run
        self._nothing_comes = nothing_comes
        self._connection = connection
        self._path = path
        self._open = _Commit()
        self._handed = self._written = self._open  # the last commits that went to the writer, and through it
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._error: JobError | None = None
        self._loop = asyncio.get_running_loop()
        self._final_ids = bytearray()
        self._final_records = array("q")
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    async def append(self, attempt: Attempt) -> None:
        """Write *attempt*; it is on the disk when this returns.

        Raises:
            JobError: when the disk does not take it.
        """
        durable = self._loop.create_future()
        self._open.waiting.append(durable)
        self.note(attempt)
        await durable
        if self._error is not None:
            raise self._error

    def note(self, attempt: Attempt) -> None:
        """Write *attempt* with the next commit, without waiting for it."""
        if self._error is not None:
            raise self._error
        attempts = self._open.attempts
        attempts.append(attempt)
        if len(attempts) >= _COMMIT_ROWS or self._nothing_comes():
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_AFTER_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open.attempts:
            self._handed, self._open = self._open, _Commit()
            self._queue.put(self._handed)

    @property
    def is_idle(self) -> bool:
        """Tell whether all that was appended is on the disk."""
        return not self._open.attempts and self._written is self._handed

    async def close(self) -> None:
        """Write what is left and stop the writer."""
        self._flush()
        self._queue.put(None)
        await anyio.to_thread.run_sync(self._thread.join)
        if self._error is not None:
            raise self._error

    def settled(self, before: IdMap) -> IdMap:
        """Return the settled requests: those of this run, and those *before* it. Call it after the end."""
        records = IdMap()
        # The first value of an id stays, so the newest come first.
        newest = slice(None, None, -1)
        records.add(as_ids(bytes(self._final_ids))[newest], np.frombuffer(self._final_records, dtype=np.int64)[newest])
        for ids, values in before.items():
            records.add(ids, values)
        return records

    def _write(self) -> None:
        """Commit what comes until the end. After a failure write nothing more: a failed fsync can't be retried."""
        while (commit := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._commit(commit)
                except JobError as error:
                    self._error = error
            self._written = commit
            self._loop.call_soon_threadsafe(commit.release)

    def _commit(self, commit: _Commit) -> None:
        with reading(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(_INSERT, map(pack, commit.attempts))
                last = self._connection.execute("SELECT max(id) FROM attempts").fetchone()[0]
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        for number, attempt in enumerate(commit.attempts, start=last - len(commit.attempts) + 1):
            if attempt.final:
                self._final_ids += attempt.request_id
                self._final_records.append(record_value(number, Status(attempt.status or "")))


@asynccontextmanager
async def open_ledger(
    connection: sqlite3.Connection, path: Path, run: Run, *, nothing_comes: Callable[[], bool] = lambda: False
) -> AsyncIterator[Ledger]:
    """Write to the ledger for the length of *run*; all that was appended is on the disk when this ends.

    A commit waits for others to join it, unless *nothing_comes* says that nothing is under way that could.
    """
    ledger = Ledger(connection, path, run, nothing_comes)
    try:
        yield ledger
    finally:
        # A cancelled run must still wait for its last commit.
        with anyio.CancelScope(shield=True):
            await ledger.close()
