"""Rows to messages: what is substituted, what is refused, what can't break out."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.render import RENDERED, Renderer
from pipeline.spec import Prompt

ROWS = pl.DataFrame({"text": ["one", None, "{{ 7*7 }}"], "lang": ["de", "fr", ""], "n": [1, 2, 3]})


def rendered(rows: pl.DataFrame = ROWS, **prompt: object) -> pl.DataFrame:
    """Render *rows* with a `[prompt]` section."""
    return Renderer(Prompt.model_validate(prompt)).render(rows)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_substitution_and_sandbox_agree(rows: list[tuple[str, str]]) -> None:
    """A template that only substitutes gives the same text by column expression and by Jinja2."""
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String}, orient="row")
    fast = rendered(frame, user="Say {{ a }} to {{b}}: {{ a }}!")
    slow = rendered(frame, user="Say {{ a ~ '' }} to {{b}}: {{ a }}!")
    assert fast.equals(slow)


def test_a_row_is_data_and_never_a_template() -> None:
    """Braces in a row reach the model as they are."""
    out = rendered(user="Translate into {{ lang }}: {{ text }}")
    assert out["user"].to_list() == ["Translate into de: one", None, "Translate into : {{ 7*7 }}"]
    assert out["problem"].to_list() == [None, "empty_input: text is null", None]


def test_numbers_are_printed_as_python_prints_them() -> None:
    """A column of numbers can be substituted."""
    assert rendered(user="{{ n }}.")["user"].to_list() == ["1.", "2.", "3."]


def test_an_empty_system_text_is_no_system_message() -> None:
    """A system template may render to nothing."""
    out = rendered(user="x{{ n }}", system="{{ lang or '' }}")
    assert out["system"].to_list() == ["de", "fr", None]


def test_a_template_without_columns_stands_in_every_row() -> None:
    """A constant system message goes with every row."""
    assert rendered(column="lang", system="Be brief.")["system"].to_list() == ["Be brief."] * 3


@pytest.mark.parametrize("blank", ["", " \n", None], ids=["empty", "blank", "null"])
def test_an_empty_prompt_is_not_asked(blank: str | None) -> None:
    """A row without a prompt has a problem, and an image cures it."""
    rows = pl.DataFrame({"p": [blank], "i": ["https://example.org/a.png"]}, schema={"p": pl.String, "i": pl.String})
    assert rendered(rows, column="p")["problem"].to_list() == ["empty_input: the prompt is empty"]
    assert rendered(rows, column="p", image="i")["problem"].to_list() == [None]


@pytest.mark.parametrize(
    "template",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].system('id') }}",
        "{{ 'a' * 10**10 }}",
        "{{ (text ~ '{0.__class__}').format(text) }}{{ '{0.__class__.__mro__}'.format(text) }}",
        "{{ 9 ** 99999 }}",
    ],
)
def test_templates_can_not_break_out(template: str) -> None:
    """Attribute tricks and memory bombs fail the row with the reason, and nothing else happens."""
    out = rendered(pl.DataFrame({"text": ["x"]}), user=template)
    assert out["problem"][0].startswith("template: ")
    assert out["user"].to_list() == [None]


def test_a_torn_template_is_refused() -> None:
    """A template that does not parse is refused with its line."""
    with pytest.raises(JobError, match=r"prompt\.user: line 1"):
        rendered(user="{{ text ")


def test_a_template_names_its_columns() -> None:
    """What a template reads is known before a row is."""
    prompt = Prompt(user="{% if lang %}{{ text }}{% endif %}{{ n }}", system="{{ n }}")
    assert Renderer(prompt).columns == ["lang", "n", "text"]


def test_messages_are_taken_as_they_are() -> None:
    """A column of messages, as structs or as JSON, is sent whole; its last text is what gets classified."""
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "Translate"}]
    out = rendered(pl.DataFrame({"m": [talk]}), messages="m")
    text = '[{"role":"system","content":"s"},{"role":"user","content":"Translate"}]'
    assert out.select("messages", "user", "problem").row(0) == (text, "Translate", None)
    assert rendered(pl.DataFrame({"m": [text]}), messages="m")["messages"].to_list() == [text]


@pytest.mark.parametrize("bad", ["", "{", "[]", "[1]", '[{"role":"user"}]', '[{"role":"user","content":""}]'])
def test_messages_that_are_none_are_not_asked(bad: str) -> None:
    """A row whose messages can't be sent has a problem."""
    assert rendered(pl.DataFrame({"m": [bad]}), messages="m")["problem"][0].startswith("messages: ")


def test_an_image_file_is_read_into_the_request(tmp_path: Path) -> None:
    """An image path becomes a data URL; what is no image, or not there, is a problem of its row."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "/etc/passwd", None, "https://example.org/c.jpg"]
    out = rendered(pl.DataFrame({"p": ["see"] * 5, "i": paths}), column="p", image="i")
    assert out["image"].to_list() == ["data:image/png;base64,iVBORw==", None, None, None, "https://example.org/c.jpg"]
    assert [problem and problem.split(":")[0] for problem in out["problem"]] == [None, "image", "image", None, None]


@given(st.lists(st.one_of(st.none(), st.text()), max_size=6))
def test_rendering_is_total(values: list[str | None]) -> None:
    """Every row comes back, in order, either with a message or with a problem."""
    out = rendered(pl.DataFrame({"p": values}, schema={"p": pl.String}), column="p")
    assert out.columns == list(RENDERED)
    assert [user is None or not user.strip() for user in out["user"]] == [p is not None for p in out["problem"]]


def test_examples_are_turns_between_the_system_text_and_the_row() -> None:
    """Each row becomes one dialogue; an example is no template, and a row without a text has no dialogue."""
    examples = [{"user": "{{ n }}", "assistant": "A"}]

    out = rendered(user="{{ text }}", system="{{ lang or '' }}", examples=examples)

    shot = [{"role": "user", "content": "{{ n }}"}, {"role": "assistant", "content": "A"}]
    dialogues = [None if text is None else json.loads(text) for text in out["messages"].to_list()]
    assert dialogues == [
        [{"role": "system", "content": "de"}, *shot, {"role": "user", "content": "one"}],
        None,
        [*shot, {"role": "user", "content": "{{ 7*7 }}"}],
    ]
    assert out["user"].to_list() == ["one", None, "{{ 7*7 }}"]
    assert out["problem"].to_list() == [None, "empty_input: text is null", None]


def test_ready_messages_bring_their_own_examples() -> None:
    """`examples` beside a messages column is a mistake of the job."""
    with pytest.raises(ValueError, match="system and examples go with column or user"):
        rendered(messages="text", examples=[{"user": "a", "assistant": "b"}])
