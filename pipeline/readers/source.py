"""What every format gives: batches with their row numbers, from files that must not change under the job."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.errors import JobError

BATCH_BYTES = 16 << 20  # a batch ends where its rows reach this, so that wide rows do not fill the memory


class Batch(NamedTuple):
    """Some rows of the input in its order; a row in *bad* could not be read and is null in every column."""

    first_row: int  # number of its first row in the whole input, from 0
    table: pa.RecordBatch  # the asked columns, exact Arrow types
    bad: Mapping[int, str]  # offset in the batch -> why that line could not be read


class Part(NamedTuple):
    """A batch that does not know its place in the input yet."""

    table: pa.RecordBatch
    bad: Mapping[int, str]


Read = Callable[[Path, Sequence[str], int], Iterator[Part]]  # file, columns, most rows in a batch


def table_of(schema: pa.Schema, columns: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """Return *columns* of *rows* rows as a record batch, which counts its rows even when there is no column."""
    counted = pa.RecordBatch.from_arrays([*columns, pa.nulls(rows)], schema=schema.append(pa.field("rows", pa.null())))
    return counted.select(range(len(columns)))


class Source:
    """An input that was found readable. Cheap to hold: it has no file open and keeps no row."""

    def __init__(self, files: Sequence[Path], open_files: Callable[[Sequence[Path]], tuple[pa.Schema, Read]]) -> None:
        self.files = tuple(files)
        self._states = [_state(path) for path in files]  # before the first look into a file, to notice later changes
        self.schema, self._read = open_files(files)

    def batches(self, columns: Sequence[str] | None = None, *, max_rows: int = 8192) -> Iterator[Batch]:
        """Yield every row, of *columns* or of all, in batches of at most *max_rows* rows and about 16 MB.

        Batches are never empty. `[]` as *columns* still counts the rows.

        Raises:
            JobError: for a column that is not there, a file that changed since the source was opened, or one
                that can't be read to its end.
        """
        names = self.schema.names if columns is None else list(dict.fromkeys(columns))
        missing = [name for name in names if name not in self.schema.names]
        if missing:
            raise JobError(f"no column {', '.join(missing)}; the input has: {', '.join(self.schema.names)}")
        self.check_unchanged()
        row = 0
        for path in self.files:
            for table, bad in self._read(path, names, max_rows):
                yield Batch(row, table, bad)
                row += table.num_rows
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise JobError if a file is not the one that was opened: size, time of change or inode differ."""
        changed = [path for path, state in zip(self.files, self._states, strict=True) if _state(path) != state]
        if changed:
            raise JobError(
                *(f"{path}: changed while the job was reading it; run again when it rests" for path in changed)
            )


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def one_schema(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the schema that all *files* share.

    Raises:
        JobError: for each file that differs from the first, with the difference.
    """
    first = schemas[0]
    problems = [
        f"{path}: has other columns than {files[0]}: {difference}"
        for path, schema in zip(files, schemas, strict=True)
        if (difference := schema_difference(first, schema))
    ]
    if problems:
        raise JobError(*problems)
    return first


def repeated(names: Sequence[str]) -> str:
    """Return the names that occur more than once, for a message."""
    return ", ".join(repr(name) for name, times in Counter(names).items() if times > 1)


def schema_difference(first: pa.Schema, other: pa.Schema) -> str:
    """Say how *other* differs from *first*; empty when it does not. Metadata do not count."""
    parts = []
    if missing := [name for name in first.names if name not in other.names]:
        parts.append(f"missing {', '.join(missing)}")
    if added := [name for name in other.names if name not in first.names]:
        parts.append(f"added {', '.join(added)}")
    parts += [
        f"{field.name} is {_describe(field)}, not {_describe(wanted)}"
        for field in other
        if field.name in first.names and not field.equals(wanted := first.field(field.name))
    ]
    if not parts and first.names != other.names:
        parts.append(f"their order is {', '.join(other.names)}, not {', '.join(first.names)}")
    return "; ".join(parts)


def _describe(field: pa.Field) -> str:
    return f"{field.type}" if field.nullable else f"{field.type} not null"
