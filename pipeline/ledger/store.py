"""The SQLite file itself: its schema, opening it or refusing it, and the list of runs."""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import JobError

APPLICATION_ID = 0x726F7772  # "rowr"
SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE job (name TEXT NOT NULL);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, night INTEGER NOT NULL, started_at REAL NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL,
  at_risk INTEGER NOT NULL DEFAULT 0, finished_at REAL, exit_code INTEGER, summary TEXT
);
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY, request_id BLOB NOT NULL, row_id TEXT NOT NULL, night INTEGER NOT NULL, run INTEGER NOT NULL,
  attempt INTEGER NOT NULL, model TEXT NOT NULL, final INTEGER NOT NULL, status TEXT, reason TEXT,
  started_at REAL NOT NULL, latency_s REAL NOT NULL, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, cache_write_5m_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL, usage_status TEXT, cost_pusd INTEGER NOT NULL,
  total_cost_pusd INTEGER NOT NULL, provider_request_id TEXT NOT NULL, finish TEXT NOT NULL,
  http_status INTEGER NOT NULL, error_kind TEXT NOT NULL, error_code TEXT NOT NULL, model_echo TEXT NOT NULL,
  repeats INTEGER NOT NULL, batch TEXT NOT NULL, shared_by INTEGER NOT NULL, answer BLOB, packed INTEGER NOT NULL,
  check_crc INTEGER NOT NULL
);
CREATE TABLE batches (
  intent TEXT PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL, requests INTEGER NOT NULL, sha256 TEXT NOT NULL,
  worst_pusd INTEGER NOT NULL, deadline REAL, run INTEGER NOT NULL, begun_at REAL NOT NULL, asked_at REAL,
  file_id TEXT NOT NULL DEFAULT '', batch_id TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT ''
);
CREATE TABLE batch_requests (
  intent TEXT NOT NULL, line INTEGER NOT NULL, request_id BLOB NOT NULL, row_id TEXT NOT NULL, task TEXT NOT NULL,
  PRIMARY KEY (intent, line)
) WITHOUT ROWID;
"""


class Run(NamedTuple):
    """One invocation. A night is a chain of runs that ends with one that finished; the cost cap counts per night."""

    id: int
    night: int
    spent_pusd: int  # by earlier runs of the same night
    maybe_paid: int  # requests that may have been in flight when earlier runs of the same night were cut off


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a bad file or disk into a JobError that names the ledger."""
    try:
        yield
    except sqlite3.Error as error:
        hint = "No space left on the disk" if "disk is full" in str(error) else str(error)
        raise JobError(f"{path}: the ledger can't be used: {hint}") from error


def connect(path: Path, job_name: str | None = None) -> sqlite3.Connection:
    """Open the ledger at *path*, making it when it is not there and a *job_name* is given.

    Raises:
        JobError: when the file is no ledger, damaged, of another version, or of another job.
    """
    if job_name is None and not path.exists():
        raise JobError(f"{path}: there is no ledger")
    with reading(path):
        # Answers are private: nobody else may read the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            _check_or_create(connection, path, job_name)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_or_create(connection: sqlite3.Connection, path: Path, job_name: str | None) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and application == 0 and job_name is not None:
        connection.executescript(
            f"BEGIN;{_SCHEMA}PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={SCHEMA_VERSION};COMMIT;"
        )
        connection.execute("INSERT INTO job VALUES (?)", (job_name,))
        return
    if application != APPLICATION_ID:
        raise JobError(f"{path}: is not a rowroute ledger; move it away, or choose another output.path")
    if version != SCHEMA_VERSION:
        newer = "newer" if version > SCHEMA_VERSION else "older"
        raise JobError(
            f"{path}: was written by a {newer} rowroute (ledger version {version}, this one reads {SCHEMA_VERSION}); "
            "nothing was changed"
        )
    owner = connection.execute("SELECT name FROM job").fetchone()
    if owner is None:
        raise JobError(f"{path}: the ledger is damaged: it names no job; restore it from a copy or move it away")
    if job_name is not None and owner[0] != job_name:
        raise JobError(
            f"{path}: belongs to job {owner[0]!r}, not {job_name!r}; give this job an output.path of its own"
        )


def start_run(connection: sqlite3.Connection, *, new_night: bool = False) -> Run:
    """Note that a run begins; it continues the last night unless that one finished or *new_night* is asked for."""
    last = connection.execute("SELECT night, finished_at, exit_code FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    night, finished_at, exit_code = last or (0, time.time(), 0)
    if new_night or (finished_at is not None and exit_code in (0, 1)):
        night += 1
    sums = ("SELECT coalesce(sum(cost_pusd), 0) FROM attempts WHERE night = ?",
            "SELECT coalesce(sum(at_risk), 0) FROM runs WHERE night = ?")  # fmt: skip
    spent, maybe_paid = (connection.execute(query, (night,)).fetchone()[0] for query in sums)
    cursor = connection.execute(
        "INSERT INTO runs (night, started_at, pid, host) VALUES (?, ?, ?, ?)",
        (night, time.time(), os.getpid(), socket.gethostname()),
    )
    assert cursor.lastrowid is not None
    return Run(cursor.lastrowid, night, spent, maybe_paid)


def put_at_risk(connection: sqlite3.Connection, run: Run, requests: int) -> None:
    """Note how many requests *run* may have in flight at a time, or has left there: what a crash may cost at most."""
    connection.execute("UPDATE runs SET at_risk = ? WHERE id = ?", (requests, run.id))


def finish_run(connection: sqlite3.Connection, run: Run, exit_code: int, summary: dict[str, Any]) -> None:
    """Note how *run* ended."""
    connection.execute(
        "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE id = ?",
        (time.time(), exit_code, json.dumps(summary, default=str), run.id),
    )


def last_runs(connection: sqlite3.Connection, limit: int = 30) -> list[dict[str, Any]]:
    """Return the newest runs, newest first, with their summaries."""
    cursor = connection.execute("SELECT * FROM runs ORDER BY id DESC LIMIT ?", (limit,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
