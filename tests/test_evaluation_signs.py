"""What an answer to a word problem shows of itself."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evaluation.signs import arithmetic, signs


@pytest.mark.parametrize(
    ("answer", "results", "wrong"),
    [
        ("She has 3 + 4 = 7 eggs and 7 x $2 = $14.", [7.0, 14.0], 0),
        ("That is 12 / 5 = 2.4 and (2 + 3) * 4 = 21.", [2.4, 21.0], 1),
        ("20% * 50 = 10, and 1,000 - 1 = 999", [10.0, 999.0], 0),
        ("x = 3, 7 = 7 and 1 / 0 = 5 are no sums", [], 0),
        ("10 / 3 = 3.33", [3.33], 0),
    ],
)
def test_sums_are_done_again(answer: str, results: list[float], wrong: int) -> None:
    """Every sum before an equals sign is done again, in the ways people write them; what is no sum is passed over."""
    assert arithmetic(answer) == (results, wrong)


@given(st.text(alphabet="0123456789+-*/=().,%$x ab\n", max_size=60))
def test_signs_never_fail(text: str) -> None:
    """Any text gives a row of finite numbers."""
    shown = signs(pl.Series(["How many of 3?"]), pl.Series([text]))
    assert shown.shape[0] == 1
    assert (abs(shown) < float("inf")).all()
