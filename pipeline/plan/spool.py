"""Requests on disk, a folder a model: what will be sent, for a person to open and for a lane to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import Request

SPOOL_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.binary(16), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("system", pa.string()),
        pa.field("image", pa.string()),
        pa.field("messages", pa.string()),
        pa.field("input_tokens", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("escalate_to", pa.string()),
        pa.field("cascade", pa.string()),
    ]
)
assert tuple(SPOOL_SCHEMA.names) == Request._fields
_PART_ROWS = 1 << 18
_READ_ROWS = 1024  # how far reading may be ahead of the sockets


class Group(NamedTuple):
    """The requests of one model, in the order of their rows, or of their beginnings where a provider caches these."""

    model: str
    requests: int
    parts: tuple[Path, ...]


class Spool:
    """Writes `folder/<model>/part-NNNNN.parquet`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._parts: dict[str, list[Path]] = {}
        self._rows: dict[str, int] = {}

    def write(self, model: str, requests: pa.Table) -> None:
        """Append *requests* of `SPOOL_SCHEMA`."""
        rows = self._rows.get(model, 0)
        writer = self._writers.get(model)
        if writer is None or rows >= _PART_ROWS * len(self._parts[model]):
            writer = self._next_part(model)
        writer.write_table(requests)
        self._rows[model] = rows + requests.num_rows

    def _next_part(self, model: str) -> pq.ParquetWriter:
        if model in self._writers:
            self._writers[model].close()
        folder = self._folder / quote(model, safe=" ")
        folder.mkdir(exist_ok=True)
        parts = self._parts.setdefault(model, [])
        parts.append(folder / f"part-{len(parts):05}.parquet")
        # Texts hardly repeat, and nobody asks for their smallest and largest: dictionaries and statistics only cost.
        # Compression would take a tenth of the whole plan's time, for a file that is replaced by the next plan.
        writer = pq.ParquetWriter(
            parts[-1],
            SPOOL_SCHEMA,
            compression="none",
            use_dictionary=["task", "escalate_to", "cascade", "system"],
            write_statistics=False,
            write_page_checksum=True,
        )
        self._writers[model] = writer
        return writer

    def close(self) -> tuple[Group, ...]:
        """Finish the files and say what is in them."""
        for writer in self._writers.values():
            writer.close()
        return tuple(Group(model, self._rows[model], tuple(parts)) for model, parts in sorted(self._parts.items()))


class Share(NamedTuple):
    """The part of one process among several: every *of*-th request, from *number* (0 for the first) on."""

    number: int = 0
    of: int = 1


WHOLE = Share()


def read_requests(group: Group, share: Share = WHOLE) -> Iterator[Request]:
    """Yield the requests of *group* that fall to *share*, in order, reading a bounded number ahead."""
    for part in group.parts:
        with pq.ParquetFile(part, page_checksum_verification=True, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS * share.of):
                columns = batch.columns
                if share.of > 1:
                    its_own = pa.array(range(share.number, len(batch), share.of), pa.int64())
                    columns = [column.take(its_own) for column in columns]
                yield from map(Request._make, zip(*(column.to_pylist() for column in columns), strict=True))
