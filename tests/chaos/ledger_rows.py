"""The ledger as the checker reads it: by itself, so that a fault in the ledger's own reader can't hide a fault."""

import contextlib
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_DEFLATED: Final = 1
_COLUMNS: Final = (
    "id, request_id, row_id, night, run, attempt, model, final, status, reason, started_at, latency_s, input_tokens, "
    "cached_tokens, output_tokens, reasoning_tokens, usage_status, cost_pusd, http_status, error_kind, model_echo, "
    "repeats, answer, packed"
)


class Attempt(NamedTuple):
    """A line of the ledger; texts are decoded, the request id is hex."""

    id: int
    request_id: str
    row_id: str
    night: int
    run: int
    attempt: int
    model: str
    final: bool
    status: str | None
    reason: str | None
    started_at: float
    latency_s: float
    input_tokens: int  # cached ones included
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_status: str | None
    cost_pusd: int
    http_status: int
    error_kind: str
    model_echo: str
    repeats: int  # the attempt that this line states once more; 0: none
    answer: str | None


class LedgerRows(NamedTuple):
    """Every attempt in order of writing, and when each run began (Unix seconds)."""

    attempts: tuple[Attempt, ...] = ()
    run_starts: Mapping[int, float] = MappingProxyType({})

    @property
    def sent(self) -> list[Attempt]:
        """Return the lines that stand for a request, without those that only state one once more."""
        return [attempt for attempt in self.attempts if not attempt.repeats]


def read_ledger(path: Path) -> LedgerRows:
    """Read the ledger at *path*, which stays as it is; no file: no rows."""
    if not path.exists():
        return LedgerRows()
    with open_copy(path) as connection:
        attempts = connection.execute(f"SELECT {_COLUMNS} FROM attempts ORDER BY id").fetchall()
        starts = connection.execute("SELECT id, started_at FROM runs ORDER BY id").fetchall()
    return LedgerRows(tuple(map(_attempt, attempts)), dict(starts))


@contextlib.contextmanager
def open_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a database: a reader that closes last would fold the write-ahead log into the file."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            yield connection


def _attempt(values: tuple[Any, ...]) -> Attempt:
    number, request_id, *fields, answer, packed = values
    if answer is not None:
        answer = (zlib.decompress(answer) if packed == _DEFLATED else answer).decode("utf-8", "replace")
    attempt = Attempt._make((number, request_id.hex(), *fields, answer))
    return attempt._replace(final=bool(attempt.final))
