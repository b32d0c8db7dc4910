"""Overlap with reference translations: sentence chrF, chrF++ and BLEU by sacrebleu, from 0 to 1.

Means over rows are means of sentence scores: not the corpus scores that papers report.
"""

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
        case _:
            # Without the effective order, a sentence of three words has BLEU 0.
            return BLEU(effective_order=True)


def chrf(answer: str, reference: Any) -> Score:
    """Return sentence chrF / 100 (Popović 2015: character n-grams to 6, beta 2)."""
    return _score("chrF", answer, reference)


def chrfpp(answer: str, reference: Any) -> Score:
    """Return sentence chrF++ / 100 (Popović 2017: chrF with word n-grams to 2)."""
    return _score("chrF++", answer, reference)


def bleu(answer: str, reference: Any) -> Score:
    """Return sentence BLEU / 100 (Papineni 2002; tokens 13a, exponential smoothing): not for texts without spaces."""
    return _score("BLEU", answer, reference)


def _score(name: str, answer: str, reference: Any) -> Score:
    right = right_answers(reference)
    value = min(_metric(name).sentence_score(answer, right).score / 100, 1.0)
    return Score(value, f"{name} {100 * value:.1f} against {len(right)} reference{'s' if len(right) > 1 else ''}")
