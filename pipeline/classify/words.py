"""Cut texts into words, numbers, CJK characters and signs, all texts at once, and give each a stable hash."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.intp]

_SPACE, _WORD, _NUMBER, _CJK, _SIGN = range(5)
_STEM_CHARS = 5  # what an inflected word mostly keeps
_TOP = 0xFFFF  # what lies above the basic plane, mostly emoji, is one sign
_NUMBER_HASH: Final = np.uint64(0x9E3779B97F4A7C15)
# Odd, so that it has an inverse modulo 2**64; the multiplier of PCG64 (O'Neill 2014).
_BASE = 6364136223846793005
_INVERSE = pow(_BASE, -1, 2**64)


class Words(NamedTuple):
    """The tokens of some texts, in order: hash, hash of the first letters, row; and how many tokens each row has."""

    hashes: Hashes
    stems: Hashes
    rows: Counts
    per_row: Counts


def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Return for every code point its kind and the code point it is taken for (full-width forms are folded)."""
    kind = np.full(_TOP + 1, _WORD, dtype=np.uint8)
    fold = np.arange(_TOP + 1, dtype=np.uint64)
    fold[0xFF01:0xFF5F] -= np.uint64(0xFEE0)
    fold[[0x3001, 0x3002]] = [ord(","), ord(".")]
    for first, last in ((0, 0xA9), (0xAB, 0xB4), (0xB6, 0xBF), (0x2000, 0x2BFF), (0x3000, 0x303F), (0xFE10, 0xFFFF)):
        kind[first : last + 1] = _SIGN
    kind[[0xD7, 0xF7, 0x37E, 0x387, 0x589, 0x60C, 0x61B, 0x61F, 0x964, 0x965]] = _SIGN
    for first, last in ((ord("a"), ord("z")), (ord("A"), ord("Z")), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)):
        kind[first : last + 1] = _WORD
    for first, last in ((ord("0"), ord("9")), (0xFF10, 0xFF19)):
        kind[first : last + 1] = _NUMBER
    for first, last in ((0x3005, 0x3006), (0x3041, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)):
        kind[first : last + 1] = _CJK
    kind[[*range(9), *range(11, 33), 0x7F, 0xA0, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x3000, 0xFEFF]] = (
        _SPACE
    )
    return kind, fold


_KIND, _FOLD = _tables()
_powers: list[Hashes] = [np.ones(1, dtype=np.uint64), np.ones(1, dtype=np.uint64)]


def _powers_to(size: int) -> tuple[Hashes, Hashes]:
    """Return the powers of the base and of its inverse, at least *size* of each."""
    if len(_powers[0]) < size:
        for place, base in enumerate((_BASE, _INVERSE)):
            factors = np.full(size + size // 4, base, dtype=np.uint64)
            factors[0] = 1
            _powers[place] = np.cumprod(factors)
    return _powers[0], _powers[1]


def mixed(hashes: Hashes) -> Hashes:
    """Return *hashes* with every bit made to depend on every bit (the finaliser of MurmurHash3, Appleby 2011)."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return hashes ^ (hashes >> np.uint64(33))


def cut_words(texts: pl.Series) -> Words:
    """Cut *texts*, which are lower case and not null. Time is linear in their length; hashes are not mixed yet."""
    lengths = texts.str.len_chars().to_numpy().astype(np.intp) + 1  # a space ends each text
    joined = " ".join(texts.to_list()) + " "
    codes = np.minimum(np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32), _TOP)
    kinds = _KIND[codes]
    edge = np.empty(len(kinds), dtype=bool)
    edge[:1] = True
    np.not_equal(kinds[1:], kinds[:-1], out=edge[1:])
    edge |= kinds >= _CJK
    edges = np.flatnonzero(edge)
    edge_kinds = kinds[edges]
    is_token = edge_kinds != _SPACE
    starts, kinds = edges[is_token], edge_kinds[is_token]
    ends = np.append(edges[1:], len(codes))[is_token]
    powers, inverses = _powers_to(len(codes))
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(_FOLD[codes] * powers[: len(codes)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    stems = (sums[np.minimum(ends, starts + _STEM_CHARS)] - sums[starts]) * inverses[starts]
    hashes[kinds == _NUMBER] = stems[kinds == _NUMBER] = _NUMBER_HASH
    text_ends = np.cumsum(lengths)
    rows = np.searchsorted(text_ends, starts, side="right")
    return Words(hashes, stems, rows, np.bincount(rows, minlength=len(texts)))
