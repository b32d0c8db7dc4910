"""Exact match: the answer is the reference, but for white space at its ends."""

from typing import Any

from pipeline.scorers.contract import Score, right_answers, same_or_not


def score(answer: str, reference: Any) -> Score:
    """Return 1 when *answer* is *reference*, or one of them, letter for letter."""
    return same_or_not(answer.strip(), [text.strip() for text in right_answers(reference)])
