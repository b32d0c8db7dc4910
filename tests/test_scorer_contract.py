"""The one contract of all built-in scorers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scorers import BUILT_IN, Score, find_scorer

# A right reference of each scorer, and an answer that must score 1 against it.
RIGHT = {
    "exact": ("Paris", "Paris"),
    "normalised": ("the Eiffel Tower", "Eiffel tower."),
    "label": ("card_arrival", "Label: Card arrival."),
    "number": ("#### 1000", "It is 1,000."),
    "choice": ("C", "The answer is (C)."),
    "json": ('{"a": 1}', '{"a": 1.0}'),
    "chrf": ("Guten Morgen", "Guten Morgen"),
    "chrfpp": ("Guten Morgen", "Guten Morgen"),
    "bleu": ("Guten Morgen", "Guten Morgen"),
    "tests": ("assert double(2) == 4", "```python\ndef double(x):\n    return 2 * x\n```"),
}

texts = st.text(max_size=60) | st.sampled_from(
    [
        "A",
        "(b)",
        "12",
        "1,000.5",
        "#### 7",
        '{"a": [1, null]}',
        "[[]]",
        "NaN",
        "1e999",
        "-",
        "Answer:",
        '"""',
        "\x00",
        "\ud800",
    ]
)


def test_every_built_in_scorer_is_held_to_the_contract() -> None:
    """A scorer added without an example here fails."""
    assert RIGHT.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_right_answer_scores_one_and_an_empty_one_nothing(name) -> None:
    """The ends of the scale are reached, each with a reason."""
    score, (reference, answer) = find_scorer(name), RIGHT[name]
    right, empty = score(answer, reference), score("", reference)
    assert (right.value, empty.value) == (1, 0)
    assert right.reason
    assert empty.reason


@pytest.mark.parametrize("name", BUILT_IN)
@given(answer=texts, reference=texts | st.integers() | st.floats() | st.lists(texts, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_answer_has_a_score_from_0_to_1(name, answer, reference) -> None:
    """Whatever comes, there is a Score in 0..1 with a reason, or ValueError for the reference, and the same again."""
    score = find_scorer(name)
    try:
        first = score(answer, reference)
    except ValueError:
        # The fault is the reference's, so it is there for a good answer too.
        with pytest.raises(ValueError, match="reference"):
            score(RIGHT[name][1], reference)
        return
    assert isinstance(first, Score)
    assert 0 <= first.value <= 1
    assert first.reason
    assert score(answer, reference) == first


@pytest.mark.parametrize("name", ["number", "choice", "label", "json", "exact"])
@pytest.mark.parametrize(
    "hostile", ["answer" + " " * 200_000, "9," * 100_000, "(" * 200_000, "1" * 200_000, "_-" * 100_000]
)
@pytest.mark.timeout(5)
def test_a_hostile_answer_costs_linear_time(name, hostile) -> None:
    """No pattern backtracks its way through a long answer."""
    assert find_scorer(name)(hostile, RIGHT[name][0]).value == 0
