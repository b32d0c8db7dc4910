"""The write pass: the input once more, in order, each row once, with what became of it beside it."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import bill
from pipeline.columns import AnswerColumn, answer_columns, read_columns
from pipeline.errors import JobError
from pipeline.files import whole_file
from pipeline.identity import IdMap, as_ids
from pipeline.ledger import Attempt, Settled, read_settled, usage_of
from pipeline.plan import Plan, read_rows, select_rows
from pipeline.readers import Source
from pipeline.records import Price, Status

MONEY = pa.decimal128(18, 12)
ANSWER_FIELDS = (
    pa.field("answer", pa.string()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("reason", pa.string()),  # why the row is not ok, or what is weak about its answer
    pa.field("task", pa.string()),
    pa.field("difficulty", pa.string()),
    pa.field("model", pa.string()),  # the one that answered, or is to answer
    pa.field("route", pa.string()),  # why this model
    pa.field("input_tokens", pa.int64()),  # all of them, cached ones too
    pa.field("cached_input_tokens", pa.int64()),
    pa.field("output_tokens", pa.int64()),
    pa.field("reasoning_tokens", pa.int64()),  # part of output_tokens
    pa.field("usage", pa.string()),  # measured, missing or invalid
    pa.field("cost_usd", MONEY),  # every attempt; on the first of the rows that share a request, 0 on the others
    pa.field("baseline_model", pa.string()),
    pa.field("baseline_cost_usd", MONEY),  # the same tokens at the baseline's price
    pa.field("latency_s", pa.float64()),
    pa.field("attempts", pa.int32()),
    pa.field("request_id", pa.string()),
)
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # number in the output, from 0
        pa.field("row_id", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
        pa.field("model", pa.string()),
        pa.field("request_id", pa.string()),
    ]
)


class Answers(NamedTuple):
    """Where the answers are: the ledger, and its map of settled requests."""

    connection: sqlite3.Connection
    path: Path
    records: IdMap
    kept: Mapping[str, str] = {}  # hex request id -> answer, where the ledger keeps no texts

    def settled(self, request_ids: Sequence[bytes | None]) -> list[Attempt | None]:
        """Return the final attempt at each request, with its answer; None where it is not settled, or there is none."""
        asked = [(place, request_id) for place, request_id in enumerate(request_ids) if request_id is not None]
        ids = as_ids(b"".join(request_id for _, request_id in asked))
        records = Settled.of(self.records.find(ids)).record.tolist()
        attempts: list[Attempt | None] = [None] * len(request_ids)
        found = read_settled(self.connection, self.path, ids, records)
        for (place, _), attempt in zip(asked, found, strict=True):
            attempts[place] = attempt and self._complete(attempt)
        return attempts

    def _complete(self, attempt: Attempt) -> Attempt:
        """Return *attempt* with its answer, which may stand in the last output only."""
        if attempt.answer is not None or attempt.error_kind or not self.kept:
            return attempt
        return attempt._replace(answer=self.kept.get(attempt.request_id.hex()))


class Written(NamedTuple):
    """What stands in the output now."""

    rows: int
    statuses: dict[Status, int]


def answer_schema(prefix: str) -> list[pa.Field]:
    """Return the columns that every output adds to its input."""
    return [field.with_name(prefix + field.name) for field in ANSWER_FIELDS]


def typed_columns(prefix: str, schema: Mapping[str, Any] | None) -> list[AnswerColumn]:
    """Return the columns that the output also has where answers have a JSON Schema."""
    return answer_columns(schema, prefix, [field.name for field in answer_schema(prefix)])


def check_prefix(source: Source, prefix: str, schema: Mapping[str, Any] | None) -> None:
    """Refuse an input that already has one of the answer columns, and two properties for one column."""
    typed = [column.field.name for column in typed_columns(prefix, schema)]
    twice = sorted({name for name in typed if typed.count(name) > 1})
    if twice:
        raise JobError(f"output.schema: two properties would be column {', '.join(twice)}; rename one")
    added = [field.name for field in answer_schema(prefix)] + typed
    taken = [name for name in added if name in source.schema.names]
    if taken:
        raise JobError(f"output.prefix: the input already has {', '.join(taken)}; choose another prefix")


def write_outputs(
    folder: Path,
    *,
    source: Source,
    plan: Plan,
    answers: Answers,
    prefix: str,
    provenance: Mapping[str, str],
) -> Written:
    """Write outputs.parquet and quarantine.parquet into *folder*.

    Raises:
        JobError: when the ledger or the plan can't be read.
        OSError: when the disk does not take the files; older ones stay as they were.
    """
    form = plan.parameters.schema
    typed = typed_columns(prefix, None if form is None else json.loads(form))
    fields = [*source.schema, *answer_schema(prefix), *(column.field for column in typed)]
    schema = pa.schema(fields, metadata={**(source.schema.metadata or {}), **provenance})
    statuses = dict.fromkeys(Status, 0)
    rows = 0
    with (
        whole_file(folder / "quarantine.parquet") as quarantine_path,
        whole_file(folder / "outputs.parquet") as output_path,
        pq.ParquetWriter(
            quarantine_path, QUARANTINE_SCHEMA, compression="zstd", write_page_checksum=True
        ) as quarantine,
        pq.ParquetWriter(output_path, schema, compression="zstd", write_page_checksum=True) as output,
    ):
        mapped = _Slices(read_rows(plan.rows_path))
        for batch in select_rows(source, None, plan.selection):
            part = _Part(mapped.take(batch.table.num_rows), answers, plan.prices)
            answered = read_columns(typed, part.good_answers())
            table = pa.table([*batch.table.columns, *part.columns(), *answered], schema=schema)
            output.write_table(table)
            quarantine.write_table(part.quarantine(rows))
            for status in part.statuses:
                statuses[status] += 1
            rows += batch.table.num_rows
    return Written(rows, statuses)


class _Slices:
    """Hands out a stream of record batches in slices of any length."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.Table | None = None

    def take(self, rows: int) -> pa.Table:
        parts = [self._left] if self._left is not None else []
        have = sum(part.num_rows for part in parts)
        while have < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise JobError("the plan has fewer rows than the input: the input changed during the run")
            parts.append(pa.Table.from_batches([batch]))
            have += batch.num_rows
        joined = pa.concat_tables(parts)
        self._left = joined.slice(rows)
        return joined.slice(0, rows)


class _Part:
    """One batch of rows with their final attempts."""

    def __init__(self, rows: pa.Table, answers: Answers, prices: Mapping[str, Price]) -> None:
        # A dictionary column is slow to turn into objects, so it becomes text first; the others stay as they are.
        self._rows = rows
        names = ("request_id", "first", "model", "baseline", "problem", "row_id")
        self.rows = {name: _plain(rows[name]).to_pylist() for name in names}
        self._bills = {name: bill(price) for name, price in prices.items()}
        self.attempts = answers.settled(self.rows["request_id"])
        self.statuses = [
            Status.FAILED if problem else Status(attempt.status or "") if attempt else Status.PENDING
            for problem, attempt in zip(self.rows["problem"], self.attempts, strict=True)
        ]

    def good_answers(self) -> Iterator[str | None]:
        """Yield the answer of each row that came out ok, None for the others."""
        for status, attempt in zip(self.statuses, self.attempts, strict=True):
            yield attempt.answer if attempt and status is Status.OK else None

    def columns(self) -> list[pa.Array | pa.ChunkedArray]:
        """Return the arrays of `ANSWER_FIELDS`."""
        rows, attempts = self.rows, self.attempts
        hexes = [None if request_id is None else request_id.hex() for request_id in rows["request_id"]]
        models = [attempt.model if attempt else model for attempt, model in zip(attempts, rows["model"], strict=True)]
        reasons = [
            problem or (attempt and attempt.reason) for attempt, problem in zip(attempts, rows["problem"], strict=True)
        ]
        costs, baseline_costs = self._costs()
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            "answer": pa.array([attempt and attempt.answer for attempt in attempts], pa.string()),
            "status": pa.array(self.statuses, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "model": pa.array(models, pa.string()),
            "usage": pa.array([attempt and attempt.usage_status for attempt in attempts], pa.string()),
            "cost_usd": _money(costs),
            "baseline_model": _plain(self._rows["baseline"]),
            "baseline_cost_usd": _money(baseline_costs),
            "latency_s": pa.array([attempt and attempt.latency_s for attempt in attempts], pa.float64()),
            "attempts": pa.array([attempt and attempt.attempt for attempt in attempts], pa.int32()),
            "request_id": pa.array(hexes, pa.string()),
        }
        for name in ("task", "difficulty", "route"):
            columns[name] = _plain(self._rows[name])
        for name, field in (
            ("input_tokens", "input_tokens"),
            ("cached_input_tokens", "cached_tokens"),
            ("output_tokens", "output_tokens"),
            ("reasoning_tokens", "reasoning_tokens"),
        ):
            values = [getattr(attempt, field) if attempt and attempt.usage_status else None for attempt in attempts]
            columns[name] = pa.array(values, pa.int64())
        return [columns[field.name] for field in ANSWER_FIELDS]

    def _costs(self) -> tuple[list[int | None], list[int | None]]:
        """Return cost and baseline cost per row, charged to the first of the rows that share a request."""
        costs: list[int | None] = []
        baseline_costs: list[int | None] = []
        for attempt, first, baseline in zip(self.attempts, self.rows["first"], self.rows["baseline"], strict=True):
            if attempt is None or not first:
                shared = None if attempt is None else 0
                costs.append(shared)
                baseline_costs.append(shared)
                continue
            costs.append(attempt.total_cost_pusd)
            known = baseline is not None and attempt.usage_status is not None
            baseline_costs.append(self._bills[baseline](usage_of(attempt)) if known else None)
        return costs, baseline_costs

    def quarantine(self, first_row: int) -> pa.Table:
        """Return the rows that did not come out ok, but for pending ones."""
        lines: list[dict[str, Any]] = []
        rows = self.rows
        for place, status in enumerate(self.statuses):
            if status in (Status.OK, Status.PENDING):
                continue
            attempt, problem = self.attempts[place], rows["problem"][place]
            kind, _, message = (problem or "").partition(": ")
            lines.append(
                {
                    "row": first_row + place,
                    "row_id": rows["row_id"][place],
                    "status": status,
                    "kind": (attempt.error_kind or attempt.finish) if attempt else kind,
                    "code": attempt.error_code if attempt else kind,
                    "message": attempt.reason if attempt else message,
                    "model": attempt.model if attempt else rows["model"][place],
                    "request_id": rows["request_id"][place] and rows["request_id"][place].hex(),
                }
            )
        return pa.Table.from_pylist(lines, schema=QUARANTINE_SCHEMA)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _money(pico: list[int | None]) -> pa.Array:
    """Return pico-USD as exact decimals, built from bytes: a Decimal object a cell would cost more than the rest."""
    values: npt.NDArray[np.int64] = np.array([value or 0 for value in pico], dtype=np.int64)
    wide = np.empty((len(values), 2), dtype="<i8")
    wide[:, 0], wide[:, 1] = values, values >> 63
    known = np.packbits([value is not None for value in pico], bitorder="little")
    return pa.Array.from_buffers(MONEY, len(pico), [pa.py_buffer(known.tobytes()), pa.py_buffer(wide.tobytes())])
