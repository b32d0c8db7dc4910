"""Parquet: exact types, batches bounded by bytes, and an error that names the row group of a damaged page."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import JobError
from pipeline.readers.source import BATCH_BYTES, Part, Read, one_schema, repeated, table_of
from pipeline.spec import Input

_READ_BYTES = 4 << 20  # of a column at a time; without a buffer the whole column of a row group is held
_DICTIONARY_BYTES = 2 << 20  # writers give up a dictionary at 1 MB
_DAMAGE = (pa.ArrowException, OSError)


def open_parquet(files: Sequence[Path], _spec: Input) -> tuple[pa.Schema, Read]:
    """Return the schema of *files* and how to read one.

    Raises:
        JobError: for a file that is cut short or no Parquet, names a column twice, or differs from the first.
    """
    schema = one_schema(files, [_schema(path) for path in files])
    return schema, partial(_read, schema)


def _schema(path: Path) -> pa.Schema:
    try:
        with _open(path) as file:
            schema = file.schema_arrow
    except _DAMAGE as error:
        raise JobError(f"{path}: is no whole Parquet file: {error}") from error
    if twice := repeated(schema.names):
        raise JobError(f"{path}: has several columns named {twice}; rename all but one")
    return schema


def _open(path: Path, **options: Any) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False, page_checksum_verification=True, **options)


class _Run(NamedTuple):
    """Row groups that are read in one go."""

    groups: tuple[int, ...]
    rows: int
    batch_rows: int
    compact: tuple[str, ...]  # columns read as the dictionaries they are stored as, see `_runs`


def _read(schema: pa.Schema, path: Path, columns: Sequence[str], max_rows: int) -> Iterator[Part]:
    wanted = pa.schema([schema.field(name) for name in columns])
    with _open(path) as file:
        metadata = file.metadata
    for run in _runs(metadata, wanted, max_rows):
        try:
            for batch in _read_run(path, metadata, run, wanted.names):
                yield from (Part(table, {}) for table in _exact(batch, wanted))
        except _DAMAGE as error:
            raise JobError(_damaged(path, metadata, run, wanted.names)) from error


class _Leaf(NamedTuple):
    """A stored column: a column of the table, or one of several that a nested one is stored as."""

    number: int
    path: str
    is_text: bool  # a column of text or bytes that is not nested


def _leaves(metadata: pq.FileMetaData, wanted: pa.Schema) -> list[_Leaf]:
    paths = ((number, metadata.schema.column(number).path) for number in range(metadata.num_columns))
    texts = {field.name for field in wanted if _is_text(field.type)}
    return [
        _Leaf(number, path, path in texts)
        for number, path in paths
        if any(path == name or path.startswith(f"{name}.") for name in wanted.names)
    ]


def _is_text(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(type_) or types.is_large_string(type_) or types.is_binary(type_) or types.is_large_binary(type_)
    )


def _runs(metadata: pq.FileMetaData, wanted: pa.Schema, max_rows: int) -> Iterator[_Run]:
    """Yield all row groups in order, small ones together."""
    leaves = _leaves(metadata, wanted)
    last: _Run | None = None
    for group in range(metadata.num_row_groups):
        run = _measure(metadata.row_group(group), group, leaves, max_rows)
        if last and last.rows < max_rows and last.compact == run.compact:
            batch_rows = min(last.batch_rows, run.batch_rows)
            last = _Run(last.groups + run.groups, last.rows + run.rows, batch_rows, run.compact)
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def _measure(part: pq.RowGroupMetaData, group: int, leaves: Sequence[_Leaf], max_rows: int) -> _Run:
    """Find how many rows of a row group make a batch.

    That follows from its uncompressed size, which says little where a dictionary stores a long text once for many rows.
    Such columns are to be read as dictionaries, and spelled out slice by slice.
    """
    rows = part.num_rows
    row_group_bytes = 1
    compact = []
    for leaf in leaves:
        chunk = part.column(leaf.number)
        size = chunk.total_uncompressed_size
        may_hide = size * min(rows, max_rows) > BATCH_BYTES and size <= _DICTIONARY_BYTES + 4 * rows
        if leaf.is_text and chunk.has_dictionary_page and may_hide:
            compact.append(leaf.path)
        else:
            row_group_bytes += size
    batch_rows = max(1, min(max_rows, BATCH_BYTES * rows // row_group_bytes))
    return _Run((group,), rows, batch_rows, tuple(compact))


def _read_run(path: Path, metadata: pq.FileMetaData, run: _Run, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    rows = sum(metadata.row_group(group).num_rows for group in run.groups)
    with _open(path, metadata=metadata, read_dictionary=list(run.compact)) as file:
        for batch in file.iter_batches(
            run.batch_rows, row_groups=list(run.groups), columns=list(names), use_threads=False
        ):
            batch.validate(full=True)  # else text that is not UTF-8 would fail far from here
            rows -= batch.num_rows
            yield batch
    if rows:  # the checksums cover the pages, not their headers
        raise pa.ArrowInvalid(f"{rows} rows are missing")


def _exact(batch: pa.RecordBatch, wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the columns of *batch* with their types, in slices that do not grow much above `BATCH_BYTES`."""
    columns = [batch.column(name) for name in wanted.names]
    hidden = [column for column, field in zip(columns, wanted, strict=True) if column.type != field.type]
    cuts = [0, batch.num_rows]
    if hidden:
        filled = np.cumsum(sum(_text_bytes(column) for column in hidden))
        cuts[1:1] = (np.flatnonzero(np.diff(filled // BATCH_BYTES)) + 1).tolist()
    for start, end in pairwise(cuts):
        slices = [column.slice(start, end - start) for column in columns]
        exact = [
            part if part.type == field.type else part.cast(field.type)
            for part, field in zip(slices, wanted, strict=True)
        ]
        yield table_of(wanted, exact, end - start)


def _text_bytes(column: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Return how many bytes each row takes when it is spelled out."""
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return np.asarray(lengths.fill_null(0), dtype=np.int64)


def _damaged(path: Path, metadata: pq.FileMetaData, run: _Run, names: Sequence[str]) -> str:
    """Name the row group of *run* that can't be read."""
    for group in run.groups:
        try:
            for _ in _read_run(path, metadata, run._replace(groups=(group,)), names):
                pass
        except _DAMAGE as error:
            return f"{path}: row group {group} (of {metadata.num_row_groups}, from 0) is damaged: {error}"
    return f"{path}: row groups {run.groups[0]} to {run.groups[-1]} can't be read together"
