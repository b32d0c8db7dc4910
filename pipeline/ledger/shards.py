"""The ledgers of several processes become one: each writes a shard of its own beside the ledger."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.identity import IdMap, as_ids
from pipeline.ledger.attempts import COLUMNS
from pipeline.ledger.lock import hold_lock
from pipeline.ledger.reading import record_value
from pipeline.ledger.store import Run, connect, reading
from pipeline.records import Status

_NAMES = ", ".join(COLUMNS)


def shard_path(ledger: Path, number: int) -> Path:
    """Return where process *number* writes."""
    return ledger.with_name(f"{ledger.stem}-shard-{number}{ledger.suffix}")


def shard_lock(ledger: Path, number: int) -> Path:
    """Return the lock that process *number* holds while it writes."""
    return shard_path(ledger, number).with_suffix(".lock")


def shards_of(ledger: Path) -> Iterator[Path]:
    """Yield the shards that lie beside *ledger*: those of a run that goes on, or was killed."""
    yield from sorted(ledger.parent.glob(f"{ledger.stem}-shard-*{ledger.suffix}"))


def merge_shards(connection: sqlite3.Connection, ledger: Path) -> None:
    """Move what lies in shards into *ledger*, whatever became of those who wrote them. No record is taken twice.

    Raises:
        JobError: when a shard is damaged, naming it.
        LockedError: when who writes it still does.
    """
    for shard in shards_of(ledger):
        with hold_lock(shard.with_suffix(".lock")):
            connect(shard, _owner(connection)).close()  # looks it over, and brings back what its log holds
            with reading(shard):
                connection.execute("ATTACH ? AS shard", (str(shard),))
                try:
                    _take_over(connection)
                finally:
                    connection.execute("DETACH shard")
            remove_shard(shard)


def remove_shard(shard: Path) -> None:
    """Delete a shard with what belongs to it."""
    for part in (shard, *(shard.with_name(shard.name + ending) for ending in ("-wal", "-shm"))):
        part.unlink(missing_ok=True)
    shard.with_suffix(".lock").unlink(missing_ok=True)


def _owner(connection: sqlite3.Connection) -> str:
    name: str = connection.execute("SELECT name FROM job").fetchone()[0]
    return name


def _take_over(connection: sqlite3.Connection) -> None:
    """Copy a shard in one transaction; where its first record is there already, all of it was copied before a crash."""
    first = connection.execute(
        "SELECT run, request_id, attempt, started_at FROM shard.attempts ORDER BY id LIMIT 1"
    ).fetchone()
    copied = (
        first
        and connection.execute(
            "SELECT 1 FROM main.attempts WHERE run = ? AND request_id = ? AND attempt = ? AND started_at = ?", first
        ).fetchone()
    )
    if first and not copied:
        connection.execute(
            f"INSERT INTO main.attempts ({_NAMES}) SELECT {_NAMES} FROM shard.attempts ORDER BY id"  # noqa: S608
        )


def settled_by(connection: sqlite3.Connection, ledger: Path, run: Run, before: IdMap) -> IdMap:
    """Return the requests that *run* settled, and those settled *before* it, as `Ledger.settled` does."""
    with reading(ledger):
        found = connection.execute(
            "SELECT id, request_id, status FROM attempts WHERE run = ? AND final ORDER BY id DESC",
            (run.id,),
        ).fetchall()
    records = IdMap()  # the first value of an id stays, and the newest come first
    values = np.array([record_value(number, Status(status)) for number, _, status in found], dtype=np.int64)
    records.add(as_ids(b"".join(request_id for _, request_id, _ in found)), values)
    for ids, known in before.items():
        records.add(ids, known)
    return records
