"""Which rows of the input take part: all, the first N, or a seeded sample, always in input order."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.readers import Batch, Source


class Selection(NamedTuple):
    """`--limit` and `--sample`. A sample is drawn from the first *limit* rows, the same for the same *seed*."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0


def select_rows(source: Source, columns: Sequence[str] | None, selection: Selection) -> Iterator[Batch]:
    """Yield the selected rows in batches, numbered from 0 without gaps."""
    if selection.sample is None:
        yield from _head(source, columns, selection.limit)
        return
    total = sum(batch.table.num_rows for batch in _head(source, [], selection.limit))
    wanted = sorted(random.Random(selection.seed).sample(range(total), min(selection.sample, total)))
    yield from take_rows(_head(source, columns, selection.limit), wanted)


def take_rows(batches: Iterable[Batch], wanted: Sequence[int]) -> Iterator[Batch]:
    """Yield the rows of *batches* whose numbers are *wanted*, which ascend, numbered anew from 0."""
    taken = 0
    for batch in batches:
        end = batch.first_row + batch.table.num_rows
        offsets = []
        while taken < len(wanted) and wanted[taken] < end:
            offsets.append(wanted[taken] - batch.first_row)
            taken += 1
        if offsets:
            bad = {place: batch.bad[offset] for place, offset in enumerate(offsets) if offset in batch.bad}
            yield Batch(taken - len(offsets), batch.table.take(pa.array(offsets)), bad)


def _head(source: Source, columns: Sequence[str] | None, limit: int | None) -> Iterator[Batch]:
    for batch in source.batches(columns):
        if limit is None or batch.first_row + batch.table.num_rows <= limit:
            yield batch
            continue
        keep = limit - batch.first_row
        if keep > 0:
            bad = {offset: why for offset, why in batch.bad.items() if offset < keep}
            yield Batch(batch.first_row, batch.table.slice(0, keep), bad)
        return
