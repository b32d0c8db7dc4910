"""Cascades by agreement: who is asked next, whose answer counts, and what of an answer is compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.agreement import AGREE, Ask, Cascade, Heard, Keep, comparable, next_of, read_cascade
from pipeline.policy import Arm, Recorded, play

MODELS = ("a", "b", "c", "d")


def asked(answers: list[Heard]) -> tuple[int, int]:
    """Return how many of the models that would say *answers* are asked, and whose answer counts."""
    heard: list[Heard] = []
    while isinstance(step := next_of(heard, len(answers)), Ask):
        assert step.place == len(heard)
        heard.append(answers[step.place])
    return len(heard), step.place


@given(st.lists(st.integers(-1, 2), min_size=2, max_size=4))
def test_a_night_decides_as_the_policy_was_learned(answers: list[int]) -> None:
    """As many models are asked as `play` charges, and the answer that counts is the one it scores."""
    models = MODELS[: len(answers)]
    scores = np.arange(len(answers), dtype=float)[None]
    recorded = Recorded(models, scores, np.ones((1, len(answers))), np.array([answers]))
    played = play(Arm(models), recorded)
    calls, place = asked([Heard(None if answer < 0 else str(answer), sound=True) for answer in answers])
    assert (calls, place) == (played.calls[0], played.scores[0])
    assert calls == played.costs[0]


@given(st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.booleans()), min_size=2, max_size=4))
def test_a_failure_never_counts_where_any_model_answered(answers: list[tuple[str | None, bool]]) -> None:
    """What counts is an answer, if any of the models that were asked gave one."""
    heard = [Heard(key if sound else None, sound) for key, sound in answers]
    calls, place = asked(heard)
    assert calls >= 2
    assert heard[place].sound or not any(one.sound for one in heard[:calls])


def test_two_models_without_an_answer_do_not_agree() -> None:
    """Nothing and nothing is no agreement: the further model is asked."""
    assert next_of([Heard(None, sound=True), Heard(None, sound=True)], 3) == Ask(2)
    assert next_of([Heard("x", sound=True), Heard("x", sound=True)], 3) == Keep(0)


@pytest.mark.parametrize(
    ("agree", "one", "other", "same"),
    [
        ("exact", " yes\n", "yes", True),
        ("exact", "Yes", "yes", False),
        ("normalised", "The Yes!", "yes", True),
        ("choice", "The answer is (C).", "C", True),
        ("choice", "The answer is (C).", "B", False),
        ("number", "so 1,000.0 apples", "#### 1000", True),
        ("number", "-0", "0", True),
        ("json", '{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ("json", '{"a": 1}', '{"a": 2}', False),
    ],
)
def test_what_is_compared(agree: str, one: str, other: str, same: bool) -> None:
    """Answers agree when what the job compares of them is the same."""
    assert (comparable(one, agree) == comparable(other, agree)) is same
    assert comparable(one, agree) is not None


@given(st.sampled_from(list(AGREE)), st.text(max_size=30))
def test_any_text_can_be_compared(agree: str, text: str) -> None:
    """No answer, however odd, stops a cascade, and what is compared is never empty."""
    assert comparable(text, agree) != ""


def test_a_cascade_survives_its_text() -> None:
    """What the plan holds is read back as it was."""
    cascade = Cascade(("b", "c"), "number")
    assert read_cascade(cascade.text) == cascade
