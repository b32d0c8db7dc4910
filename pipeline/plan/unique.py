"""Whether a column names every row otherwise, told by hashes that lie on the disk until all rows are read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

_AT_ONCE = 1 << 20  # hashes in memory


class UniqueIds:
    """Counts ids that come again, by 8 bytes each in the file *path* and a few megabytes in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, ids: pl.Series) -> None:
        """Take the ids of the next rows; null is none."""
        with self._path.open("ab") as file:
            file.write(ids.drop_nulls().hash().to_numpy().tobytes())

    def take_repeated(self) -> int:
        """Return how many rows have the id of an earlier one, and remove the file."""
        if not self._path.exists():
            return 0
        parts = 1 << (self._path.stat().st_size // 8 // _AT_ONCE).bit_length()
        repeated = 0
        for part in range(parts):
            hashes = np.concatenate([each[each & np.uint64(parts - 1) == part] for each in self._read()])
            hashes.sort()
            repeated += int((hashes[1:] == hashes[:-1]).sum())
        self._path.unlink()
        return repeated

    def _read(self) -> Iterator[npt.NDArray[np.uint64]]:
        with self._path.open("rb") as file:
            while len(hashes := np.fromfile(file, dtype=np.uint64, count=_AT_ONCE)):
                yield hashes
            yield hashes
