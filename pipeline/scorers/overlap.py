"""Overlap with reference translations: chrF, chrF++ and BLEU by sacrebleu, from 0 to 1.

A row has its sentence score; a whole set has the corpus score that papers report, which is no mean of them.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sacrebleu import BLEU, CHRF

from pipeline.scorers.contract import Score, right_answers


@cache
def _metric(name: str) -> Any:
    match name:
        case "chrF":
            return CHRF()
        case "chrF++":
            return CHRF(word_order=2)
        case "BLEU":
            # Without the effective order, a sentence of three words has BLEU 0.
            return BLEU(effective_order=True)
        case _:
            return BLEU()


def chrf(answer: str, reference: Any) -> Score:
    """Return sentence chrF / 100 (Popović 2015: character n-grams to 6, beta 2)."""
    return _score("chrF", answer, reference)


def chrfpp(answer: str, reference: Any) -> Score:
    """Return sentence chrF++ / 100 (Popović 2017: chrF with word n-grams to 2)."""
    return _score("chrF++", answer, reference)


def bleu(answer: str, reference: Any) -> Score:
    """Return sentence BLEU / 100 (Papineni 2002; tokens 13a, exponential smoothing): not for texts without spaces."""
    return _score("BLEU", answer, reference)


def corpus_chrf(sums: Sequence[int]) -> float:
    """Return corpus chrF / 100 of summed `parts`."""
    return _value("chrF", sums)


def corpus_chrfpp(sums: Sequence[int]) -> float:
    """Return corpus chrF++ / 100 of summed `parts`."""
    return _value("chrF++", sums)


def corpus_bleu(sums: Sequence[int]) -> float:
    """Return corpus BLEU / 100 of summed `parts`."""
    return _value("corpus BLEU", sums)


def _score(name: str, answer: str, reference: Any) -> Score:
    right = right_answers(reference)
    # The counts of sacrebleu's own sentence_score, kept because those of a corpus are their sums.
    (counts,) = _metric(name)._extract_corpus_statistics([answer], [[text] for text in right])
    value = _value(name, counts)
    reason = f"{name} {100 * value:.1f} against {len(right)} reference{'s' if len(right) > 1 else ''}"
    return Score(value, reason, tuple(counts))


def _value(name: str, counts: Sequence[int]) -> float:
    return min(float(_metric(name)._compute_score_from_stats(list(counts)).score) / 100, 1.0)
