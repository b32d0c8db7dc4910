"""The bytes of a text file, unpacked and in UTF-8, in chunks of whole lines; memory stays flat however big it is."""

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from pipeline.errors import JobError
from pipeline.spec import Input

_BLOCK = 1 << 20
_MAX_ROW_BYTES = 1 << 30  # an Arrow text array holds 2 GiB, and a batch may hold one row more than it should
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_NOT_TEXT = {
    b"\x1f\x8b": "gzip data; name it .gz",
    b"\x28\xb5\x2f\xfd": "zstd data; name it .zst",
    b"PAR1\x15": "a Parquet file; name it .parquet",
    b"PK\x03\x04": "a ZIP archive or a workbook; export its rows as CSV",
}


def max_row_bytes(spec: Input) -> int:
    """Return the length in bytes from which on a row is bad."""
    return min(spec.max_row_bytes, _MAX_ROW_BYTES)


def read_lines(path: Path, spec: Input) -> Iterator[bytes]:
    r"""Yield the text of *path* as UTF-8 without byte order mark, in chunks that end with b"\n" (the last may not).

    A line longer than allowed is cut to one byte more than that; it ends with a quote more if an odd number of quotes
    was cut off, so that a CSV reader still knows whether the line ends inside a quoted cell. UTF-8 is not checked.

    Raises:
        JobError: when the file can't be read or unpacked to its end, or is of another encoding than *spec* says.
    """
    return _whole_lines(_utf8(path, spec.encoding), max_row_bytes(spec))


def _blocks(path: Path) -> Iterator[bytes]:
    compression = _COMPRESSIONS.get(path.suffix.lower())
    try:
        if compression and not path.stat().st_size:
            raise JobError(f"{path}: cannot be read to its end: it has no bytes, so it is no {compression} data")
        with pa.input_stream(str(path), compression=compression) as stream:
            while block := stream.read(_BLOCK):
                yield block
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{path}: cannot be read to its end: {error}") from error


def _utf8(path: Path, encoding: str) -> Iterator[bytes]:
    try:
        b"    ".decode(encoding, "replace")
    except LookupError as error:
        raise JobError(f"input.encoding: {encoding} is no known encoding; usual ones: utf-8, utf-16, cp1252") from error
    blocks = _blocks(path)
    first = next(blocks, b"")
    name = codecs.lookup(encoding).name
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not name.startswith(("utf-16", "utf-32")):
        raise JobError(f'{path}: is UTF-16 by its first bytes, not {encoding}; set input.encoding = "utf-16"')
    for magic, kind in _NOT_TEXT.items():
        if first.startswith(magic):
            raise JobError(f"{path}: is {kind}")
    blocks = chain([first], blocks)
    if name not in ("utf-8", "utf-8-sig"):
        blocks = _transcoded(path, blocks, encoding)
    yield next(blocks).removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _transcoded(path: Path, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    for block in chain(blocks, [b""]):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            near = lines + block[: getattr(error, "start", 0)].count(b"\n")
            raise JobError(
                f"{path}: is not {encoding} near line {near}: {getattr(error, 'reason', error)}; see input.encoding"
            ) from error
        lines += text.count("\n")
        yield text.encode("utf-8", "replace")


def _whole_lines(blocks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    line = _OpenLine(limit)
    for block in blocks:
        last = block.rfind(b"\n") + 1
        if last:
            first = block.find(b"\n") + 1
            line.add(block[:first])
            yield line.take() + block[first:last]
        line.add(block[last:])
    if rest := line.take():
        yield rest


class _OpenLine:
    """A line whose end has not come yet; it holds no more than *limit* + 1 bytes of it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._parts: list[bytes] = []
        self._room = self._limit + 1
        self._cut_quotes = 0
        self._is_cut = False

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the line."""
        self._parts.append(piece[: self._room])
        self._is_cut |= len(piece) > self._room
        self._cut_quotes += piece.count(b'"', self._room)
        self._room -= len(self._parts[-1])

    def take(self) -> bytes:
        """Return the line and begin the next."""
        if self._is_cut:
            self._parts.append(b'"\n' if self._cut_quotes % 2 else b"\n")
        line = b"".join(self._parts)
        self._begin()
        return line
