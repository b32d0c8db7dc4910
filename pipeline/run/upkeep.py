"""`rowroute ledger`: the ledger of an output folder, held by its lock while it is looked at or changed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import ledger
from pipeline.errors import JobError
from pipeline.identity import IdMap, as_ids
from pipeline.plan import read_rows


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    path = folder / "state" / "ledger.sqlite"
    if not path.exists():
        raise JobError(f"{path}: there is no ledger; name the folder of a job's output.path")
    with ledger.hold_lock(folder / "state" / "lock"), closing(ledger.connect(path)) as connection:
        yield connection, path


def ledger_stats(folder: Path) -> list[dict[str, Any]]:
    """Return attempts, tokens and cost by model and status."""
    with _opened(folder) as (connection, path):
        return ledger.stats(connection, path)


def verify_ledger(folder: Path) -> list[str]:
    """Return everything wrong with the ledger."""
    with _opened(folder) as (connection, path):
        return ledger.verify(connection, path)


def export_ledger(folder: Path, target: Path) -> int:
    """Write the attempts to a Parquet file; return how many."""
    with _opened(folder) as (connection, path):
        return ledger.export(connection, path, target)


def prune_ledger(folder: Path, keep_nights: int) -> int:
    """Delete old attempts at requests that the last plan did not use; return how many."""
    rows = folder / "state" / "plan" / "rows.parquet"
    if not rows.exists():
        raise JobError(f"{rows}: there is no plan to tell what is still used; run `rowroute plan` first")
    with _opened(folder) as (connection, path):
        used = IdMap()
        for part in (rows, *(folder / "state").glob("shadow-*/rows.parquet")):
            for batch in read_rows(part):
                _use(used, batch["request_id"])
        cases = folder / "state" / "judge" / "cases.parquet"
        if cases.exists():
            _use(used, pq.read_table(cases, columns=["request_id"])["request_id"])
        return ledger.prune(connection, path, used, keep_nights=keep_nights)


def _use(used: IdMap, requests: pa.Array | pa.ChunkedArray) -> None:
    ids = as_ids(b"".join(requests.drop_null().to_pylist()))
    used.add(ids, ids[:, 0].astype("int64") * 0)
