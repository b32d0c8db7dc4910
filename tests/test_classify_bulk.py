"""Rows of one template vote."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.classify import SCHEMA, classify
from pipeline.classify.bulk import JobClassifier
from pipeline.records import Task

QUERIES = pl.read_parquet(Path(__file__).parents[1] / "data" / "taskclf" / "payloads.parquet").filter(
    source="banking77", kind="prose"
)["text"]


def rows(template: str, payloads: pl.Series = QUERIES) -> pl.Series:
    return pl.Series([template.replace("{{ text }}", payload) for payload in payloads])


def images(count: int, *at: int) -> pl.Series:
    return pl.Series([row in at for row in range(count)], dtype=pl.Boolean)


def label(job: JobClassifier, texts: pl.Series) -> pl.DataFrame:
    return job.label(texts, images(len(texts)))


@pytest.mark.parametrize(
    ("template", "task"),
    [
        ("Classify the query into one of the banking intents.\n\nQuery: {{ text }}\nIntent:", Task.CLASSIFICATION),
        ("What is the intent of this utterance? {{ text }}", Task.CLASSIFICATION),
        ("{{ text }}\n\nWhich intent does this message express?", Task.CLASSIFICATION),
        ("请判断下面客户咨询的意图类别：{{ text }}", Task.CLASSIFICATION),
        ("Translate into German: {{ text }}", Task.TRANSLATION),
        ("{{ text }}\n\nÜbersetze den Text ins Englische.", Task.TRANSLATION),
        ("Write a short story that begins with this line: {{ text }}", Task.CREATIVE),
        ("Summarize in five words: {{ text }}", Task.GENERAL),
    ],
)
def test_rows_of_a_template_have_its_task(template, task):
    """Every row of a job of one template gets the template's task, whatever the row says."""
    labels = label(JobClassifier(templates=(None, template)), rows(template))
    assert labels.schema == SCHEMA
    assert set(labels["task"]) == {task}
    assert set(labels["rule"]) == {"template"}


def test_system_message_is_part_of_the_template():
    """An instruction in the system message decides for rows that are mere text."""
    system = "You are a translator. Translate the user's text into German."
    job = JobClassifier(templates=(system, "{{ text }}"))
    labels = job.label(QUERIES, images(len(QUERIES)), pl.Series([system]).new_from_index(0, len(QUERIES)))
    assert set(labels["task"]) == {"translation"}


def test_first_batch_decides():
    """Later batches of a job get the task that the first one voted for."""
    template = "Translate into German: {{ text }}"
    job = JobClassifier(templates=(None, template))
    label(job, rows(template))
    assert set(label(job, pl.Series(["Write a poem", "def f(): pass"]))["task"]) == {"translation"}


def test_template_that_says_nothing_leaves_rows_alone():
    """Under a template that fits any task rows keep their own labels."""
    texts = pl.Series(
        ["Write a poem about rain", "Translate into French: hello", "Fix this Python function", "Who was Bach?"]
    )
    job = JobClassifier(templates=("You are a helpful assistant.", "{{ prompt }}"))
    assert label(job, texts).equals(classify(texts, images(4)))


@pytest.mark.parametrize("place", ["head", "tail"])
def test_texts_alike_vote(place):
    """Texts that begin or end alike vote without a known template, and the rows between them keep their own labels."""
    ask = "Please rate how angry this customer of our bank is, from 0 to 9."
    alike = rows(f"{ask}\n{{{{ text }}}}" if place == "head" else f"{{{{ text }}}}\n{ask}")
    others = pl.Series([f"Write a poem about {query}" for query in QUERIES.head(20)])
    mixed = pl.concat([alike.head(300), others, alike.tail(150)])
    labels = label(JobClassifier(), mixed)
    voted = (labels["rule"] == "group").to_numpy()
    assert voted.tolist() == [True] * 300 + [False] * 20 + [True] * 150
    assert labels.filter(pl.Series(voted))["task"].n_unique() == 1
    assert labels.filter(pl.Series(~voted)).equals(classify(others))


def test_groups_vote_once():
    """A group keeps the task that it voted for in an earlier batch, also where a later one has few of its rows."""
    job = JobClassifier()
    alike = rows("Please rate how angry this customer of our bank is, from 0 to 9.\n{{ text }}")
    first = label(job, alike)
    assert set(first["rule"]) == {"group"}
    assert label(job, alike.head(3)).equals(first.head(3))


def test_few_texts_alike_do_not_vote():
    """A handful of rows that begin alike are looked at one by one."""
    texts = rows("Please tell me about this: {{ text }}").head(50)
    assert label(JobClassifier(), texts).equals(classify(texts, images(50)))


def test_groups_of_different_tasks_do_not_vote():
    """Texts that begin alike and ask for different things keep their own labels."""
    ask = "### Instruction: please do the following for me now. "
    ends = [
        "Translate into French: hello",
        "Fix this Python function: def f(x",
        "Write a poem about rain",
        "Who was Bach?",
    ]
    texts = pl.Series([f"{ask}{ends[n % 4]} {'!' * (n % 7)}{chr(97 + n % 26)}" for n in range(400)])
    assert label(JobClassifier(), texts).equals(classify(texts, images(400)))


def test_image_rows_are_vision_rows():
    """A row with an image is a vision row, in a job of a template as anywhere."""
    template = "Translate into German: {{ text }}"
    texts = rows(template)
    labels = JobClassifier(templates=(None, template)).label(texts, images(len(texts), 0, 7))
    assert np.flatnonzero(labels["task"] == "vision").tolist() == [0, 7]


def test_images_alone_do_not_vote():
    """Where every row of the first batch has an image, there is nothing to vote on, and all are vision rows."""
    texts = rows("Translate into German: {{ text }}").head(3)
    labels = JobClassifier(templates=("Translate into German.", None)).label(texts, images(3, 0, 1, 2))
    assert labels["rule"].to_list() == ["image"] * 3


def test_pinned_task_is_every_row_s():
    """A pinned task is given to every row, with the row's own difficulty."""
    labels = label(JobClassifier(task=Task.CODE), pl.Series(["hm", "Write a poem", None]))
    assert labels["task"].to_list() == ["code"] * 3
    assert labels["rule"].to_list() == ["pinned"] * 3


@pytest.mark.parametrize("templates", [(), ("Translate the text into German.", "{{ text }}")])
def test_no_rows(templates):
    """No rows give an empty frame with all columns."""
    none = pl.Series([], dtype=pl.String)
    labels = JobClassifier(templates=templates).label(none, images(0), none)
    assert labels.schema == SCHEMA
    assert labels.height == 0
