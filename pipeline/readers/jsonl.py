"""JSONL: one object a line; a line that is none is one bad row.

A first pass over the files finds a type for every column, whether it appears in the first line or the last. Integers
are int64, integers with fractions float64, objects structs, arrays lists. Where the kinds mix, where no such type
holds a number exactly, or where there are only nulls, the column is text: strings as they are, other values as JSON.
NaN and Infinity, which Python writes, are read; a lone surrogate is replaced by U+FFFD, because no UTF-8 can hold it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from pipeline.errors import JobError
from pipeline.readers.shapes import Render, Shape, to_arrow
from pipeline.readers.source import BATCH_BYTES, Part, Read, table_of
from pipeline.readers.streams import max_row_bytes, read_lines
from pipeline.spec import Input

_Object = dict[str, Any]

_decode = msgspec.json.Decoder(_Object).decode
_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A surrogate is lone where it is not in a pair; a backslash behind a backslash begins no escape.
_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\."
)


class _Column(NamedTuple):
    type: pa.DataType
    render: Render | None


def open_jsonl(files: Sequence[Path], spec: Input) -> tuple[pa.Schema, Read]:
    """Return the columns of *files*, with types that hold every value in them, and how to read one.

    Raises:
        JobError: for a file without any JSON object, or one whose keys are not those of the first.
    """
    whole = Shape()
    shapes = {path: shape for path in files if (shape := _scan(path, spec))}
    problems = []
    for path, shape in shapes.items():
        first = next(iter(shapes))
        if difference := _key_difference(shapes[first], shape):
            problems.append(f"{path}: has other columns than {first}: {difference}")
        whole.merge(shape)
    if problems:
        raise JobError(*problems)
    columns = {name: _Column(shape.arrow_type(), shape.renderer()) for name, shape in whole.fields.items()}
    return _schema(columns), partial(_read, spec, columns)


def _scan(path: Path, spec: Input) -> Shape | None:
    """Return the shape of the objects in *path*, or None when it has no line."""
    shape = Shape()
    fault = ""
    for rows, _ in _read_rows(path, spec):
        objects = [row for row in rows if isinstance(row, dict)]
        fault = fault or next((row for row in rows if isinstance(row, str)), "")
        shape.see([*objects])
        if shape.has_too_many_fields:
            raise JobError(f"{path}: has more than {len(shape.fields) - 1} columns; are its keys data?")
    if shape.fields:
        return shape
    if fault:
        raise JobError(f"{path}: no line is a JSON object with keys; {fault}")
    return None


def _key_difference(first: Shape, other: Shape) -> str:
    missing, added = first.fields.keys() - other.fields.keys(), other.fields.keys() - first.fields.keys()
    return "; ".join(
        f"{word} {', '.join(sorted(names))}" for word, names in (("missing", missing), ("added", added)) if names
    )


def _read(
    spec: Input, columns: Mapping[str, _Column], path: Path, names: Sequence[str], max_rows: int
) -> Iterator[Part]:
    wanted = {name: columns[name] for name in names}
    rows: list[_Object | str] = []
    size = 0
    for more, length in _read_rows(path, spec):
        rows += more
        size += length
        is_full = size >= BATCH_BYTES
        while len(rows) >= max_rows or (is_full and rows):
            part = _part(path, rows[:max_rows], wanted)
            del rows[:max_rows]
            size = 0
            yield part
    if rows:
        yield _part(path, rows, wanted)


def _part(path: Path, rows: Sequence[_Object | str], columns: Mapping[str, _Column]) -> Part:
    bad = {offset: row for offset, row in enumerate(rows) if isinstance(row, str)}
    objects = [{} if isinstance(row, str) else row for row in rows]
    arrays = []
    for name, column in columns.items():
        try:
            array = to_arrow([row.get(name) for row in objects], column.type, column.render)
        except (pa.ArrowException, OverflowError, RecursionError) as error:
            raise JobError(f"{path}: column {name}: a value is not {column.type} or is nested too deeply") from error
        arrays.append(array)
    return Part(table_of(_schema(columns), arrays, len(rows)), bad)


def _schema(columns: Mapping[str, _Column]) -> pa.Schema:
    return pa.schema([pa.field(name, column.type) for name, column in columns.items()])


def _read_rows(path: Path, spec: Input) -> Iterator[tuple[list[_Object | str], int]]:
    """Yield rows, or what is wrong with their lines, and how many bytes they took. Empty lines are no rows."""
    limit = max_row_bytes(spec)
    number = 1
    for chunk in read_lines(path, spec):
        lines = chunk.split(b"\n")
        try:
            # All lines at once is how it mostly goes, and fast.
            rows: list[_Object | str] = [] if len(chunk) > limit else list(map(_decode, filter(bytes.strip, lines)))
        except _NOT_DECODED:
            rows = []
        if not rows:
            numbered = enumerate(lines, start=number)
            rows = [_parse(line, limit, f"{path.name}, line {at}") for at, line in numbered if line.strip()]
        yield rows, len(chunk)
        number += len(lines) - 1


def _parse(line: bytes, limit: int, where: str) -> _Object | str:
    """Return the object in *line*, or what is wrong with it."""
    if len(line) > limit:
        return f"{where}: longer than {limit} bytes (input.max_row_bytes)"
    try:
        return _decode(line)
    except _NOT_DECODED:
        return _parse_leniently(line, where)


def _parse_leniently(line: bytes, where: str) -> _Object | str:
    """Read what Python and others write although it is no JSON."""
    try:
        value = json.loads(_LONE_SURROGATE.sub(_mend, line.decode()))
    except UnicodeDecodeError as error:
        return f"{where}: byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8"
    except RecursionError:
        return f"{where}: nested too deeply"
    except json.JSONDecodeError as error:
        return f"{where}: not JSON: {error.msg}, at character {error.pos + 1}"
    except ValueError:  # Python's limit on the digits of an integer
        return f"{where}: a number has too many digits"
    return value if isinstance(value, dict) else f"{where}: JSON, but not an object"


def _mend(escape: re.Match[str]) -> str:
    return "\\ufffd" if len(escape[0]) == 6 else escape[0]
