"""The output file, read in batches of a few of its columns."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import JobError
from pipeline.identity import IdMap, as_ids

_BATCH_ROWS = 8_192
_READ_BYTES = 1 << 16


def read_batches(outputs: Path, names: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """Yield the columns of *outputs* in order of rows, *names* being our name = column.

    The first frame has no rows, so that there always is one.

    Raises:
        JobError: when *outputs* cannot be read or lacks a column.
    """
    try:
        # Without these two, a whole row group would be in memory at once.
        with pq.ParquetFile(outputs, pre_buffer=False, buffer_size=_READ_BYTES) as file:
            there = file.schema_arrow.names
            missing = [f"{outputs}: no column {column!r}" for column in names.values() if column not in there]
            if missing:
                raise JobError(*missing, f"{outputs}: its columns are {', '.join(there)}")
            columns = list(dict.fromkeys(names.values()))
            yield _renamed(file.schema_arrow.empty_table(), names)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
                yield _renamed(pa.Table.from_batches([batch]), names)
        pa.default_memory_pool().release_unused()
    except (OSError, pa.ArrowInvalid) as error:
        raise JobError(f"{outputs}: cannot be read as Parquet: {error}") from error


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(ours, table.column(column)) for ours, column in names.items()])


class FirstAsked:
    """Tells the row that asked a request from those that share its answer."""

    def __init__(self) -> None:
        self._seen = IdMap()

    def among(self, requests: pl.Series) -> pl.Series:
        """Return whether each of *requests* (hex ids) is the first of its kind; a row without one is."""
        first = np.ones(len(requests), dtype=bool)
        ids = as_ids(b"".join(map(bytes.fromhex, requests.drop_nulls())))
        first[requests.is_not_null().to_numpy()] = self._seen.add(ids, np.zeros(len(ids), dtype=bool))
        return pl.Series("first", first)
