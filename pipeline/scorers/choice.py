"""Multiple choice: the letter that the answer settles on."""

import re
from typing import Any

from pipeline.scorers.contract import Score, quoted, right_answers, same_or_not

# A letter that stands alone, and is neither the article A nor the pronoun I.
_LETTER = r"([B-HJ-Z]|A(?!\s{1,3}(?!is\b|because\b)[a-z])|I(?!\s{1,3}[a-z]))(?![A-Za-z0-9'’])"
# In order of trust; of the matches of one the last counts, as reasoning comes first. Repeats are bounded or anchored,
# so that a hostile answer costs linear time.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?i:answer)(?i: is)?\W{{0,12}}(?i:option\W|choice\W)?\W{{0,12}}{_LETTER}",  # The answer is (C)
        r"\\boxed\{(?:\\text\{)?\(?([A-Za-z])\)?\}",
        r"\A\W*([A-Za-z])\W*\Z",  # nothing but a letter
        r"\(([A-Za-z])\)",
        r"\A\W*([A-Z])[).:]",  # C) Paris
        rf"(?<![A-Za-z0-9'’]){_LETTER}",
    )
)


def score(answer: str, reference: Any) -> Score:
    """Return 1 when the letter chosen in *answer* is that of *reference*, or one of them."""
    right = [letter for text in right_answers(reference) if (letter := chosen_letter(text)) is not None]
    if not right:
        raise ValueError(f"the reference {quoted(str(reference))} is no letter")
    found = chosen_letter(answer)
    return Score(0.0, "no letter in the answer") if found is None else same_or_not(found, right)


def chosen_letter(text: str) -> str | None:
    """Return the letter, upper case, that *text* chooses; None where it chooses none."""
    for pattern in _PATTERNS:
        letters = pattern.findall(text)
        if letters:
            return str(letters[-1]).upper()
    return None
