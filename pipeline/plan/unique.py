"""Whether a column names every row otherwise, told by hashes that lie on the disk until all rows are read."""

from pathlib import Path

import numpy as np
import polars as pl


class UniqueIds:
    """Counts ids that come again, by 8 bytes each: in the file *path*, and in memory for the count alone."""

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
        hashes = np.fromfile(self._path, dtype=np.uint64)
        self._path.unlink()
        hashes.sort()
        return int((hashes[1:] == hashes[:-1]).sum())
