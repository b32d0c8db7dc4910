"""What the learned model looks at: hashed words, pairs and triples of words, those of the two ends of a text apart."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.classify.words import Counts, Hashes, Words, cut_words, mixed

HEAD_CHARS, TAIL_CHARS = 400, 200  # of a longer text, what stands between is not looked at
HASH_BITS = 18
_HEAD_WORDS, _TAIL_WORDS = 24, 16
_HEAD, _BODY, _TAIL = range(3)
_WORD, _PAIR, _HEAD_WORD, _HEAD_PAIR, _TAIL_WORD, _TAIL_PAIR, _TRIPLE, _STEM, _STEM_PAIR, _HEAD_STEM = (
    np.uint64(number * 0x9E3779B97F4A7C15 % 2**64) for number in range(1, 11)
)


class Grams(NamedTuple):
    """One kind of n-gram: bucket and weight of the one that ends at each token, weight 0 where there is none."""

    buckets: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]


def looked_at(texts: pl.Series) -> pl.Series:
    """Return *texts* in lower case, stripped, of a long one only the two ends."""
    texts = texts.str.strip_chars()
    long = (texts.str.len_chars() > HEAD_CHARS + TAIL_CHARS).arg_true()
    if len(long):
        text = pl.col("text")
        ends = pl.concat_str(text.str.head(HEAD_CHARS), text.str.tail(TAIL_CHARS), separator="\n")
        texts = texts.scatter(long, texts.gather(long).to_frame("text").select(ends).to_series())
    return texts.str.to_lowercase()


def find_grams(texts: pl.Series) -> tuple[Words, list[Grams]]:
    """Return the words of *texts*, which `looked_at` gave, and each kind of n-gram.

    The n-grams of a kind weigh 1/sqrt(their number in the text), so that a long payload does not outvote a short
    instruction.
    """
    words = cut_words(texts)
    number, place = _places(words)
    word, stem = mixed(words.hashes), mixed(words.stems)
    pair = _after(word, word, 1)
    everywhere = np.ones(len(word), dtype=bool)
    second, ends = number >= 1, place != _BODY
    kinds: list[tuple[Hashes, np.uint64, npt.NDArray[np.bool_]]] = [
        (word, _WORD, everywhere),
        (pair, _PAIR, second),
        (word, _HEAD_WORD, place == _HEAD),
        (pair, _HEAD_PAIR, second & (place == _HEAD)),
        (word, _TAIL_WORD, place == _TAIL),
        (pair, _TAIL_PAIR, second & (place == _TAIL)),
        (_after(pair, word, 2), _TRIPLE, (number >= 2) & ends),
        (stem, _STEM, everywhere),
        (_after(stem, stem, 1), _STEM_PAIR, second & ends),
        (stem, _HEAD_STEM, place == _HEAD),
    ]
    return words, [_grams(words, hashes ^ salt, there) for hashes, salt, there in kinds]


def _places(words: Words) -> tuple[Counts, npt.NDArray[np.int8]]:
    """Return each token's number in its text, and whether it is in the head, the body or the tail."""
    starts = np.cumsum(words.per_row) - words.per_row
    number = np.arange(len(words.rows)) - starts[words.rows]
    place = np.where(words.per_row[words.rows] - number <= _TAIL_WORDS, np.int8(_TAIL), np.int8(_BODY))
    place[number < _HEAD_WORDS] = _HEAD
    return number, place


def _after(hashes: Hashes, others: Hashes, back: int) -> Hashes:
    """Return for each token a hash of its hash and of the other hash of the token *back* before it."""
    joined = hashes.copy()
    joined[back:] = hashes[back:] * np.uint64(0xC2B2AE3D27D4EB4F) + others[: max(0, len(others) - back)]
    return mixed(joined)


def _grams(words: Words, hashes: Hashes, there: npt.NDArray[np.bool_]) -> Grams:
    buckets = (mixed(hashes) >> np.uint64(64 - HASH_BITS)).astype(np.intp)
    count = np.bincount(words.rows[there], minlength=len(words.per_row))
    share = (1 / np.sqrt(np.maximum(count, 1))).astype(np.float32)
    return Grams(buckets, np.where(there, share[words.rows], np.float32(0)))
