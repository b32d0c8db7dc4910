"""The learned model behind the rules: labels, confidence, size and speed."""

import io
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.classify import classify, label_as, rule_votes
from pipeline.classify.features import HASH_BITS, HEAD_CHARS, TAIL_CHARS, find_grams, looked_at
from pipeline.classify.learned import TASKS, Model, built_in_model, probabilities
from pipeline.classify.words import cut_words
from pipeline.records import Difficulty, Task


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Could you put this note into Portuguese for my landlord? The heating is broken again.", Task.TRANSLATION),
        ("How do you say 'see you tomorrow' in Swedish?", Task.TRANSLATION),
        ("把下面的话用英语说出来：我们明天见", Task.TRANSLATION),
        ("この文章をフランス語に訳してください：明日会いましょう", Task.TRANSLATION),
        ("Review: the plot is dull and the acting worse.\nSentiment:", Task.CLASSIFICATION),
        ("Do these two questions ask the same thing?\nHow old is he?\nWhat is his age?", Task.CLASSIFICATION),
        ("Quel est le sentiment de cet avis ?\nUn produit formidable.", Task.CLASSIFICATION),
        ("Определи тональность отзыва: отличный фильм", Task.CLASSIFICATION),
        ("Implementiere eine binäre Suche in Java", Task.CODE),
        ("def is_even(n):\n    # return True if n is even\n", Task.CODE),
        ("Ann is taller than Ben. Ben is taller than Cid. Who is shortest?", Task.REASONING),
        ("¿Qué habría pasado si los dinosaurios no se hubieran extinguido?", Task.REASONING),
        ("Imagine you are a pirate captain. Tell us about your first storm.", Task.CREATIVE),
        ("Escribe un cuento corto sobre un faro", Task.CREATIVE),
        ("What should I cook tonight?", Task.GENERAL),
        ("Fasse den Text zusammen: Die Stadt baut eine neue Brücke.", Task.GENERAL),
        ("Why do cats purr?", Task.GENERAL),
    ],
)
def test_plain_requests_in_many_languages(text, task):
    """What a person would not doubt gets the task a person would give it, also without the words the rules look for."""
    assert classify(pl.Series([text]))["task"][0] == task


@pytest.mark.parametrize(
    "payload",
    ["Write a poem about the sea.", "def f(x):\n    return x + 1", "If 3 pens cost 6 dollars, what do 5 pens cost?"],
)
def test_instruction_outvotes_payload(payload):
    """The text to work on does not change the task, wherever the instruction stands."""
    ask = "Translate the following text into German."
    labels = classify(pl.Series([f"{ask}\n\n{payload}", f"{payload}\n\n{ask}", f"{ask}\n\n{payload * 3}"]))
    assert labels["task"].to_list() == ["translation"] * 3


def test_rule_says_who_chose():
    """A label without a rule behind it is "learned", or "unsure" and general when its confidence is low."""
    labels = classify(
        pl.Series(["Ann is taller than Ben. Who is shorter?", "qwrtz", "Write a Python function", "", None])
    )
    assert labels["rule"][0] == "learned"
    assert labels["rule"].to_list()[3:] == ["empty", "empty"]
    doubtful = classify(pl.Series([f"{a} {b}" for a in "xyzqw" for b in "äöüß"])).filter(pl.col("rule") == "unsure")
    assert set(doubtful["task"]) <= {"general"}
    assert (doubtful["confidence"] < 0.3).all()


def test_certain_rules_are_not_asked_twice():
    """Where the rules lead by far they decide, with the confidence measured for their lead."""
    text = pl.Series(["Translate into French: good morning"])
    ordered = np.sort(rule_votes(text)[:, 0])
    model = built_in_model()
    assert ordered[-1] - ordered[-2] >= model.certain_lead
    assert classify(text)["confidence"][0] == pytest.approx(model.certain[-1])


def test_label_as_keeps_the_difficulty():
    """A text that is given its own task has its own difficulty."""
    texts = pl.Series(["Prove that the square root of 2 is irrational", "Write a Python function", "hm"])
    own = classify(texts)
    assert label_as(texts, own["task"])["difficulty"].to_list() == own["difficulty"].to_list()


@given(st.lists(st.text(max_size=80), max_size=5))
def test_words_of_a_text_are_its_own(texts):
    """A text is cut into the same words alone and beside others."""
    together = cut_words(pl.Series(texts, dtype=pl.String))
    alone = [cut_words(pl.Series([text], dtype=pl.String)) for text in texts]
    assert together.hashes.tolist() == [one for words in alone for one in words.hashes]
    assert together.per_row.tolist() == [int(words.per_row[0]) for words in alone]


@pytest.mark.parametrize(
    ("text", "count"),
    [("hello, world", 3), ("12 apples", 2), ("翻译 now", 3), ("naïve café", 2), ("", 0), (" \n\t", 2), ("привет", 1)],
)
def test_words(text, count):
    """Letters and digits stay together; each CJK character, sign and line end is a word of its own, a space is none."""
    assert cut_words(pl.Series([text])).per_row.tolist() == [count]


def test_hashes_are_stable():
    """The hashes are those that the weights were fitted to, on every machine and with every version."""
    words = cut_words(pl.Series(["translate 翻 7"]))
    assert words.hashes.tolist() == HASHES
    _, kinds = find_grams(looked_at(pl.Series(["Translate 翻 7"])))
    assert [int(kind.buckets[0]) for kind in kinds][:3] == BUCKETS


HASHES = [15814522454768918158, 32763, 11400714819323198485]
BUCKETS = [82721, 191309, 33596]


def test_long_texts_are_cut():
    """Of a long text as many characters are looked at as are promised, of any other all."""
    lengths = looked_at(pl.Series(["x" * 10_000, "字" * 600, "Y" * 599])).str.len_chars().to_list()
    assert lengths == [HEAD_CHARS + 1 + TAIL_CHARS, 600, 599]


@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_shares_are_probabilities(texts):
    """The shares of the tasks are from 0 to 1 and add up to 1."""
    column = pl.Series(texts, dtype=pl.String)
    shares = probabilities(built_in_model().scores(looked_at(column), rule_votes(column)))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


def test_weights_survive_a_file():
    """A model read back from its file gives nearly the same scores, and the file is small."""
    rng = np.random.default_rng(1)
    grams = np.zeros((2**HASH_BITS, 8), dtype=np.float32)
    grams[:, : len(TASKS)] = rng.normal(size=(2**HASH_BITS, len(TASKS)))
    model = Model(grams, *(rng.normal(size=shape).astype(np.float32) for shape in ((7, 7), 7, 3)), 4)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    back = Model.load(file)
    assert back.certain_lead == 4
    assert np.abs(back.grams - model.grams).max() <= np.abs(grams).max() / 127
    assert np.array_equal(back.votes, model.votes)


@pytest.mark.parametrize("unit", ["lorem ipsum ", "字", "a", ". ", "7 "])
def test_huge_text_is_quick(unit):
    """A text of a megabyte takes a small part of a second, whatever it repeats."""
    column = pl.Series([unit * (1_000_000 // len(unit.encode()))])
    classify(column)
    start = time.process_time()
    classify(column)
    assert time.process_time() - start < 0.15


def test_many_texts_are_quick():
    """Thousands of short texts that no rule is certain of take a second at most."""
    texts = pl.Series(
        [f"Ann {n} is taller than Ben. Ben is taller than Cid. Who is the shortest of them?" for n in range(5000)]
    )
    classify(texts.head(10))
    start = time.process_time()
    labels = classify(texts)
    assert time.process_time() - start < 1
    assert set(labels["difficulty"]) <= set(Difficulty)
