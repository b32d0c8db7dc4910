"""Texts as numbers: hashed words and word pairs, and the shape of the text. Stable across machines and versions.

A word is a run of letters, a run of digits or a single sign, lower-cased. Words are hashed by a polynomial over their
UTF-8 bytes, whose prefix sums give the hash of every word of a whole column at once.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

BITS = 22  # hashed features: 4 million, so that few words of one policy share one
CAP_CHARS = 4_000  # of a text that is looked at: work per row is bounded
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
_BASE_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))

_NONE, _WORD, _DIGITS, _SIGN = range(4)
_KINDS = np.full(256, _NONE, dtype=np.uint8)
_KINDS[33:127] = _SIGN
_KINDS[128:] = _WORD  # any letter outside ASCII
_KINDS[np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)] = _WORD
_KINDS[np.frombuffer(b"0123456789", np.uint8)] = _DIGITS

_SHAPES = (
    r"[\t-\r ]+",  # gaps between words
    r"[0-9]+",  # numbers
    r"[0-9]",
    r"\n",
    r"[.?!][ \n]",  # sentences
    r"[\\$^{}=+*/]",  # formulas
    r"[?]",
    r"%",
    r"(?-u:\b)(not|except|least|false|never|incorrect)(?-u:\b)",
    r",",
    r"(?-u:\b)(half|twice|third|quarter|times|percent|double|triple)(?-u:\b)",
    r"(?-u:\b)(each|every|per|if|than|remaining|left)(?-u:\b)",
    r"[0-9]\.[0-9]",
)
SHAPES = len(_SHAPES) + 2


class Terms(NamedTuple):
    """The terms of a column of texts, sorted by row then term: row, hashed term, and how often it stands there."""

    row: Ints
    term: Ints
    times: Ints
    rows: int


def terms(texts: pl.Series) -> Terms:
    """Return the words and the pairs of adjoining words of each of *texts*; null counts as empty."""
    row, word = _words(texts)
    adjoining = row[1:] == row[:-1]
    pairs = _mix(word[:-1] * np.uint64(3) + word[1:])[adjoining]
    hashed = np.concatenate([word, pairs]) >> np.uint64(64 - BITS)
    keys = np.concatenate([row, row[:-1][adjoining]]).astype(np.uint64) << np.uint64(BITS) | hashed
    keys, counts = np.unique(keys, return_counts=True)
    mask = np.uint64((1 << BITS) - 1)
    return Terms((keys >> np.uint64(BITS)).astype(np.int64), (keys & mask).astype(np.int64), counts, len(texts))


def shapes(texts: pl.Series) -> Floats:
    """Return length, counts and mean word length of each of *texts*, damped: a row a text, `SHAPES` columns."""
    seen = texts.fill_null("").str.slice(0, CAP_CHARS).str.to_lowercase()
    length = seen.str.len_chars().to_numpy().astype(np.float64)
    counts = [seen.str.count_matches(pattern).to_numpy().astype(np.float64) for pattern in _SHAPES]
    return np.stack([np.log1p(length), length / (1 + counts[0]), *map(np.sqrt, counts)], axis=1)


def _words(texts: pl.Series) -> tuple[Ints, Hashes]:
    """Return row and hash of every word, in order."""
    array = texts.fill_null("").str.slice(0, CAP_CHARS).str.to_lowercase().rechunk().to_arrow()
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    empty = np.empty(0, np.uint8)
    text = empty if data is None else np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    if not len(text):
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    kinds = _KINDS[text]
    begins = np.empty(len(text) + 1, dtype=bool)
    begins[1:-1] = (kinds[1:] != kinds[:-1]) | (kinds[1:] == _SIGN)
    begins[offsets] = True  # no word goes over from one text to the next
    edges = np.flatnonzero(begins)
    starts, ends = edges[:-1], edges[1:]
    is_word = kinds[starts] != _NONE
    starts, ends = starts[is_word], ends[is_word]
    prefix = np.zeros(len(text) + 1, np.uint64)
    np.cumsum((text.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, len(text)), out=prefix[1:])
    hashes = (prefix[ends] - prefix[starts]) * _powers(_BASE_INVERSE, len(text))[starts]
    return np.searchsorted(offsets, starts, side="right") - 1, _mix(hashes)


def _powers(base: np.uint64, count: int) -> Hashes:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _mix(hashes: Hashes) -> Hashes:
    """Spread *hashes* over all bits: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    mixed = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
