"""Texts as numbers: hashed words, and the shape of the text. Stable across machines and versions.

A word is a run of letters, a run of digits or a single sign, lower-cased. Words are hashed by a polynomial over their
UTF-8 bytes, whose prefix sums give the hash of every word of many texts at once. Pairs of words were tried and told
nothing more of a subject, at twice the work.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

BITS = 20  # hashed words: a million, so that few words of one policy share one
CAP_CHARS = 4_000  # of a text that is looked at: work per row is bounded
_CHUNK = 1 << (31 - BITS)  # texts at a time, so that text and word fit into 32 bits, which sort faster
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
_BASE_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))

_SPACE, _LETTER, _DIGIT, _SIGN = range(4)
_KINDS = np.full(256, _SPACE, dtype=np.uint8)
_KINDS[33:127] = _SIGN
_KINDS[128:] = _LETTER  # any letter outside ASCII
_KINDS[np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)] = _LETTER
_KINDS[np.frombuffer(b"0123456789", np.uint8)] = _DIGIT

_COUNTED = (b"0123456789", b"\n", b".?!", b",", b"%", b"\\$^{}=+*/", b"?")  # signs whose number is part of the shape
_COUNTERS = np.zeros((256, len(_COUNTED)), np.float32)
for _place, _signs in enumerate(_COUNTED):
    _COUNTERS[np.frombuffer(_signs, np.uint8), _place] = 1
_IS_COUNTED = np.asarray(_COUNTERS.sum(axis=1) > 0)
SHAPES = len(_COUNTED) + 3


class Terms(NamedTuple):
    """The words of a column of texts, sorted by row then word; and the shape of each text.

    `row` and `term`, the hashed word, say which word stands in which text, `times` how often. `shapes` has a row a
    text and `SHAPES` columns: length, words, bytes per word, and counts of signs, damped.
    """

    row: Ints
    term: Ints
    times: Ints
    shapes: Floats


def terms(texts: pl.Series) -> Terms:
    """Return the words and shapes of each of *texts*; null counts as empty, and only the first `CAP_CHARS` count."""
    parts = [_terms(texts.slice(start, _CHUNK), start) for start in range(0, max(len(texts), 1), _CHUNK)]
    return Terms(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _terms(texts: pl.Series, first_row: int) -> Terms:
    text, offsets = _utf8(texts)
    starts, ends = _words(text, offsets)
    row = np.searchsorted(offsets, starts, side="right") - 1
    hashed = _hashes(text, starts, ends) >> np.uint64(64 - BITS)
    keys = row.astype(np.uint32) << np.uint32(BITS) | hashed.astype(np.uint32)
    keys, times = np.unique(keys, return_counts=True)
    term = (keys & np.uint32((1 << BITS) - 1)).astype(np.int64)
    shapes = _shapes(text, offsets, np.bincount(row, minlength=len(texts)))
    return Terms((keys >> np.uint32(BITS)).astype(np.int64) + first_row, term, times, shapes)


def _utf8(texts: pl.Series) -> tuple[Bytes, Ints]:
    """Return the lower-cased texts as one run of UTF-8, and where each begins and the last ends."""
    array = texts.fill_null("").str.slice(0, CAP_CHARS).str.to_lowercase().rechunk().to_arrow()
    _, offsets_buffer, data = array.buffers()
    if not len(array) or data is None:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _words(text: Bytes, offsets: Ints) -> tuple[Ints, Ints]:
    """Return where each word begins and ends; no word goes over from one text to the next."""
    kinds = _KINDS[text]
    begins = np.ones(len(text) + 1, dtype=bool)
    begins[1:-1] = (kinds[1:] != kinds[:-1]) | (kinds[1:] == _SIGN)
    begins[offsets] = True
    edges = np.flatnonzero(begins)
    starts, ends = edges[:-1], edges[1:]
    is_word = kinds[starts] != _SPACE
    return starts[is_word], ends[is_word]


def _hashes(text: Bytes, starts: Ints, ends: Ints) -> Hashes:
    prefix = np.zeros(len(text) + 1, np.uint64)
    np.cumsum((text.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, len(text)), out=prefix[1:])
    hashes = (prefix[ends] - prefix[starts]) * _powers(_BASE_INVERSE, len(text))[starts]
    return _mix(hashes)


def _powers(base: np.uint64, count: int) -> Hashes:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def _mix(hashes: Hashes) -> Hashes:
    """Spread *hashes* over all bits: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    mixed = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _shapes(text: Bytes, offsets: Ints, words: Ints) -> Floats:
    length = np.diff(offsets)
    row = np.repeat(np.arange(len(length)), length)
    is_counted = _IS_COUNTED[text]
    row, signs = row[is_counted], text[is_counted]
    counts = [np.bincount(row, counter[signs], minlength=len(length)) for counter in _COUNTERS.T]
    return np.stack([np.log1p(length), np.log1p(words), length / (1 + words), *map(np.sqrt, counts)], axis=1)
