"""Tasks, difficulties and their reasons."""

import time
from importlib import resources

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.classify import SCHEMA, classify
from pipeline.classify.rules import Rule, Rules, built_in_rules, parse_rules
from pipeline.errors import JobError
from pipeline.records import Difficulty, Task

BUILT_IN = built_in_rules()
EXAMPLES = [rule.example for rule in BUILT_IN.rule]
texts = st.one_of(st.none(), st.text(max_size=60), st.sampled_from(EXAMPLES), st.sampled_from(EXAMPLES).map(str.upper))


def rules_of(*rules: Rule) -> Rules:
    return BUILT_IN.model_copy(update={"rule": list(rules)})


def a_rule(pattern: str | None = None, **changes: object) -> Rule:
    return Rule.model_validate(
        {"id": "x", "task": "code", "source": "ours", "pattern": pattern, "example": ""} | changes
    )


def label(text: str | None, rules: Rules = BUILT_IN) -> dict[str, object]:
    return classify(pl.Series([text], dtype=pl.String), rules=rules).row(0, named=True)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write a Python function to merge sort an array", Task.CODE),
        ("Classify this tweet as positive or negative", Task.CLASSIFICATION),
        ("Explain the Monty Hall problem with math", Task.REASONING),
    ],
)
@pytest.mark.parametrize("article_alone", [True, False])
def test_examples_of_the_article(text, task, article_alone):
    """The article's three examples get its tasks, from its rules alone and from all rules."""
    rules = rules_of(*(rule for rule in BUILT_IN.rule if rule.source == "article")) if article_alone else BUILT_IN
    assert label(text, rules)["task"] == task


@pytest.mark.parametrize("rule", BUILT_IN.rule, ids=lambda rule: rule.id)
def test_rule_holds_for_its_example(rule):
    """Every rule holds for its own example, and all rules together give that example the rule's task."""
    assert label(rule.example, rules_of(rule))["rule"] == rule.id
    assert label(rule.example)["task"] == rule.task


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write SQL to find the top ten customers", Task.CODE),
        ("Schreibe ein Python-Programm, das Primzahlen ausgibt", Task.CODE),
        ("用python写一个快速排序", Task.CODE),
        ("Classify the ticket into one of: billing, bug, other.\n\nTicket: write me a poem", Task.CLASSIFICATION),
        ("Determine whether the email is spam. Answer yes or no.", Task.CLASSIFICATION),
        ("判断下面的评论是正面还是负面：很好吃", Task.CLASSIFICATION),
        ("Tom has 5 apples and buys 7 more. How many apples does he have?", Task.REASONING),
        ("If all bloops are razzies, are all razzies bloops?", Task.REASONING),
        ("Сколько будет 17 умножить на 23?", Task.REASONING),
        ("Translate into French: write a function that adds two numbers", Task.TRANSLATION),
        ("Übersetze ins Deutsche: good morning", Task.TRANSLATION),
        ("次の文を英語に翻訳してください", Task.TRANSLATION),
        ("Переведи на английский: доброе утро", Task.TRANSLATION),
        ("Compose a birthday poem for my grandmother", Task.CREATIVE),
        ("Schreibe eine Geschichte über einen Drachen", Task.CREATIVE),
        ("What is the capital of France?", Task.GENERAL),
        ("Why is the sky blue?", Task.GENERAL),
        ("Summarize this function:\n\ndef add(a, b):\n    return a + b", Task.GENERAL),
        ("什么是光合作用？", Task.GENERAL),
        ("Describe the image", Task.VISION),
    ],
)
def test_plain_requests(text, task):
    """Requests that a person would not doubt get the task a person would give them."""
    assert label(text)["task"] == task


@given(st.lists(texts, max_size=8))
def test_any_text_has_a_label(batch):
    """Whatever the texts are, each gets one row with known values and a confidence from 0 to 1."""
    labels = classify(pl.Series(batch, dtype=pl.String))
    assert labels.schema == SCHEMA
    assert labels.height == len(batch)
    assert set(labels["task"]) <= set(Task)
    assert set(labels["difficulty"]) <= set(Difficulty)
    assert set(labels["rule"]) <= {rule.id for rule in BUILT_IN.rule} | {"none", "empty", "learned", "unsure"}
    assert labels["confidence"].is_between(0, 1).all()


@settings(max_examples=25)
@given(st.lists(st.tuples(texts, st.sampled_from([True, False, None])), min_size=1, max_size=4))
def test_neighbours_do_not_matter(batch):
    """A text has the same label alone as in any batch."""
    column = pl.Series([text for text, _ in batch], dtype=pl.String)
    images = pl.Series([image for _, image in batch], dtype=pl.Boolean)
    alone = [classify(column.slice(row, 1), images.slice(row, 1)) for row in range(len(batch))]
    assert_frame_equal(classify(column, images), pl.concat(alone))


def test_large_batch():
    """A batch of more texts than are taken at a time has the labels of its texts, in their order."""
    few = pl.Series([*EXAMPLES, None, "", "x" * 1000])
    many = pl.concat([few] * 1500)
    assert_frame_equal(classify(many), pl.concat([classify(few)] * 1500))


def test_texts_are_left_alone():
    """Classifying does not change the caller's texts."""
    before = [None, "  Long " * 500, "Short"]
    column = pl.Series(before)
    classify(column)
    assert column.to_list() == before


@pytest.mark.parametrize("column", [pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.Null)])
def test_no_texts(column):
    """No texts give an empty frame with all columns."""
    assert classify(column).schema == SCHEMA


@pytest.mark.parametrize("text", [None, "", " \n\t\u3000"])
def test_empty_text(text):
    """A text that says nothing is a general task, and the rule says that it is empty."""
    assert label(text) | {"confidence": 0} == {
        "task": "general",
        "difficulty": "easy",
        "rule": "empty",
        "confidence": 0,
    }


def test_image_is_a_vision_task():
    """An image makes a row a vision task whatever its text says, a null or false flag does not."""
    column = pl.Series(["Write a function", None, "Write a function", "Write a function"])
    labels = classify(column, pl.Series([True, True, False, None]))
    assert labels["task"].to_list() == ["vision", "vision", "code", "code"]
    assert labels["rule"].to_list()[:2] == ["image", "image"]
    assert labels["confidence"].to_list()[:2] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a class b", True),
        ("éclass", True),
        ("classé", True),
        ("类class类", True),
        ("class\0", True),
        ("CLASS", True),
        ("subclass", False),
        ("class_a", False),
    ],
)
def test_boundaries_are_ascii(text, found):
    """A word ends at any character that is not an ASCII letter, digit or underscore."""
    assert (label(text, rules_of(a_rule(r"\bclass\b")))["rule"] == "x") is found


WITH_SHORT_CUT = [rule for rule in BUILT_IN.rule if rule.words and rule.pattern]


@settings(max_examples=150)
@given(st.sampled_from(WITH_SHORT_CUT).flatmap(lambda rule: st.tuples(st.just(rule), matching(rule))))
def test_words_are_a_short_cut_only(drawn):
    """Without its words a rule with a pattern holds for the same texts."""
    rule, text = drawn
    without = rule.model_copy(update={"words": []})
    assert label(text, rules_of(rule)) == label(text, rules_of(without))


def matching(rule: Rule) -> st.SearchStrategy[str]:
    """Draw texts that the pattern is found in, and some that it is not."""
    assert rule.pattern is not None
    return st.one_of(st.from_regex(rule.pattern.replace(r"(?-u:\b)", r"\b")), st.sampled_from(EXAMPLES))


def test_most_votes_win():
    """The task with most votes wins, also against one stronger rule."""
    one, two = a_rule("a", id="1", votes=2), a_rule("b", id="2", votes=2)
    strong = a_rule("c", id="3", votes=3, task="creative")
    labels = classify(pl.Series(["a c", "a b c"]), rules=rules_of(strong, one, two))
    assert labels["task"].to_list() == ["creative", "code"]
    assert labels["rule"].to_list() == ["3", "1"]


def test_ties_go_to_the_first_task_of_the_order():
    """Of tasks with as many votes the first in the order wins, wherever its rule stands."""
    rules = rules_of(a_rule("a", id="late", task="creative"), a_rule("a", id="early", task="reasoning"))
    assert label("a", rules)["rule"] == "early"


def test_lead_is_confidence():
    """The more votes a task leads by, the surer its label is."""
    rules = rules_of(a_rule("a", id="a"), a_rule("b", id="b", votes=3), a_rule("c", id="c", task="creative"))
    sure = classify(pl.Series(["nothing", "a c", "a", "b"]), rules=rules)["confidence"]
    assert sure.to_list() == pytest.approx([1 / 2, 1 / 2, 2 / 3, 4 / 5])


def test_undecided_rules_leave_decided_texts_alone():
    """A rule for undecided texts is not tried where another rule has decided."""
    decisive, late = a_rule("a", id="a", votes=2), a_rule("b", id="b", votes=9, task="creative", look="undecided")
    labels = classify(pl.Series(["a b", "b"]), rules=rules_of(decisive, late))
    assert labels["rule"].to_list() == ["a", "b"]


def test_only_the_ends_of_a_long_text_are_looked_at():
    """Head and tail of a long text are looked at, its middle is not."""
    ask, fill = "Translate this into German. ", "x " * 10_000
    labels = classify(pl.Series([ask + fill, fill + ask, fill + ask + fill, fill + fill]))
    assert labels["task"].to_list()[:2] == ["translation", "translation"]
    assert labels.row(2) == labels.row(3)
    assert set(labels["difficulty"]) <= {"medium", "hard"}


@pytest.mark.parametrize("unit", ["x", "写a", "explain ", "(((", "1 ", "write a ", "\n"])
def test_huge_text_is_cheap(unit):
    """A text of a million characters takes well under half a second, whatever it repeats."""
    column = pl.Series([unit * (1_000_000 // len(unit))])
    classify(column)
    start = time.process_time()
    classify(column)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("text", "difficulty"),
    [
        ("Classify this tweet as positive or negative", "easy"),
        ("What is the capital of France?", "easy"),
        ("Write a Python function to merge sort an array", "easy"),
        ("Translate this into German: " + "the cat sat on the mat. " * 20, "medium"),
        ("Prove that the square root of 2 is irrational", "medium"),
        ("Ann has 3 boxes of 12 pens, gives 5 to Bob, 7 to Carl. How many are left?", "medium"),
        ("Implement a thread-safe class in Java. It must hold at most 100 entries and must not block.", "hard"),
        ("写一个函数，要求时间优化，必须不超过100行，至少支持三种类型，要求详细注释", "hard"),
    ],
)
def test_difficulty(text, difficulty):
    """Length, demands, steps, engineering and mathematics make a text harder."""
    assert label(text)["difficulty"] == difficulty


@given(st.sampled_from(EXAMPLES), st.integers(0, 5000))
def test_more_text_is_never_easier(example, more):
    """A text that goes on without a further word is never easier than before."""
    levels = list(Difficulty)
    short, long = (levels.index(Difficulty(label("hm " + "." * dots)["difficulty"])) for dots in (0, more))
    assert short <= long, example


@pytest.mark.parametrize("look", ["every", "undecided"])
def test_words_fit_the_quick_automaton(look):
    """The words of one pass are few enough for its quick form."""
    assert len({word for rule in BUILT_IN.rule if rule.look == look for word in rule.words}) <= 100


def test_patterns_fit_the_cache():
    """The patterns for ASCII texts are few enough for polars to keep them compiled."""
    of_rules = [rule.pattern for rule in BUILT_IN.rule if rule.look != "non-ascii" and rule.pattern]
    of_signals = [signal.pattern for signal in BUILT_IN.difficulty.signal if signal.pattern]
    assert len(of_rules + of_signals) <= 32


TEXT = (resources.files("pipeline.classify") / "rules.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('task = "code"', 'task = "coding"', ["rule.0.task", "'code', 'classification'"]),
        ("program|api|endpoint", "program|API|endpoint", ["rule.0.pattern", "upper-case", "lower-cased"]),
        ('words = ["write"', 'words = ["Write"', ["rule.0.words.0", "lower case"]),
        ("refactor\\s+(", "refactor\\s+((", ["rule.2.pattern", "unclosed group"]),
        ('id = "code:2"', 'id = "code:1"', ["given twice: code:1"]),
        ('words = ["refactor"]\npattern', "votes = 1\n#", ["rule.2", "give words, a pattern or both"]),
        ('order = ["code", ', "order = [", ["order must name each task once"]),
        ("levels = { easy = 0, medium = 2", "levels = { easy = 0, medium = 7", ["levels must rise"]),
        ("start = { code = 1, ", "start = { ", ["start must name each task"]),
        ("head_chars = 250", "head_chars = 0\ntails = 1", ["head_chars", "tails: unknown key"]),
        ("order = [", "order = [[", ["is not TOML"]),
    ],
)
def test_bad_rules_are_named(old, new, says):
    """A mistake in a rules file is refused with its place and what would be right."""
    assert old in TEXT
    with pytest.raises(JobError) as raised:
        parse_rules(TEXT.replace(old, new, 1), where="mine.toml")
    message = str(raised.value)
    assert message.startswith("mine.toml: ")
    assert all(part in message for part in says), message
