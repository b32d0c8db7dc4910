"""Weak answers: labels, JSON, and words of doubt."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks import Weakness, check_schema, find_label, tidy, weakness
from pipeline.records import Answer, Finish, Parameters, Task

FREE = Parameters(max_output_tokens=64)
LABELS = FREE._replace(choices=("Positive", "negative", "not sure"))
SCHEMA = FREE._replace(
    schema="""{"type": "object", "required": ["label", "score"], "additionalProperties": false, "properties": {
        "label": {"enum": ["a", "b"]},
        "score": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "never": false,
        "whatever": {"minimum": 3}
    }}"""
)


def found(text: str, parameters: Parameters = FREE, task: str = Task.GENERAL) -> Weakness | None:
    return weakness(tidy(Answer(text), parameters), task=task, parameters=parameters)


def code_of(text: str, parameters: Parameters = FREE, task: str = Task.GENERAL) -> str | None:
    weak = found(text, parameters, task)
    return weak and weak.code


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Positive", "Positive"),
        ("positive", "Positive"),
        ("  NEGATIVE.\n", "negative"),
        ('"Not sure"', "not sure"),
        ("**positive**", "Positive"),
        ("“negative”", "negative"),
        ("`not sure`.", "not sure"),
        ('{"label": "Positive"}', "Positive"),
        ('\n{"label":"positive"}', "Positive"),
        ("", None),
        ("positive or negative", None),
        ("The answer is positive", None),
        ("posit", None),
        ('{"label": 7}', None),
        ('{"label": "other"}', None),
        ('{"sentiment": "Positive"}', None),
        ("{", None),
        ("[" * 5000, None),
        ('{"label":' * 5000, None),
    ],
)
def test_a_label_is_found_whatever_is_written_around_it(text: str, label: str | None) -> None:
    """Case, quotes, stars and a full stop do not matter; a sentence, a part or another word is no label."""
    answer = Answer(text)

    assert find_label(text, LABELS.choices) == label
    assert tidy(answer, LABELS).text == (text if label is None else label)
    weak = found(text, LABELS)
    assert (weak is None) == (label is not None)
    assert weak is None or (weak.code == "label" and weak.worthless)


def test_labels_that_differ_only_in_case_are_told_apart_or_refused() -> None:
    """Where two choices differ only in case, a third spelling means neither of them."""
    choices = ("US", "us", "c++", "U.S.")

    assert [find_label(text, choices) for text in ("US", "us", '"us"', "Us", "C++", "u.s.")] == [
        "US", "us", "us", None, "c++", "U.S.",
    ]  # fmt: skip


@given(
    choices=st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=8, unique=True).map(tuple), data=st.data()
)
def test_every_choice_is_found_as_it_is_written(choices: tuple[str, ...], data: st.DataObject) -> None:
    """Whatever a job calls its labels, an answer that is exactly one of them is that one."""
    choice = data.draw(st.sampled_from(choices))

    assert find_label(choice, choices) == choice


@given(text=st.text(max_size=40))
def test_a_label_is_one_of_the_choices_or_none(text: str) -> None:
    """No text makes up a label that the job does not know."""
    assert find_label(text, LABELS.choices) in {None, *LABELS.choices}


def test_only_the_form_counts_where_there_are_labels() -> None:
    """A label is not searched for words of doubt, since it is what was asked for."""
    assert found("possibly", FREE._replace(choices=("possibly", "never")), Task.REASONING) is None


def test_a_long_wrong_label_is_quoted_in_part() -> None:
    """The reason of a wrong label shows its beginning."""
    weak = found("x" * 500, LABELS)

    assert weak is not None
    assert weak.reason == f"'{'x' * 40}…' is not one of the 3 choices"


# --------------------------------------------------------------------------------------------------------------- JSON

GOOD = '{"label": "a", "score": 1}'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD, None),
        ('{"label": "b", "score": 0.5, "count": null, "tags": ["x"], "whatever": [1]}', None),
        ('{"label": "a", "score": 1, "count": 2.0}', None),
        ("positive", "json"),
        ("", "json"),
        ('{"label": "a", "score": NaN}', "json"),
        ('{"label": "a", "score": 1', "json"),
        (GOOD + GOOD, "json"),
        ("[" * 5000 + "]" * 5000, "json"),
        ("[]", "schema"),
        ("{}", "schema"),
        ('{"label": "c", "score": 1}', "schema"),
        ('{"label": "a", "score": true}', "schema"),
        ('{"label": "a", "score": "1"}', "schema"),
        ('{"label": "a", "score": 1, "count": 2.5}', "schema"),
        ('{"label": "a", "score": 1, "tags": ["x", 7]}', "schema"),
        ('{"label": "a", "score": 1, "other": 1}', "schema"),
        ('{"label": "a", "score": 1, "never": 1}', "schema"),
    ],
)
def test_an_answer_must_be_json_of_the_schema(text: str, code: str | None) -> None:
    """What is no JSON, or not what the schema says, is worthless."""
    weak = found(text, SCHEMA)

    assert (weak and weak.code) == code
    assert weak is None or weak.worthless


def test_the_reason_says_where_the_schema_does_not_hold() -> None:
    """The path of the first mismatch is in the reason."""
    weak = found('{"label": "a", "score": 1, "tags": ["x", 7]}', SCHEMA)

    assert weak is not None
    assert weak.reason == 'answer.tags[1]: 7 is not of type "string"'


@pytest.mark.parametrize("fenced", [f"```json\n{GOOD}\n```", f"```\n{GOOD}```", f"  ```JSON\n\n{GOOD}\n\n```\n"])
def test_a_fence_round_json_is_taken_off(fenced: str) -> None:
    """JSON in a Markdown fence is taken out of it, so that the output column holds JSON."""
    assert tidy(Answer(fenced), SCHEMA).text == GOOD
    assert found(fenced, SCHEMA) is None
    assert weakness(Answer(fenced), task=Task.GENERAL, parameters=SCHEMA) is None


@pytest.mark.parametrize("text", [f"```json\n{GOOD}", f"```python\n{GOOD}\n```", f"Here: ```json\n{GOOD}\n```"])
def test_anything_else_round_json_stays_and_fails(text: str) -> None:
    """An open fence, or words before one, leave the answer as it came."""
    assert tidy(Answer(text), SCHEMA).text == text
    assert code_of(text, SCHEMA) == "json"


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"minimum": 3}, "3", "2"),
        ({"type": "string", "pattern": "^(a+)+$"}, '"aaa"', '"' + "a" * 5000 + 'b"'),
        ({"$ref": "#/$defs/one", "$defs": {"one": {"const": 1}}}, "1", "2"),
        ({"anyOf": [{"type": "null"}, {"minItems": 2, "type": "array"}]}, "[1, 2]", "[1]"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "{}", '{"a": 1}'),
        ({"uniqueItems": True}, "[1]", "[1, 1]"),
    ],
)
def test_all_of_json_schema_is_checked(schema: dict[str, Any], good: str, bad: str) -> None:
    """What the standard knows holds here, in a time that no answer can stretch."""
    parameters = FREE._replace(schema=json.dumps(schema))

    assert code_of(good, parameters) is None
    assert code_of(bad, parameters) == "schema"


def test_a_reason_quotes_a_wrong_value_in_part() -> None:
    """A runaway value does not fill the reason."""
    weak = found('{"label": "a", "score": "' + "x" * 5000 + '"}', SCHEMA)

    assert weak is not None
    assert len(weak.reason) == 201


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 7},
        {"required": "label"},
        {"type": "thing"},
        {"pattern": "("},
        {"$ref": "https://example.org/a.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#/$defs/none"},
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    """A schema that means nothing, or that would have to be fetched, is told before anything is asked."""
    with pytest.raises(ValueError, match="is no JSON Schema: "):
        check_schema(schema)


@given(text=st.text(max_size=60) | st.from_regex(r'\{"(label|score)": ("a"|1|null)\}', fullmatch=True))
def test_no_answer_breaks_the_check_of_json(text: str) -> None:
    """Any text is judged and none raises."""
    weak = found(text, SCHEMA)

    assert weak is None or weak.code in {"json", "schema"}


# ---------------------------------------------------------------------------------------------------------- free text


@pytest.mark.parametrize(
    ("text", "task", "code"),
    [
        ("def f():\n    # TODO: sort", Task.CODE, "placeholder"),
        ("x = 1  # Placeholder for the key", Task.CODE, "placeholder"),
        ("def todo(): return 1", Task.CODE, None),
        ("TODO: buy milk", Task.GENERAL, None),
        ("It could be 42.", Task.REASONING, "uncertain"),
        ("POSSIBLY 42", Task.REASONING, "uncertain"),
        ("I might be wrong, but 42", Task.REASONING, "uncertain"),
        ("I'm not entirely sure.", Task.REASONING, "uncertain"),
        ("It is 42.", Task.REASONING, None),
        ("It could be 42.", Task.CREATIVE, None),
        ("I'm sorry, but I can't assist with that.", Task.GENERAL, "declined"),
        ("I’m sorry, I can’t help with that", Task.CODE, "declined"),
        ("I cannot provide that.", Task.TRANSLATION, "declined"),
        ("I am unable to comply", Task.CREATIVE, "declined"),
        ("I'm not able to help with this", Task.REASONING, "declined"),
        ("**I won't engage in that.**", Task.GENERAL, "declined"),
        ("As an AI language model, I have no view.", Task.GENERAL, "declined"),
        ("I'm sorry for your loss.", Task.CREATIVE, None),
        ("I cannot stress this enough: sleep.", Task.GENERAL, None),
        ("He said: I can't help it.", Task.CREATIVE, None),
        ("As an AI researcher, Ada wrote", Task.CREATIVE, None),
        ("Paris", Task.GENERAL, None),
    ],
)
def test_free_text_is_searched_for_refusal_stubs_and_doubt(text: str, task: Task, code: str | None) -> None:
    """The markers of the article, each in its own task, and a refusal at the start of any answer make it doubtful."""
    weak = found(text, FREE, task)

    assert (weak and weak.code) == code
    assert weak is None or not weak.worthless


@pytest.mark.parametrize("finish", [finish for finish in Finish if finish is not Finish.OK])
def test_an_answer_that_did_not_end_well_is_worthless(finish: Finish) -> None:
    """An empty, cut, blocked, broken-off or strange answer is weak whatever its text."""
    weak = weakness(Answer("Paris", finish), task=Task.GENERAL, parameters=FREE)

    assert weak is not None
    assert (weak.code, weak.worthless) == (finish, True)


def test_free_text_is_not_touched() -> None:
    """Free text is handed on as it came, white space and fences included."""
    answer = Answer("  ```json\n{}\n``` ")

    assert tidy(answer, FREE) is answer


@pytest.mark.parametrize(
    ("text", "finish"),
    [("pin", Finish.TRUNCATED), ("top up", Finish.OK), ("top", Finish.TRUNCATED), ("to", Finish.TRUNCATED)],
    ids=["begins a longer label", "whole", "no label", "a part"],
)
def test_a_label_that_was_cut_off_after_its_end_is_whole(text: str, finish: Finish) -> None:
    """A cut answer is taken for a label only when it is one and can't have been on its way to another."""
    parameters = Parameters(8, choices=("pin", "pin change", "top up"))
    assert tidy(Answer(f'"{text}"  ', Finish.TRUNCATED, "length"), parameters).finish is finish
