"""Looking at the output file all the time while runs go on, as an impatient reader would."""

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from .evidence import OUTPUTS, Sighting

_LOOK_EVERY_S: Final = 0.002
_MISSING: Final = Sighting("", 0, "it was gone")


@contextmanager
def watch_output(folder: Path) -> Iterator[list[Sighting]]:
    """Yield a list that gets a sighting for every state in which outputs.parquet in *folder* is seen."""
    sightings: list[Sighting] = []
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(folder / OUTPUTS, sightings, stop), name="watch-output")
    thread.start()
    try:
        yield sightings
    finally:
        stop.set()
        thread.join()


def _watch(path: Path, sightings: list[Sighting], stop: threading.Event) -> None:
    last: object = None
    while True:
        stopping = stop.is_set()  # asked first, so that the last state is seen
        try:
            state = path.stat()
            seen: object = (state.st_ino, state.st_size, state.st_mtime_ns)
            if seen != last:
                sightings.append(_sighting(path.read_bytes()))
        except FileNotFoundError:
            seen = None
            if last is not None:
                sightings.append(_MISSING)
        last = seen
        if stopping:
            return
        stop.wait(_LOOK_EVERY_S)


def _sighting(data: bytes) -> Sighting:
    name = hashlib.sha256(data).hexdigest()
    try:
        with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
            return Sighting(name, file.read().num_rows)
    except (OSError, pa.ArrowException) as error:
        return Sighting(name, 0, f"it was no whole file: {error}")
