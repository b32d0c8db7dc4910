"""From `[input]` to a source: find the files, tell their format by name, look into each before anything is spent."""

import glob
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from pipeline.errors import JobError
from pipeline.readers.delimited import open_delimited
from pipeline.readers.jsonl import open_jsonl
from pipeline.readers.parquet import open_parquet
from pipeline.readers.source import Read, Source
from pipeline.spec import Input

_Open = Callable[[Sequence[Path], Input], tuple[pa.Schema, Read]]

_FORMATS: dict[str, _Open] = {
    ".parquet": open_parquet,
    ".csv": partial(open_delimited, delimiter=","),
    ".tsv": partial(open_delimited, delimiter="\t"),
    ".jsonl": open_jsonl,
    ".ndjson": open_jsonl,
}
_COMPRESSIONS = (".gz", ".zst")


def open_source(spec: Input) -> Source:
    """Return the rows that *spec* names; the files of a glob come in the order of their names.

    Types are exact: those of the Parquet file; text for every CSV column; for JSONL what holds every value of
    the column (see `jsonl`). An empty CSV or JSONL file has no rows and, if there is no other, no columns.

    Raises:
        JobError: for each file that is missing, of no known format, damaged at first sight, or unlike the first.
    """
    files = find_files(spec.path)
    open_files = _format(files)
    return Source(files, lambda paths: open_files(paths, spec))


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that *patterns* name, each once. Raises JobError for every pattern that names none."""
    found: dict[Path, None] = {}
    problems: list[str] = []
    for pattern in patterns:
        try:
            found |= dict.fromkeys(_find(pattern))
        except JobError as error:
            problems += error.problems
    if problems:
        raise JobError(*problems)
    return list(found)


def _find(pattern: str) -> list[Path]:
    if "://" in pattern:
        raise JobError(f"input.path: {pattern}: only files are read; copy it to this machine first")
    path = Path(pattern)
    if path.is_dir():
        raise JobError(f"input.path: {pattern} is a folder; name its files, as in {path / '*.parquet'}")
    if path.is_file():
        return [path]
    if path.exists():
        raise JobError(f"input.path: {pattern} is no regular file, and the rows are read more than once")
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes hidden files too
    hits = [Path(match) for match in matches if Path(match).is_file()]
    if not hits:
        fault = "matches no file" if glob.has_magic(pattern) else "no such file"
        raise JobError(f"input.path: {pattern}: {fault}")
    return hits


def _format(files: Sequence[Path]) -> _Open:
    problems = [problem for path in files if (problem := _unknown(path))]
    if problems:
        raise JobError(*problems)
    formats = {_FORMATS[_extension(path)] for path in files}
    if len(formats) > 1:
        names = sorted({_extension(path) for path in files})
        raise JobError(f"input.path: the files are of several formats ({', '.join(names)}); make them one")
    return formats.pop()


def _unknown(path: Path) -> str:
    """Say what is wrong with the name of *path*, or return nothing."""
    extension = _extension(path)
    if extension not in _FORMATS:
        known = f"{', '.join(_FORMATS)}, each but Parquet also with {' or '.join(_COMPRESSIONS)}"
        return f"{path}: its format is not known by its name; known: {known}"
    if extension == ".parquet" and path.suffix.lower() in _COMPRESSIONS:
        return f"{path}: a Parquet file can't be read packed; unpack it (it is compressed inside)"
    return ""


def _extension(path: Path) -> str:
    """Return the extension that tells the format, in lower case, without that of a compression."""
    return Path(path.stem if path.suffix.lower() in _COMPRESSIONS else path.name).suffix.lower()
