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


_BOUNDS = np.arange(1, 16, dtype=np.uint64) << np.uint64(60)  # between the parts of a map: the four highest bits


class _Run(NamedTuple):
    high: npt.NDArray[np.uint64]  # sorted
    low: npt.NDArray[np.uint64]
    value: npt.NDArray[np.int64 | np.bool_]


class IdMap:
    """A map from request ids to integers at 24 bytes an entry: sorted arrays, merged as they grow.

    The first value given for an id stays. Ids are equal only when all 128 bits are. Values of `np.bool_` take a byte
    instead of eight: enough where only what is in the map counts.
    """

    def __init__(self) -> None:
        # A merge holds what it merges twice. Ids are hashes, so each part has its share, and a merge a small one.
        self._parts: tuple[list[_Run], ...] = tuple([] for _ in range(len(_BOUNDS) + 1))

    def __len__(self) -> int:
        return sum(len(run.high) for runs in self._parts for run in runs)

    def find(self, ids: Ids) -> Values:
        """Return the value of each id, -1 where it is not in the map."""
        if not any(self._parts):
            return np.full(len(ids), -1, dtype=np.int64)
        # In order, neighbouring lookups touch the same memory: several times as quick in a long run.
        order = np.argsort(ids[:, 0])
        found = np.empty(len(ids), dtype=np.int64)
        found[order] = self._find_ordered(ids[order])
        return found

    def add(self, ids: Ids, values: npt.NDArray[np.int64 | np.bool_]) -> npt.NDArray[np.bool_]:
        """Put in the ids that are not there yet, of equal ones the first; return which were put in."""
        # A lexsort is stable, so the first of equal ids comes first.
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        ordered = ids[order]
        fresh = self._find_ordered(ordered) < 0
        fresh[1:] &= (ordered[1:] != ordered[:-1]).any(axis=1)
        kept = order[fresh]
        self._put(ordered[fresh], values[kept])
        added = np.zeros(len(ids), dtype=bool)
        added[kept] = True
        return added

    def items(self) -> Iterator[tuple[Ids, Values]]:
        """Yield the entries in arrays."""
        for runs in self._parts:
            for run in runs:
                yield np.stack([run.high, run.low], axis=1), run.value.astype(np.int64, copy=False)

    def _find_ordered(self, ids: Ids) -> Values:
        found = np.full(len(ids), -1, dtype=np.int64)
        for runs, part in zip(self._parts, _parts_of(ids), strict=True):
            for run in runs:
                _find_in(run, ids[part], found[part])
        return found

    def _put(self, ids: Ids, values: npt.NDArray[np.int64 | np.bool_]) -> None:
        for runs, part in zip(self._parts, _parts_of(ids), strict=True):
            if part.start < part.stop:
                runs.append(_Run(ids[part, 0].copy(), ids[part, 1].copy(), values[part].copy()))
                _merge(runs)


def _parts_of(ids: Ids) -> Iterator[slice]:
    """Yield what of *ids*, which are in order, falls to each part of a map."""
    cuts = [0, *np.searchsorted(ids[:, 0], _BOUNDS).tolist(), len(ids)]
    return map(slice, cuts, cuts[1:])


def _merge(runs: list[_Run]) -> None:
    """Keep each run at least twice as long as the next, so that a lookup reads few of them."""
    while len(runs) > 1 and len(runs[-2].high) < 2 * len(runs[-1].high):
        right, left = runs.pop(), runs.pop()
        high = np.concatenate([left.high, right.high])
        # Two sorted halves are one pass for a stable sort; the order of equal upper halves does not matter.
        order = np.argsort(high, kind="stable")
        low = np.concatenate([left.low, right.low])[order]
        runs.append(_Run(high[order], low, np.concatenate([left.value, right.value])[order]))


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
