"""The set of requests already asked and answered: dedup, resume and the cross-night cache in one SQLite file."""

from pipeline.ledger.attempts import Attempt, pack, unpack, usage_of
from pipeline.ledger.batches import Batch, BatchBook, BatchState, Member
from pipeline.ledger.lock import hold_lock
from pipeline.ledger.reading import (
    Done,
    Entry,
    Settled,
    all_answers,
    all_attempts,
    count_statuses,
    find_done,
    read_settled,
    used_since,
)
from pipeline.ledger.shards import merge_shards, remove_shard, settled_by, shard_lock, shard_path, shards_of
from pipeline.ledger.store import SCHEMA_VERSION, Run, connect, finish_run, last_runs, put_at_risk, start_run
from pipeline.ledger.upkeep import drop_answers, export, prune, stats, verify
from pipeline.ledger.writing import Ledger, open_ledger

__all__ = [
    "SCHEMA_VERSION",
    "Attempt",
    "Batch",
    "BatchBook",
    "BatchState",
    "Done",
    "Entry",
    "Ledger",
    "Member",
    "Run",
    "Settled",
    "all_answers",
    "all_attempts",
    "connect",
    "count_statuses",
    "drop_answers",
    "export",
    "find_done",
    "finish_run",
    "hold_lock",
    "last_runs",
    "merge_shards",
    "open_ledger",
    "pack",
    "prune",
    "put_at_risk",
    "read_settled",
    "remove_shard",
    "settled_by",
    "shard_lock",
    "shard_path",
    "shards_of",
    "start_run",
    "stats",
    "unpack",
    "usage_of",
    "used_since",
    "verify",
]
