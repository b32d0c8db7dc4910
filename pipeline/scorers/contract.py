"""What every scorer keeps to."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Score(NamedTuple):
    """How good an answer is, from 0 (wrong) to 1 (right), and why.

    `parts` is what a score of many answers together is made of (`Whole`): two texts, or whole numbers that add up.
    """

    value: float
    reason: str
    parts: tuple[Any, ...] = ()


Scorer = Callable[[str, Any], Score]
"""`score(answer, reference) -> Score`. Any answer has a score, an empty one 0.

ValueError is raised only for a *reference* that cannot be compared with.
"""


class Whole(NamedTuple):
    """A score of many answers together, which is no mean of theirs: macro-F1, corpus BLEU."""

    metric: str
    score: Callable[[Any], float]
    """From 0 to 1, of a Counter of (reference, answer) for labels, otherwise of the sums of `parts`."""


def right_answers(reference: Any) -> list[str]:
    """Return the texts any of which is right: the items of a list, or the one value.

    Whole floats count as integers and booleans as true and false, as a model would write them.

    Raises:
        ValueError: when there is no text but white space.
    """
    items = reference if isinstance(reference, list | tuple) else [reference]
    texts = [text for text in map(_text, items) if text.strip()]
    if not texts:
        raise ValueError("the reference is empty")
    return texts


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def quoted(text: str) -> str:
    """Return *text* in quotes, short enough for a reason."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def same_or_not(found: str, right: list[str]) -> Score:
    """Return 1 when *found* is one of *right*, else 0."""
    if found in right:
        return Score(1.0, f"{quoted(found)} is right")
    return Score(0.0, f"{quoted(found)} should be {' or '.join(map(quoted, right[:3]))}")
