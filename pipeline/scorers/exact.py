"""Exact match, letter for letter or of normalised texts."""

import re
import string
import unicodedata
from typing import Any

from pipeline.scorers.contract import Score, right_answers, same_or_not

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score(answer: str, reference: Any) -> Score:
    """Return 1 when *answer* is *reference*, or one of them, letter for letter."""
    return same_or_not(answer.strip(), [text.strip() for text in right_answers(reference)])


def normalised_score(answer: str, reference: Any) -> Score:
    """Return 1 when *answer* is *reference*, or one of them, but for case, punctuation, articles and white space.

    The normalisation of SQuAD (Rajpurkar et al. 2016), after Unicode's NFKC.
    """
    right = [text for text in map(normalised, right_answers(reference)) if text]
    if not right:
        raise ValueError("the reference is punctuation only")
    return same_or_not(normalised(answer), right)


def normalised(text: str) -> str:
    """Return *text* without case, punctuation, articles and further white space."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", folded).split())
