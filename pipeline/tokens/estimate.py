"""How many tokens a text has, told from its bytes: no vocabulary, no network.

Each character weighs something: an ASCII one by its kind and by the kind of what stands before it (a letter after a
space begins a word, a space after a space is cheap), any other by the first byte of its UTF-8, which tells the script.
The weights are the least squares of relative errors over 16,000 texts, prompts and answers in 31 languages and eight
kinds of code, counted with the vocabulary o200k_base. Of 4,800 texts over 200 characters that were held back 99% are
within 25% of their count, and two below 0.6 of it. Sums are within 5% for Arabic, Chinese, Czech, English, French,
German, Japanese, Korean, Portuguese, Russian, Spanish and code, and 12 to 22% low for Finnish, Hungarian, Indonesian,
Italian, Polish and Swedish. Text without sense (random letters or ideographs) and Ethiopic have several times more.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_UNITS = 163  # of a token, in which weights are counted: each fits a byte, and lower case comes out nearly exact

_SPACE, _NEWLINE, _LOWER, _UPPER, _DIGIT, _SIGN, _SYMBOL, _INSIDE = range(8)
_ASCII_KINDS = {
    _SPACE: b" ",
    _NEWLINE: b"\t\n\v\f\r",
    _LOWER: b"abcdefghijklmnopqrstuvwxyz",
    _UPPER: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    _DIGIT: b"0123456789",
    _SIGN: b".,;:!?'\"()-",
}  # all other ASCII is _SYMBOL, and _INSIDE is a byte of a character beyond ASCII
_AFTER = (
    # space, newline, lower, upper, digit, sign, symbol
    (2, 118, 27, 61, 249, 112, 99),  # after a space
    (144, 40, 136, 145, 137, 163, 5),  # after a newline, and at the beginning
    (85, 137, 16, 242, 218, 131, 98),  # after a lower-case letter
    (24, 83, 12, 36, 253, 131, 126),  # after an upper-case letter
    (31, 121, 97, 253, 52, 103, 100),  # after a digit
    (130, 0, 29, 108, 192, 4, 98),  # after a sign
    (111, 0, 88, 47, 163, 100, 34),  # after a symbol
    (11, 60, 0, 154, 182, 79, 218),  # after a character beyond ASCII
)
_BY_FIRST_BYTE = (
    (0xC2, 161),  # signs, from this byte on
    (0xC3, 175),  # Western Latin
    (0xC4, 253),  # other Latin
    (0xCC, 55),  # Greek
    (0xD0, 48),  # Cyrillic
    (0xD4, 56),  # Armenian, Hebrew
    (0xD8, 55),  # Arabic
    (0xE0, 56),  # Indic scripts, Thai
    (0xE1, 61),  # Georgian, Vietnamese
    (0xE2, 192),  # typographic signs
    (0xE3, 118),  # kana
    (0xE4, 124),  # ideographs
    (0xEA, 114),  # hangul
    (0xEE, 124),  # full-width signs
    (0xF0, 235),  # emoji, rare ideographs
)
_SLICE_BYTES = 1 << 20  # so much at a time stays in the cache


def _kinds() -> bytes:
    """Return the kind of every byte; characters beyond ASCII have one kind for each script after the first eight."""
    kinds = bytearray([_SYMBOL] * 0x80 + [_INSIDE] * 0x80)
    for kind, members in _ASCII_KINDS.items():
        for byte in members:
            kinds[byte] = kind
    for kind, (first, _) in enumerate(_BY_FIRST_BYTE, start=8):
        kinds[first:] = bytes([kind] * (0x100 - first))
    return bytes(kinds)


def _weights() -> bytes:
    """Return the weight of every pair of kinds, at 32 times the one before plus the one that weighs."""
    by_script = [weight for _, weight in _BY_FIRST_BYTE]
    rows: Iterable[list[int]] = ([*row, 0, *by_script] for row in _AFTER)
    return b"".join(bytes(row).ljust(32, b"\0") for row in rows)


_KINDS = _kinds()
_WEIGHTS = _weights()


def estimate_tokens(texts: pl.Series | pa.LargeStringArray) -> pl.Series:
    """Return the estimated number of tokens of each text: 0 for null and for an empty one, at least 1 otherwise."""
    array = texts.cast(pl.String).to_arrow() if isinstance(texts, pl.Series) else texts
    if array.null_count:
        array = array.fill_null("")
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = memoryview(data_buffer if data_buffer is not None else b"")
    tokens = np.zeros(len(array), dtype=np.int64)
    slices = np.flatnonzero(np.diff((offsets - offsets[:1]) // _SLICE_BYTES)).tolist()
    for start, end in pairwise([0, *slices, len(array)]):
        tokens[start:end] = _estimate(data, offsets[start : end + 1])
    return pl.Series("tokens", tokens)


def _estimate(data: memoryview, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the tokens of the texts that lie in *data* between the neighbours of *offsets*."""
    tokens = np.zeros(max(0, len(offsets) - 1), dtype=np.int64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        # Empty texts take no bytes, so each of the others begins where the one before it ends.
        starts = offsets[filled] - offsets[0]
        weights = _weigh(data[int(offsets[0]) : int(offsets[-1])], starts)
        # 32 bits are three times as quick, and hold the sum of any slice but one longer than 16 MB.
        wide = np.int64 if len(weights) >= 1 << 24 else np.uint32
        sums = np.add.reduceat(weights, starts, dtype=wide)
        tokens[filled] = np.maximum(1, (sums + _UNITS // 2) // _UNITS)
    return tokens


def _weigh(data: memoryview, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the weight of each byte of *data*, texts that begin at *starts*; bytes inside a character have none."""
    kinds = np.frombuffer(data.tobytes().translate(_KINDS), dtype=np.uint8)
    pairs = np.empty_like(kinds)
    # Only the lower three bits of the kind before are left. They are the kind of any byte that ends a character, and
    # what follows another byte is inside a character and weighs nothing.
    np.multiply(kinds[:-1], np.uint8(32), out=pairs[1:])
    pairs[starts] = 32 * _NEWLINE
    pairs |= kinds
    return np.frombuffer(pairs.tobytes().translate(_WEIGHTS), dtype=np.uint8)
