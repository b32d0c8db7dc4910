"""docs/faults.md: a line for every fault, and no test that is not there."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_DOC = (_ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
_FAULTS = {"P": 19, "D": 18, "N": 24, "M": 5, "B": 8}


def test_every_fault_has_its_line() -> None:
    """P1 to P19, D1 to D18, N1 to N24, M1 to M5 and B1 to B8 are all there, each once."""
    firsts = re.findall(r"^\| ([PDNMB]\d+(?:, [PDNMB]\d+)*) \|", _DOC, re.MULTILINE)
    told = [fault for first in firsts for fault in first.split(", ")]
    assert told == [f"{letter}{number}" for letter, last in _FAULTS.items() for number in range(1, last + 1)]


def test_every_test_that_is_named_exists() -> None:
    """Each test file and test function named in the table is in the tests."""
    files = [path for folder in ("tests", "tests/e2e") for path in (_ROOT / folder).glob("test_*.py")]
    there = {path.name for path in files}
    for path in files:
        there |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\btest_\w+(?:\.py)?\b", _DOC)) - there == set()
