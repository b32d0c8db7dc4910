"""Label match: `Label: "Card-Arrival".` is the label card_arrival."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from pipeline.scorers.contract import Score, right_answers, same_or_not

_LEAD = re.compile(
    r"(?:the )?(?:final |correct |best )?"
    r"(?:answer|category|class|classification|intent|label|sentiment|topic)(?: is\b:?| ?[:=])"
)
_SEPARATORS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_MARKS = " \t\r\n\"'`*“”‘’«»„"


def score(answer: str, reference: Any) -> Score:
    """Return 1 when *answer* names the label *reference*, or one of them, and nothing else."""
    right = [text for text in map(normalised, right_answers(reference)) if text]
    if not right:
        raise ValueError("the reference is no label")
    said = normalised(answer)
    # With several right labels, the one that was said is the reference, otherwise the first.
    return same_or_not(said, right)._replace(parts=(said if said in right else right[0], said))


def macro_f1(pairs: Mapping[tuple[str, str], int]) -> float:
    """Return the mean F1 of the labels among the references, each label counting alike (Manning et al. 2008, 13.6).

    *pairs* counts (reference, answer). An answer that is no label of a reference is a miss, and no class of its own.
    """
    labels = sorted({reference for reference, _ in pairs})
    wanted = dict.fromkeys(labels, 0)
    given = dict.fromkeys(labels, 0)
    for (reference, answer), count in pairs.items():
        wanted[reference] += count
        if answer in given:
            given[answer] += count
    return sum(2 * pairs.get((label, label), 0) / (wanted[label] + given[label]) for label in labels) / len(labels)


def normalised(text: str) -> str:
    """Return the bare label in *text*: no case, quotes, emphasis, final period or `Label:` before it.

    Spaces, hyphens and underscores inside a label are one; a leading sign stays, as -1 and 1 are two labels.
    """
    bare = _bare(unicodedata.normalize("NFKC", text).casefold())
    lead = _LEAD.match(bare)
    # "Intent" alone may be a label: a lead is only one before something else.
    return _SEPARATORS.sub(" ", (_bare(bare[lead.end() :]) if lead else "") or bare)


def _bare(text: str) -> str:
    return text.lstrip(_MARKS).rstrip(_MARKS + ".")
