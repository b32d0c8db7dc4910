"""What each dialect makes of a row: where the system text, turns, pictures, limits and the form of the answer go."""

import json
from typing import Any

import pytest

from pipeline.catalogue import load_catalogue
from pipeline.catalogue.listed import find_listed
from pipeline.errors import JobError
from pipeline.providers import find_adapter
from pipeline.records import Model, Parameters
from tests.builders import a_request

PARAMETERS = Parameters(max_output_tokens=64, temperature=0.0)
OPEN = '{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"integer"}}}'
CLOSED = OPEN[:-1] + ',"required":["b","a"],"additionalProperties":false}'
LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["x", "y"]}},
    "required": ["label"],
    "additionalProperties": False,
}
PICTURE, INLINE = "https://example.org/cat.png?size=1", "data:image/webp;base64,AAAA"
SHOTS = json.dumps(
    [
        {"role": "system", "content": "Label it."},
        {"role": "user", "content": "good"},
        {"role": "assistant", "content": [{"type": "text", "text": "pos"}]},
        {"role": "user", "content": "bad"},
    ]
)


def sent(adapter: str, parameters: Parameters = PARAMETERS, *, options: Any = None, **request: Any) -> dict[str, Any]:
    model = Model("m", "p", 128_000, (), options=options or {})
    body: dict[str, Any] = json.loads(find_adapter(adapter).encode(a_request(**request), model, parameters).body)
    return body


def test_anthropic_takes_the_system_text_apart_from_the_messages() -> None:
    """The system text is a field of its own, `max_tokens` is always there, and the version decides on temperature."""
    body = {"model": "m", "max_tokens": 64, "system": "s", "messages": [{"role": "user", "content": "u"}]}

    assert sent("anthropic", user="u", system="s") == body | {"temperature": 0}
    assert sent("anthropic-2026-10-21", user="u", system="s") == body
    assert "system" not in sent("anthropic", user="u")
    assert sent("anthropic", PARAMETERS._replace(temperature=1.7))["temperature"] == 1
    assert "temperature" not in sent("anthropic", options={"temperature": False})


def test_gemini_takes_the_system_text_and_the_limits_apart_from_the_contents() -> None:
    """The system text is an instruction, limits are a configuration, and the model is named in the path."""
    model = Model("m", "p", 128_000, (), api_name="gemini-9 flash")
    request = find_adapter("gemini").encode(a_request(user="u", system="s"), model, PARAMETERS)

    assert request.path == "/models/gemini-9%20flash:generateContent"
    assert json.loads(request.body) == {
        "generationConfig": {"maxOutputTokens": 64, "temperature": 0},
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "u"}]}],
    }


def test_responses_take_the_system_text_as_instructions_and_store_nothing() -> None:
    """The system text is `instructions`, and nothing is kept at the provider's."""
    assert sent("openai-responses", user="u", system="s") == {
        "model": "m",
        "max_output_tokens": 64,
        "temperature": 0,
        "store": False,
        "instructions": "s",
        "input": [{"role": "user", "content": "u"}],
    }


def test_azure_is_asked_by_deployment() -> None:
    """The deployment and the version are in the path, or neither with version v1."""
    request, model = a_request(user="u"), Model("m", "azure", 128_000, (), api_name="my mini")
    adapter = find_adapter("azure")
    v1 = model._replace(name="n", options={"api_version": "v1"})

    path = "/deployments/my%20mini/chat/completions?api-version=2024-10-21"
    assert adapter.encode(request, model, PARAMETERS).path == path
    assert adapter.encode(request, v1, PARAMETERS).path == "/v1/chat/completions"
    assert json.loads(adapter.encode(request, v1, PARAMETERS).body)["model"] == "my mini"
    assert adapter.headers("k") == {"content-type": "application/json", "api-key": "k"}


def test_each_dialect_has_its_own_header_for_the_key() -> None:
    """The key goes where the provider looks for it, and Anthropic's version with it."""
    json_type = {"content-type": "application/json"}

    assert find_adapter("anthropic").headers("k") == json_type | {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert find_adapter("anthropic-2026-10-21").headers("k") == json_type | {
        "anthropic-version": "2026-10-21",
        "authorization": "Bearer k",
    }
    assert find_adapter("gemini").headers("k") == json_type | {"x-goog-api-key": "k"}
    assert find_adapter("openai-responses").headers("k") == json_type | {"authorization": "Bearer k"}


@pytest.mark.parametrize("image", [PICTURE, INLINE], ids=["url", "data"])
def test_a_picture_goes_out_in_the_form_of_the_dialect(image: str) -> None:
    """A picture is sent as a URL or as base64 with its type, whichever it is, after the text."""
    is_url = image == PICTURE
    data = image.partition(",")[2]
    source = {"type": "url", "url": image} if is_url else {"type": "base64", "media_type": "image/webp", "data": data}
    blob = {"mimeType": "image/webp", "data": data}

    (message,) = sent("anthropic", user="u", image=image)["messages"]
    assert message["content"] == [{"type": "text", "text": "u"}, {"type": "image", "source": source}]
    (content,) = sent("gemini", user="u", image=image)["contents"]
    by_url = {"fileData": {"mimeType": "image/png", "fileUri": image}}
    assert content["parts"] == [{"text": "u"}, by_url if is_url else {"inlineData": blob}]
    (item,) = sent("openai-responses", user="u", image=image)["input"]
    assert item["content"] == [
        {"type": "input_text", "text": "u"},
        {"type": "input_image", "image_url": image, "detail": "auto"},
    ]


def test_turns_of_ready_messages_keep_their_order_in_every_dialect() -> None:
    """Examples are turns of their own, under the dialect's names for the two sides, and the system text goes ahead."""
    anthropic, gemini = sent("anthropic", messages=SHOTS), sent("gemini", messages=SHOTS)
    responses = sent("openai-responses", messages=SHOTS)

    assert anthropic["system"] == responses["instructions"] == "Label it."
    assert gemini["systemInstruction"] == {"parts": [{"text": "Label it."}]}
    assert anthropic["messages"] == [
        {"role": "user", "content": "good"},
        {"role": "assistant", "content": [{"type": "text", "text": "pos"}]},
        {"role": "user", "content": "bad"},
    ]
    assert [(one["role"], one["parts"]) for one in gemini["contents"]] == [
        ("user", [{"text": "good"}]),
        ("model", [{"text": "pos"}]),
        ("user", [{"text": "bad"}]),
    ]
    assert [one["content"] for one in responses["input"]] == ["good", [{"type": "output_text", "text": "pos"}], "bad"]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (
            {"system_role": "developer"},
            [{"role": "developer", "content": "s"}, {"role": "user", "content": "u"}],
        ),
        ({"system_role": "user"}, [{"role": "user", "content": "s\n\nu"}]),
    ],
    ids=["developer", "user"],
)
def test_the_system_text_goes_where_the_model_reads_it(options: dict[str, Any], messages: list[Any]) -> None:
    """A model may want another name for the system's side, or have none at all."""
    assert sent("openai", options=options, user="u", system="s")["messages"] == messages


def test_a_model_that_follows_no_dialogue_gets_its_examples_as_text() -> None:
    """`few_shot = "text"` writes all turns into one, with the last answer left open."""
    body = sent("openai", options={"few_shot": "text"}, messages=SHOTS)

    text = "Input: good\n\nOutput: pos\n\nInput: bad\n\nOutput:"
    assert body["messages"] == [{"role": "system", "content": "Label it."}, {"role": "user", "content": text}]


SCHEMA = PARAMETERS._replace(schema=CLOSED)
CHOICES = PARAMETERS._replace(choices=("x", "y"))


def test_a_schema_goes_where_the_dialect_has_a_place_for_it() -> None:
    """Without any option a schema is sent natively, its properties in the order they were written in."""
    schema = json.loads(CLOSED)

    openai = sent("openai", SCHEMA)["response_format"]["json_schema"]
    assert openai == {"name": "answer", "schema": schema, "strict": True}
    assert list(openai["schema"]["properties"]) == ["b", "a"]
    assert sent("openai-responses", SCHEMA)["text"] == {"format": {"type": "json_schema", **openai}}
    assert sent("anthropic", SCHEMA)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    config = sent("gemini", SCHEMA)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == schema


@pytest.mark.parametrize(
    ("schema", "option", "strict"),
    [
        (CLOSED, None, True),
        (OPEN, None, False),
        (OPEN, True, True),
        (CLOSED, False, False),
        ('{"type":"array","items":' + CLOSED + "}", None, False),
        (
            '{"type":"object","properties":{"a":' + OPEN + '},"required":["a"],"additionalProperties":false}',
            None,
            False,
        ),
        ('{"$ref":"#/$defs/a","$defs":{"a":' + CLOSED + "}}", None, False),
    ],
)
def test_a_schema_is_strict_where_openai_would_take_it(schema: str, option: bool | None, strict: bool) -> None:
    """OpenAI answers 400 to a strict schema with an open object in it, so such a one is not called strict."""
    body = sent("openai", PARAMETERS._replace(schema=schema), options={"strict_schema": option})

    assert body["response_format"]["json_schema"]["strict"] is strict


def test_anthropic_may_get_a_schema_as_a_tool() -> None:
    """Older models get a tool that they must call."""
    body = sent("anthropic", SCHEMA, options={"json_schema": "tool"})

    assert body["tool_choice"] == {"type": "tool", "name": "rowroute_answer"}
    assert [tool["input_schema"] for tool in body["tools"]] == [json.loads(CLOSED)]
    assert "output_config" not in body


@pytest.mark.parametrize(
    ("adapter", "system_of", "json_mode"),
    [
        ("openai", lambda body: body["messages"][0]["content"], {"response_format": {"type": "json_object"}}),
        ("openai-responses", lambda body: body["instructions"], {"text": {"format": {"type": "json_object"}}}),
        ("anthropic", lambda body: body["system"], {}),
        (
            "gemini",
            lambda body: body["systemInstruction"]["parts"][0]["text"],
            {"generationConfig": {"maxOutputTokens": 64, "temperature": 0, "responseMimeType": "application/json"}},
        ),
    ],
)
def test_a_model_without_schemas_is_told_in_the_prompt(adapter: str, system_of: Any, json_mode: dict[str, Any]) -> None:
    """Where no field takes it, the schema ends the system text, and JSON of any form is asked for where that can be."""
    told = sent(adapter, SCHEMA, options={"json_schema": False}, user="u", system="s")

    assert system_of(told).startswith("s\n\nAnswer with JSON alone")
    assert system_of(told).endswith(CLOSED)
    assert CLOSED in system_of(sent(adapter, SCHEMA, options={"json_schema": False}, user="u"))
    assert sent(adapter, SCHEMA, options={"json_schema": "object"}, user="u", system="s") == told | json_mode


def test_choices_become_the_narrowest_form_there_is() -> None:
    """Choices are sent where the model is said to take them: an enumeration for Gemini, else an object with a label."""
    on = {"json_schema": True}

    assert sent("anthropic", CHOICES, options=on)["output_config"]["format"]["schema"] == LABEL
    assert sent("openai-responses", CHOICES, options=on)["text"]["format"]["schema"] == LABEL
    config = sent("gemini", CHOICES, options=on)["generationConfig"]
    assert config["responseMimeType"] == "text/x.enum"
    assert config["responseSchema"] == {"type": "STRING", "enum": ["x", "y"]}
    assert sent("anthropic", CHOICES) == sent("anthropic")


def test_tables_of_a_body_are_merged_into_ours() -> None:
    """A field of the user's in a table that we fill, too, leaves the rest of it."""
    body = {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}, "labels": {"job": "night"}}

    assert sent("gemini", options={"body": body}, user="u") == {
        "generationConfig": {"maxOutputTokens": 64, "temperature": 0, "thinkingConfig": {"thinkingBudget": 0}},
        "labels": {"job": "night"},
        "contents": [{"role": "user", "parts": [{"text": "u"}]}],
    }


@pytest.mark.parametrize(
    ("adapter", "options", "said"),
    [
        ("anthropic", {"body": {"system": "x"}}, "body: system can't be set here"),
        ("gemini", {"body": {"contents": []}}, "body: contents can't be set here"),
        ("openai-responses", {"body": {"stream": True}}, "body: stream can't be set here"),
        ("openai", {"json_schema": "tool"}, "adapter anthropic alone"),
        ("openai", {"jsonschema": True}, "unknown field `jsonschema`.*known: max_tokens_field, temperature"),
        ("gemini", {"few_shot": "none"}, "few_shot"),
    ],
)
def test_options_that_can_not_be_are_told_with_those_that_can(adapter: str, options: Any, said: str) -> None:
    """A wrong option stops the job with its place and what there is."""
    with pytest.raises(JobError, match=rf"models\.m\.options.*{said}"):
        sent(adapter, options=options)


def test_every_model_that_is_known_can_be_asked() -> None:
    """The options that come with the package are options, and every model with a price gets schema, choices and text."""
    catalogue = load_catalogue(listed=True)
    asked = 0
    for model in catalogue.models.values():
        provider = catalogue.providers[model.provider]
        if provider.adapter not in ("recorded", "local"):
            adapter = find_adapter(provider.adapter)
            for parameters in (PARAMETERS, SCHEMA, CHOICES):
                assert adapter.encode(a_request(system="s"), model, parameters._replace()).body
            asked += 1
    assert asked > 100


@pytest.mark.parametrize(
    ("name", "schema_by", "thinks"),
    [
        ("gpt-4o", "response_format", None),
        ("deepseek-v4-pro", '{"type":"json_object"}', '"thinking":{"type":"disabled"}'),
        ("glm-4.6", '{"type":"json_object"}', '"thinking":{"type":"disabled"}'),
        ("claude-haiku-4-5", "output_config", None),
        ("claude-sonnet-4-20250514", "tool_choice", None),
        ("gemini-2.5-flash", "responseJsonSchema", '"thinkingConfig":{"thinkingBudget":0}'),
        ("mistral-small-latest", "response_format", None),
    ],
)
def test_a_family_is_asked_in_its_own_way(name: str, schema_by: str, thinks: str | None) -> None:
    """How a schema is asked for, and that a model is not to think, follows from the name of the model."""
    catalogue = load_catalogue(listed=True)
    model = catalogue.models.get(name) or find_listed(name)
    assert model is not None

    body = find_adapter(catalogue.providers[model.provider].adapter).encode(a_request(), model, SCHEMA).body.decode()

    assert schema_by in body
    assert thinks is None or thinks in body
