"""Number match, as GSM8K is graded: the number after `####`, otherwise the last one, compared as decimals."""

import re
from collections import deque
from decimal import Decimal
from typing import Any

from pipeline.scorers.contract import Score, quoted, right_answers

# After a letter it is part of a name (H2O), after a digit or point part of another number; 10-5 is no -5.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.])([-−+]?)[$€£]?([-−]?)((?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"((?:[eE][-+]?[0-9]{1,3})?)"
)


def score(answer: str, reference: Any) -> Score:
    """Return 1 when the number that *answer* ends in equals that of *reference*: 1,000.0 is 1000.

    The reference may be a number, a text with one, a worked solution that ends in `#### n`, or a list of them.
    """
    right = {number for text in right_answers(reference) if (number := last_number(text)) is not None}
    if not right:
        raise ValueError(f"the reference {quoted(str(reference))} has no number")
    found = last_number(answer)
    if found is None:
        return Score(0.0, "no number in the answer")
    if found in right:
        return Score(1.0, f"{_short(found)} is right")
    return Score(0.0, f"{_short(found)} should be {' or '.join(sorted(map(_short, right)))}")


def last_number(text: str) -> Decimal | None:
    """Return the first number after the last `####`, or the last number of *text*; None where there is none."""
    _, marked, tail = text.rpartition("####")
    found = _NUMBER.search(tail) if marked else None
    if found is None:
        last = deque(_NUMBER.finditer(text), maxlen=1)
        if not last:
            return None
        found = last[0]
    sign, inner_sign, digits, exponent = found.groups()
    minus = "-" if {sign, inner_sign} & {"-", "−"} else ""
    return Decimal(minus + digits.replace(",", "") + exponent)


def _short(number: Decimal) -> str:
    return quoted(str(number))[1:-1]
