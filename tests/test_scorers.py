"""Scorers one by one: what counts as right, what as wrong, and what is no reference."""

import json
import math
from decimal import Decimal

import pytest

from pipeline.errors import JobError
from pipeline.scorers import BUILT_IN, Score, find_scorer
from pipeline.scorers.choice import chosen_letter
from pipeline.scorers.label import normalised
from pipeline.scorers.number import last_number


def value(name, answer, reference):
    return find_scorer(name)(answer, reference).value


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        (" Paris\n", "Paris", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("Paris", ["Lutetia", "Paris"], 1),
        ("3", 3, 1),
        ("3", 3.0, 1),
        ("true", True, 1),
    ],
)
def test_exact_forgives_white_space_at_the_ends_only(answer, reference, expected) -> None:
    """An exact match is letter for letter, with any of several references."""
    assert value("exact", answer, reference) == expected


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('Label: "Card-Arrival".', "card arrival"),
        ("card_arrival", "card arrival"),
        ("**Positive**", "positive"),
        ("The answer is positive.", "positive"),
        ("Sentiment = NEGATIVE", "negative"),
        ("„Ja“", "ja"),
        ("intent", "intent"),
        ("Label:", "label:"),
        ("-1", "-1"),
        ("c++", "c++"),
        (".net", ".net"),
        ("ＡＢ", "ab"),
    ],
)
def test_a_label_is_bared_of_what_models_put_round_it(text, bare) -> None:
    """Case, quotes, emphasis, a final period, a lead and the kind of separator do not make another label."""
    assert normalised(text) == bare


@pytest.mark.parametrize("answer", ["negative", "positive or negative", "positive\n\nBecause it is.", "1"])
def test_a_label_with_more_around_it_is_wrong(answer) -> None:
    """An answer that names another label, or more than the label, is wrong."""
    assert value("label", answer, ["positive", "-1"]) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so $1,234.50 in total", "1234.50"),
        ("72 clips\n#### 1,000\nas 3 * 4 = 12", "1000"),
        ("#### none, but 3", "3"),
        ("10-5", "5"),
        ("it is -5", "-5"),
        ("it is −$5", "-5"),
        ("$-5.", "-5"),
        ("1e-07", "1E-7"),
        (".5", "0.5"),
        ("50%", "50"),
        ("1, 2 and 3", "3"),
        ("made of H2O", None),
        ("", None),
    ],
)
def test_the_number_of_a_text_is_the_marked_or_the_last_one(text, number) -> None:
    """The number after #### counts, otherwise the last one, with signs, currency and thousands separators."""
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The total is 18.00", "She sells 9 * 2 = 18.\n#### 18", 1),
        ("0.1", 0.1, 1),
        ("17", 18, 0),
        ("1000", Decimal("1E+3"), 1),
        ("eighteen", 18, 0),
        ("2", [1, 2], 1),
    ],
)
def test_numbers_compare_by_value(answer, reference, expected) -> None:
    """18, 18.00 and a worked solution that ends in #### 18 are one number."""
    assert value("number", answer, reference) == expected


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C)", "C"),
        ("Answer: **E** because I say so", "E"),
        ("the answer is option D.", "D"),
        ("The answer is C, not option A", "C"),
        ("First I thought the answer is A, but the answer is B.", "B"),
        (r"so it is $\boxed{D}$", "D"),
        ("c", "C"),
        ("(b)", "B"),
        ("B) Paris", "B"),
        ("A. Paris", "A"),
        ("A) x\nB) y, so the best is (B).", "B"),
        ("A good answer: I think B", "B"),
        ("A is correct", "A"),
        ("I am not sure", None),
        ("I'm not sure", None),
        ("none of the above", None),
        ("", None),
    ],
)
def test_the_letter_of_a_text_is_the_one_it_settles_on(text, letter) -> None:
    """What is said to be the answer comes before a bracketed letter, and that before one that stands alone."""
    assert chosen_letter(text) == letter


RIGHT = {"name": "Ada", "age": 36, "address": {"city": "London", "zip": None}, "tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 1.0),
        ({"age": 36.0}, 1.0),
        ({"name": " Ada "}, 1.0),
        ({"age": "36"}, 4 / 5),
        ({"age": True}, 4 / 5),
        ({"tags": ["b", "a"]}, 3 / 5),
        ({"address": {}}, 4 / 6),
        ({"extra": 1}, 5 / 6),
        ({"extra": None}, 1.0),
    ],
)
def test_json_scores_the_share_of_leaves_that_agree(change, expected) -> None:
    """A wrong, missing or additional field costs its share; null is absent and numbers compare by value."""
    answer = json.dumps(RIGHT | change)
    assert value("json", answer, json.dumps(RIGHT)) == pytest.approx(expected)
    assert value("json", f"```json\n{answer}\n```", RIGHT) == pytest.approx(expected)


@pytest.mark.parametrize("answer", ["", "Ada", '{"name": "Ada"', "[" * 100_000])
def test_an_answer_that_is_no_json_scores_nothing(answer) -> None:
    """What cannot be parsed, however deep it is nested, is wrong and stops nothing."""
    assert find_scorer("json")(answer, RIGHT) == Score(0.0, "the answer is not JSON")


def test_overlap_scores_are_those_of_sacrebleu_divided_by_a_hundred() -> None:
    """Sentence chrF, chrF++ and BLEU are what their papers' formulas give, from 0 to 1."""
    answer, reference = "The cat sat on the mat", "The cat is sitting on the mat"
    for name, word_order in (("chrf", 0), ("chrfpp", 2)):
        expected = chrf_by_hand(answer, reference, word_order)
        assert value(name, answer, reference) == pytest.approx(expected, abs=1e-9)
    # All n-grams are right, so only the brevity penalty of 6 tokens for 7 is left.
    shorter = value("bleu", "the cat sat on the mat", "the cat sat on the mat today")
    assert shorter == pytest.approx(math.exp(1 - 7 / 6), abs=1e-9)


def chrf_by_hand(answer, reference, word_order):
    """Popović 2015, 2017: F2 of mean precision and recall of n-grams, up to 6 characters and *word_order* words."""
    precisions, recalls = [], []
    characters = [(answer.replace(" ", ""), reference.replace(" ", ""), n) for n in range(1, 7)]
    words = [(answer.split(), reference.split(), n) for n in range(1, word_order + 1)]
    for hypothesis, right, n in characters + words:
        ours = [tuple(hypothesis[i : i + n]) for i in range(len(hypothesis) - n + 1)]
        theirs = [tuple(right[i : i + n]) for i in range(len(right) - n + 1)]
        common = sum(min(ours.count(gram), theirs.count(gram)) for gram in set(ours))
        precisions.append(common / len(ours))
        recalls.append(common / len(theirs))
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 5 * precision * recall / (4 * precision + recall)


def test_the_best_of_several_references_counts() -> None:
    """A translation is measured against every reference."""
    assert value("chrf", "Guten Morgen", ["Hallo", "Guten Morgen"]) == 1


def test_a_scorer_is_found_by_dotted_path() -> None:
    """A user's function is found where it is, and a built-in name is such a path."""
    assert find_scorer("pipeline.scorers.exact:score") is find_scorer("exact")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exakt", "built in: exact, normalised, label"),
        ("nowhere.at_all:score", "No module named 'nowhere'"),
        ("pipeline.scorers.exact:nothing", "nothing"),
        ("pipeline.scorers:BUILT_IN", "is not a function"),
        (":", "package.module:function"),
    ],
)
def test_a_scorer_that_is_not_there_is_named_with_those_that_are(name, said) -> None:
    """The error names the scorer and what would be right."""
    with pytest.raises(JobError, match="scorer") as raised:
        find_scorer(name)
    assert said in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "reference"),
    [(name, reference) for name in BUILT_IN if name != "json" for reference in ("", "  ", None, [], [None])]
    + [
        ("number", "no number"),
        ("choice", "none of them"),
        ("choice", 3),
        ("json", "{"),
        ("json", ""),
        ("label", '""'),
    ],
)
def test_a_useless_reference_is_no_fault_of_the_answer(name, reference) -> None:
    """A reference that nothing can be compared with raises ValueError instead of scoring 0."""
    with pytest.raises(ValueError, match="reference"):
        find_scorer(name)("an answer", reference)
