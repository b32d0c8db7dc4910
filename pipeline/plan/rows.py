"""The row map: for each input row in order, which request answers it, or why none does."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

_WORD = pa.dictionary(pa.int32(), pa.string())
ROW_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string()),
        pa.field("request_id", pa.binary(16)),  # null: the row is not asked
        pa.field("first", pa.bool_(), nullable=False),  # the first row that asks this request carries its cost
        pa.field("model", _WORD),
        pa.field("task", _WORD),
        pa.field("difficulty", _WORD),
        pa.field("rule", _WORD),
        pa.field("route", _WORD),
        pa.field("baseline", _WORD),
        pa.field("problem", pa.string()),  # why the row is not asked, as "code: text"
    ]
)


class RowWriter:
    """Writes the row map batch by batch."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            ROW_SCHEMA,
            compression="none",
            use_dictionary=[field.name for field in ROW_SCHEMA if field.type == _WORD],
            write_statistics=False,
            write_page_checksum=True,
        )

    def write(self, frame: pl.DataFrame, request_ids: pa.Array) -> None:
        """Append the rows of *frame*, which has every column of `ROW_SCHEMA` but request_id."""
        columns = [request_ids if field.name == "request_id" else _column(frame, field) for field in ROW_SCHEMA]
        self._writer.write_batch(pa.record_batch(columns, schema=ROW_SCHEMA))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _column(frame: pl.DataFrame, field: pa.Field) -> pa.Array:
    array = frame[field.name].to_arrow()
    return array.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(field.type) else array.cast(field.type)


def read_rows(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the row map in batches."""
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=1 << 20) as file:
        yield from file.iter_batches(batch_size=8192)
