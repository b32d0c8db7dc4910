"""What makes two requests the same: a content address, and a compact map over many of them."""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.records import Parameters

ID_BYTES = 16

Ids = npt.NDArray[np.uint64]  # shape (n, 2): the two halves of each id, big-endian
Values = npt.NDArray[np.int64]


RequestHasher = Callable[[bytes, str | None, str | None, str | None], bytes]


def request_hasher(model: str, parameters: Parameters) -> RequestHasher:
    """Return `(user, system, image, messages) -> request_id` for one model and one set of parameters.

    *user* is UTF-8. The id is a 128-bit BLAKE2b of lengths and UTF-8 texts, so it is the same on every version of
    Python and of any library. A lone surrogate, which no UTF-8 can hold, counts as "?".
    """
    head = hashlib.blake2b(digest_size=ID_BYTES, person=b"rowroute-1")
    head.update(msgspec.json.encode([model, *parameters]))
    plain = head.copy()
    plain.update(b"u")

    def request_id(user: bytes, system: str | None, image: str | None, messages: str | None) -> bytes:
        if system is None and image is None and messages is None:
            hasher = plain.copy()
            hasher.update(user)
        else:
            parts = [None if part is None else part.encode("utf-8", "replace") for part in (system, image, messages)]
            hasher = head.copy()
            hasher.update(msgspec.msgpack.encode([user, *parts]))
        return hasher.digest()

    return request_id


def repeat_id(request_id: bytes) -> bytes:
    """Return the id of asking *request_id* a second time, whatever was said the first time."""
    return hashlib.blake2b(request_id, digest_size=ID_BYTES, person=b"rowroute-again").digest()


def as_ids(packed: bytes) -> Ids:
    """View concatenated 16-byte ids as an array of shape (n, 2)."""
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, 2)


class _Run(NamedTuple):
    high: npt.NDArray[np.uint64]  # sorted
    low: npt.NDArray[np.uint64]
    value: Values


class IdMap:
    """A map from request ids to integers at 24 bytes an entry: sorted arrays, merged as they grow.

    The first value given for an id stays. Ids are equal only when all 128 bits are.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.high) for run in self._runs)

    def find(self, ids: Ids) -> Values:
        """Return the value of each id, -1 where it is not in the map."""
        if not self._runs:
            return np.full(len(ids), -1, dtype=np.int64)
        # In order, neighbouring lookups touch the same memory: several times as quick in a long run.
        order = np.argsort(ids[:, 0])
        ordered = ids[order]
        sorted_found = np.full(len(ids), -1, dtype=np.int64)
        for run in self._runs:
            _find_in(run, ordered, sorted_found)
        found = np.empty_like(sorted_found)
        found[order] = sorted_found
        return found

    def add(self, ids: Ids, values: Values) -> npt.NDArray[np.bool_]:
        """Put in the ids that are not there yet, of equal ones the first; return which were put in."""
        fresh = np.flatnonzero(self.find(ids) < 0)
        # A lexsort is stable, so the first of equal ids comes first.
        order = fresh[np.lexsort((ids[fresh, 1], ids[fresh, 0]))]
        ordered = ids[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        kept = order[first]
        added = np.zeros(len(ids), dtype=bool)
        added[kept] = True
        if len(kept):
            self._runs.append(_Run(ids[kept, 0], ids[kept, 1], values[kept]))
            self._merge()
        return added

    def _merge(self) -> None:
        """Keep each run at least twice as long as the next, so that a lookup reads few of them."""
        while len(self._runs) > 1 and len(self._runs[-2].high) < 2 * len(self._runs[-1].high):
            right, left = self._runs.pop(), self._runs.pop()
            high = np.concatenate([left.high, right.high])
            # Two sorted halves are one pass for a stable sort; the order of equal upper halves does not matter.
            order = np.argsort(high, kind="stable")
            low = np.concatenate([left.low, right.low])[order]
            self._runs.append(_Run(high[order], low, np.concatenate([left.value, right.value])[order]))

    def items(self) -> Iterator[tuple[Ids, Values]]:
        """Yield the entries in arrays."""
        for run in self._runs:
            yield np.stack([run.high, run.low], axis=1), run.value


def _find_in(run: _Run, ids: Ids, found: Values) -> None:
    place = np.searchsorted(run.high, ids[:, 0])
    pending = np.flatnonzero(found < 0)
    # Two ids may share their upper half; they stand side by side, so step on until the half changes.
    while len(pending):
        at = place[pending]
        inside = at < len(run.high)
        pending, at = pending[inside], at[inside]
        same_high = run.high[at] == ids[pending, 0]
        pending, at = pending[same_high], at[same_high]
        hit = run.low[at] == ids[pending, 1]
        found[pending[hit]] = run.value[at[hit]]
        pending = pending[~hit]
        place[pending] += 1
