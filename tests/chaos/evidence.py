"""What runs left behind: server log, ledger, outputs, quarantine and summary, read for the checker."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import Parameters

from .ledger_rows import LedgerRows, read_ledger
from .log import Exchange, read_log
from .wire import find_mark

LEDGER: Final = "state/ledger.sqlite"
OUTPUTS: Final = "outputs.parquet"
QUARANTINE: Final = "quarantine.parquet"
SUMMARY: Final = "summary.json"
SPENT: Final = "spent_tonight_usd"  # in the summary, as a decimal in a string
STATUSES: Final = "statuses"


class Rate(NamedTuple):
    """A configured limit; the *models* share it, none named: all do."""

    requests_per_min: float
    tokens_per_min: float | None = None
    models: tuple[str, ...] = ()


class Price(NamedTuple):
    """USD per million tokens."""

    input: Decimal
    cached_input: Decimal
    output: Decimal

    def pusd(self, tokens: int, cached: int, output: int) -> Decimal:
        """Return the price in pico-USD of *tokens* of input, *cached* of them from a cache, and of *output* tokens."""
        # USD per million tokens are micro-USD a token, a million pico-USD.
        return (self.input * (tokens - cached) + self.cached_input * cached + self.output * output) * 10**6


class Snapshot(NamedTuple):
    """How things stood at one moment."""

    requests: int  # that the server had seen
    outputs_sha256: str | None  # None: no such file


class Sighting(NamedTuple):
    """One state in which the output file was seen."""

    sha256: str
    rows: int
    problem: str = ""  # why it is no whole Parquet file


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a test knows of the runs it made; all else is read from what they left behind."""

    input: Path
    id_column: str
    prompt_column: str
    output: Path  # the folder
    server_log: Path
    exit_code: int  # of the last run; negative: the signal that killed it
    concurrency: int
    kills: int = 0  # runs that were cut off, by SIGKILL or by a signal whose grace ran out
    max_attempts: int | None = None  # a request may take in one night, on all its models together
    tolerate: int = 0  # rows that may fail with exit code 0
    cap_usd: Decimal | None = None  # per night
    worst_request_usd: Decimal = Decimal(0)  # what one request may cost at most
    prices: Mapping[str, Price] = field(default_factory=dict)
    rates: Sequence[Rate] = ()
    parameters: Parameters | None = None  # of the job, to recompute request ids; None: they are taken as they are
    secrets: Sequence[str] = ()  # texts that no artefact may hold
    artefacts: Sequence[Path] = ()  # further files of the runs, such as their stderr
    before: Snapshot | None = None  # taken before the last run, which had nothing to ask
    sightings: Sequence[Sighting] = ()  # of outputs.parquet during the runs
    prefix: str = "llm_"


class Evidence:
    """Everything the checks look at."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.input = read_input(case.input)
        self.ids: list[str | None] = [_text(value) for value in self.input.column(case.id_column)]
        self.prompts: list[str | None] = [_text(value) for value in self.input.column(case.prompt_column)]
        self.exchanges: list[Exchange] = read_log(case.server_log) if case.server_log.exists() else []
        self.ledger: LedgerRows = read_ledger(case.output / LEDGER)
        self.outputs, self.outputs_problem = _read_table(case.output / OUTPUTS)
        self.quarantine, self.quarantine_problem = _read_table(case.output / QUARANTINE)
        summary = case.output / SUMMARY
        self.summary: dict[str, Any] | None = json.loads(summary.read_text()) if summary.exists() else None

    @cached_property
    def output_ids(self) -> list[str | None]:
        """Return the id of every output row, in order."""
        return [_text(value) for value in self.outputs.column(self.case.id_column)] if self.outputs else []

    @cached_property
    def marks(self) -> dict[str, str]:
        """Return the mark of each row that has one, by row id."""
        found = ((row_id, mark_of(prompt)) for row_id, prompt in zip(self.ids, self.prompts, strict=True))
        return {row_id: mark for row_id, mark in found if row_id is not None and mark}

    def answers(self, name: str) -> list[Any]:
        """Return an answer column of the outputs, named without its prefix."""
        return [] if self.outputs is None else self.outputs.column(self.case.prefix + name)

    @cached_property
    def statuses(self) -> list[str]:
        """Return what became of every output row."""
        return self.answers("status")


class Table:
    """Rows whose columns can be had as Python values."""

    def __init__(self, source: "pa.Table | Sequence[Mapping[str, Any]]") -> None:
        self.arrow: pa.Table | None = source if isinstance(source, pa.Table) else None
        self._rows = source

    def column(self, name: str) -> list[Any]:
        """Return a column; None for every row when there is none of that *name*."""
        if self.arrow is None:
            return [row.get(name) for row in self._rows]
        if name not in self.arrow.column_names:
            return [None] * self.arrow.num_rows
        values: list[Any] = self.arrow[name].to_pylist()
        return values


def mark_of(text: str | None) -> str:
    """Return the first `mark=...;` in *text*, empty where there is none."""
    return find_mark((text or "").encode("utf-8", "replace"))


def snapshot(case: Case) -> Snapshot:
    """Return how things stand, to be held against how they stand after another run."""
    requests = len(read_log(case.server_log)) if case.server_log.exists() else 0
    outputs = case.output / OUTPUTS
    return Snapshot(requests, hashlib.sha256(outputs.read_bytes()).hexdigest() if outputs.exists() else None)


def read_input(path: Path) -> Table:
    """Read a Parquet, CSV or JSON lines file; the texts of a CSV file stay texts."""
    match path.suffix:
        case ".parquet":
            return Table(pq.read_table(path))
        case ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return Table(list(csv.DictReader(file)))
        case _:
            return Table([_json_line(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()])


def _json_line(line: str) -> dict[str, Any]:
    """Return the row, an empty one for a line that is none: it has its place in the output all the same."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _read_table(path: Path) -> tuple[Table | None, str]:
    """Return the Parquet file at *path* and what is wrong with it."""
    if not path.exists():
        return None, "there is none"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return Table(file.read()), ""
    except (OSError, pa.ArrowException) as error:
        return None, f"can't be read: {error}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
