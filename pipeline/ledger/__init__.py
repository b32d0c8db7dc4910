"""The set of requests already asked and answered: dedup, resume and the cross-night cache in one SQLite file."""

from pipeline.ledger.attempts import Attempt, pack, unpack
from pipeline.ledger.lock import hold_lock
from pipeline.ledger.reading import (
    Done,
    Entry,
    Settled,
    all_answers,
    count_statuses,
    damaged_records,
    find_done,
    read_settled,
)
from pipeline.ledger.store import SCHEMA_VERSION, Run, connect, finish_run, last_runs, start_run
from pipeline.ledger.writing import Ledger, open_ledger

__all__ = [
    "SCHEMA_VERSION",
    "Attempt",
    "Done",
    "Entry",
    "Ledger",
    "Run",
    "Settled",
    "all_answers",
    "connect",
    "count_statuses",
    "damaged_records",
    "find_done",
    "finish_run",
    "hold_lock",
    "last_runs",
    "open_ledger",
    "pack",
    "read_settled",
    "start_run",
    "unpack",
]
