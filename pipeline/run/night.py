"""A night at its start: the job looked over, the lock held, and what earlier nights settled."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from pipeline.catalogue import Catalogue, load_catalogue
from pipeline.errors import JobError
from pipeline.identity import IdMap
from pipeline.ledger import Done, connect, find_done, hold_lock, merge_shards, remove_shard, shards_of
from pipeline.readers import Source, open_source
from pipeline.records import Status
from pipeline.run.fit import check_fit
from pipeline.run.options import RunOptions, load
from pipeline.spec import Job


class Night(NamedTuple):
    """What the stages of one run share."""

    job: Job
    options: RunOptions
    source: Source
    catalogue: Catalogue
    folder: Path
    done: Done
    kept: dict[str, str]  # answers that stand in the output only

    @property
    def state(self) -> Path:
        """Return the folder of ledger, plan and lock."""
        return self.folder / "state"

    @property
    def ledger_path(self) -> Path:
        """Return the ledger's file."""
        return self.state / "ledger.sqlite"


@contextmanager
def open_night(options: RunOptions, *, create: bool) -> Iterator[tuple[Night, sqlite3.Connection | None]]:
    """Look everything over before anything is spent; hold the lock until the end."""
    job = load(options)
    catalogue = load_catalogue(job)
    source = open_source(job.input)
    check_fit(job, source)
    folder = Path(job.output.path)
    state = folder / "state"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise JobError(f"output.path: {folder} can't be written: {error.strerror}") from error
    with hold_lock(state / "lock"):
        path = state / "ledger.sqlite"
        if not create and not path.exists():
            yield Night(job, options, source, catalogue, folder, Done(IdMap(), {}, 0), {}), None
            return
        if options.overwrite:
            path.unlink(missing_ok=True)
            for shard in shards_of(path):
                remove_shard(shard)
        elif (folder / "outputs.parquet").exists() and not (path.exists() and path.stat().st_size):
            raise JobError(
                f"{path}: is gone, but outputs.parquet is there: without its ledger every row would be paid for again; "
                "bring it back, or say --overwrite"
            )
        with closing(connect(path, job.name)) as connection:
            merge_shards(connection, path)
            kept = _kept_answers(folder, job.output.prefix) if options.ledger_text == "hash" else {}
            ids = frozenset(map(bytes.fromhex, kept))
            done = find_done(connection, path, again=_asked_again(options), kept=ids)
            yield Night(job, options, source, catalogue, folder, done, kept), connection


def _kept_answers(folder: Path, prefix: str) -> dict[str, str]:
    """Return hex request id -> answer from the last output, for a ledger that keeps no texts."""
    path = folder / "outputs.parquet"
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=[f"{prefix}request_id", f"{prefix}answer"])
    return {
        key: answer for key, answer in zip(*(column.to_pylist() for column in table.columns), strict=True) if answer
    }


def _asked_again(options: RunOptions) -> frozenset[Status]:
    if options.refresh:
        return frozenset(Status)
    return frozenset({Status.FAILED, Status.BLOCKED, Status.TRUNCATED}) if options.retry_failed else frozenset()
