"""CSV and TSV: every cell is text, and no line is silently joined to another, cut or filled up.

A line with too few or too many cells, with text behind a closing quote, or above `input.max_row_bytes` is one bad row.
A quoted cell that is never closed, or closed wrongly some lines later, stops the job: where its row ends is anybody's
guess, so going on could send pieces of it as rows, and joining the lines would lose rows.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

from pipeline.errors import JobError
from pipeline.readers.source import BATCH_BYTES, Part, Read, one_schema, repeated, table_of
from pipeline.readers.streams import max_row_bytes, read_lines
from pipeline.spec import Input


def open_delimited(files: Sequence[Path], spec: Input, *, delimiter: str) -> tuple[pa.Schema, Read]:
    """Return the columns of *files* and how to read one; an empty file has no say in the columns.

    Raises:
        JobError: for a header that can't be read, names a column twice, or differs from that of the first file.
    """
    headers = {path: next(_Rows(path, spec, delimiter).read(), None) for path in files}
    schemas = {path: _checked(path, header) for path, header in headers.items() if header is not None}
    schema = one_schema(list(schemas), list(schemas.values())) if schemas else pa.schema([])
    return schema, partial(_read, spec, delimiter)


def _checked(path: Path, header: list[str] | str) -> pa.Schema:
    if isinstance(header, str):
        raise JobError(f"{path}: the header can't be read: {header}")
    if any("\0" in name for name in header):
        raise JobError(
            f'{path}: the header holds NUL characters; if the file is UTF-16, set input.encoding = "utf-16-le"'
        )
    if twice := repeated(header):
        raise JobError(f"{path}: the header names {twice} more than once; rename all but one")
    return _schema(header)


def _read(spec: Input, delimiter: str, path: Path, columns: Sequence[str], max_rows: int) -> Iterator[Part]:
    """Yield the rows of one file behind its header."""
    source = _Rows(path, spec, delimiter)
    stream = source.read()
    header = next(stream, [])
    places = {name: header.index(name) for name in columns} if header else {}
    blank = [None] * len(header)
    rows: list[Sequence[str | None]] = []
    bad: dict[int, str] = {}
    size = 0
    for row in stream:
        size += source.row_bytes
        if isinstance(row, str):
            bad[len(rows)] = f"{path.name}, {row}"
            rows.append(blank)
        else:
            rows.append(row)
        if len(rows) == max_rows or size >= BATCH_BYTES:
            part = Part(_table(rows, places), bad)
            rows, bad, size = [], {}, 0  # before the yield, so that the cells are not held twice
            yield part
    if rows:
        yield Part(_table(rows, places), bad)


def _table(rows: Sequence[Sequence[str | None]], places: dict[str, int]) -> pa.RecordBatch:
    arrays = [pa.array([row[place] for row in rows], pa.string()) for place in places.values()]
    return table_of(_schema(list(places)), arrays, len(rows))


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in names])


class _TooLongError(Exception):
    """Raised inside a row that outgrows its limit."""


class _Rows:
    """The rows of one file, header first. `row_bytes` is the length of the row that was read last."""

    def __init__(self, path: Path, spec: Input, delimiter: str) -> None:
        self.row_bytes = 0
        self._path = path
        self._delimiter = delimiter
        self._limit = max_row_bytes(spec)
        self._lines = chain.from_iterable(chunk.splitlines(keepends=True) for chunk in read_lines(path, spec))
        self._line = b""
        self._number = 0  # of _line, from 1
        self._ended = False

    def read(self) -> Iterator[list[str] | str]:
        """Yield for each row its cells, or what is wrong with it. Empty lines are no rows."""
        width = 0  # the first row is the header and sets it
        csv.field_size_limit(2**31 - 1)  # for the whole process; the limit of a row is kept by _feed
        start = 1
        while not self._ended:
            try:
                for row in csv.reader(self._feed(), delimiter=self._delimiter, strict=True):
                    width = width or len(row)
                    if row and len(row) == width:
                        yield row
                    elif row:
                        yield f"line {start}: the number of cells is {len(row)}, in the header {width}"
                    start = self._number + 1
                    self.row_bytes = 0
            except _TooLongError:
                yield self._too_long(start)
            except csv.Error:
                yield self._malformed(start)
            start = self._number + 1
            self.row_bytes = 0

    def _feed(self) -> Iterator[str]:
        """Yield lines as text, across the faults that end one `csv.reader` after the other."""
        for line in self._lines:
            self._line = line
            self._number += 1
            self.row_bytes += len(line)
            if self.row_bytes > self._limit:
                raise _TooLongError
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise JobError(
                    f"{self._path}: line {self._number} is not UTF-8 (byte 0x{line[error.start]:02x}); name the file's "
                    'encoding, as in input.encoding = "cp1252"'
                ) from error
        self._ended = True

    def _too_long(self, start: int) -> str:
        """Pass over the rest of a row that began at line *start*; return its fault."""
        inside = self._number > start  # the row went on to this line, so a quote was open
        inside ^= self._line.count(b'"') % 2 == 1
        while inside:
            line = next(self._lines, None)
            if line is None:
                raise self._never_closed(start)
            self._number += 1
            inside ^= line.count(b'"') % 2 == 1
        where = f"line {start}" if self._number == start else f"lines {start} to {self._number}"
        return f"{where}: longer than {self._limit} bytes (input.max_row_bytes)"

    def _malformed(self, start: int) -> str:
        """Return the fault of a row whose quoting is wrong, if it can't reach into other lines."""
        alone = self._number == start
        if alone and self._ended:
            return f"line {start}: the file ends inside a quoted cell"
        if alone and self._line.count(b'"') % 2 == 0:
            return (
                f"line {start}: text behind the closing quote of a cell; a quote inside a quoted cell is written twice"
            )
        raise self._never_closed(start)

    def _never_closed(self, start: int) -> JobError:
        return JobError(
            f"{self._path}: line {start}: a quoted cell begins here and is not closed properly, as far as line "
            f"{self._number}; close it, and write a quote inside it twice"
        )
