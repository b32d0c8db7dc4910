"""Looking after a ledger: what is in it, is it sound, and what can go."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import whole_file
from pipeline.identity import IdMap, as_ids
from pipeline.ledger.attempts import COLUMNS, Attempt, pack, unpack
from pipeline.ledger.store import reading

_SELECT = f"SELECT id, {', '.join(COLUMNS)} FROM attempts"  # noqa: S608
_REPLACE = f"UPDATE attempts SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE id = ?"  # noqa: S608
_BATCH = 4096
_STATS = """
SELECT model, coalesce(status, 'not final') AS status, sum(repeats = 0) AS attempts, sum(cost_pusd) AS cost_pusd,
       sum(input_tokens * (repeats = 0)) AS input_tokens, sum(output_tokens * (repeats = 0)) AS output_tokens
FROM attempts GROUP BY 1, 2 ORDER BY 1, 2
"""
_ARROW = {
    bytes: pa.binary(16),
    str: pa.string(),
    str | None: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
EXPORT_SCHEMA = pa.schema([pa.field(name, _ARROW[kind]) for name, kind in Attempt.__annotations__.items()])


def stats(connection: sqlite3.Connection, path: Path) -> list[dict[str, Any]]:
    """Return attempts, tokens and cost by model and status."""
    with reading(path):
        cursor = connection.execute(_STATS)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def verify(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return everything wrong with the file and its records, each a sentence."""
    with reading(path):
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        problems += [
            f"record {number} is not what was written" for number, attempt in _all(connection) if attempt is None
        ]
    return problems


def export(connection: sqlite3.Connection, path: Path, target: Path) -> int:
    """Write every undamaged attempt to a Parquet file with the fields of `Attempt`; return how many."""
    rows = 0
    with (
        whole_file(target) as partial,
        reading(path),
        pq.ParquetWriter(partial, EXPORT_SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        batch: list[dict[str, Any]] = []
        for _, attempt in _all(connection):
            if attempt is not None:
                batch.append(attempt._asdict())
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=EXPORT_SCHEMA))
                rows, batch = rows + len(batch), []
        writer.write_table(pa.Table.from_pylist(batch, schema=EXPORT_SCHEMA))
        return rows + len(batch)


def prune(connection: sqlite3.Connection, path: Path, used: IdMap, *, keep_nights: int) -> int:
    """Delete the attempts at requests that are not *used* any more and older than *keep_nights*; return how many."""
    with reading(path):
        (newest,) = connection.execute("SELECT coalesce(max(night), 0) FROM runs").fetchone()
        old = connection.execute(
            "SELECT id, request_id FROM attempts WHERE night <= ?", (newest - keep_nights,)
        ).fetchall()
        unused = used.find(as_ids(b"".join(request_id for _, request_id in old))) < 0
        gone = [(number,) for (number, _), is_unused in zip(old, unused.tolist(), strict=True) if is_unused]
        _change(connection, "DELETE FROM attempts WHERE id = ?", gone)
    return len(gone)


def drop_answers(connection: sqlite3.Connection, path: Path) -> None:
    """Take the text of every answer out of the file, its free pages included.

    What models of a cascade have said stays until their request is settled, as it is to be compared with others.
    """
    with reading(path):
        settled = {attempt.request_id for _, attempt in _all(connection) if attempt is not None and attempt.final}
        changes = [
            (*pack(attempt._replace(answer=None), dropped=True), number)
            for number, attempt in _all(connection)
            if attempt is not None
            and attempt.answer is not None
            and not (attempt.is_heard and attempt.request_id not in settled)
        ]
        _change(connection, _REPLACE, changes)


def _change(connection: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(statement, rows)
    connection.execute("COMMIT")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _all(connection: sqlite3.Connection) -> Iterator[tuple[int, Attempt | None]]:
    for number, *values in connection.execute(f"{_SELECT} ORDER BY id"):
        yield number, unpack(values)
