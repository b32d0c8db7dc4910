"""What holds for every dialect, whatever comes over the wire. A new adapter is one more name in ADAPTERS."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.providers import Adapter, find_adapter
from pipeline.records import Answer, Finish, HttpResponse, Model, Parameters, Usage, UsageStatus
from tests.builders import a_request

ADAPTERS = ("openai", "openai-responses", "azure", "anthropic", "anthropic-2026-10-21", "gemini")
KEY_HEADERS = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}
MODEL = Model("a-model", "a-provider", 128_000, ())
PARAMETERS = Parameters(max_output_tokens=64, temperature=0.0)

# Words that dialects give a meaning to, so that random bodies reach past the first `if`.
KEYS = st.sampled_from(
    """choices message content finish_reason usage prompt_tokens completion_tokens total_tokens prompt_tokens_details
    cached_tokens refusal model id index error code type details metadata status reason violations quotaId detail msg
    innererror retryDelay object text output status incomplete_details input_tokens output_tokens stop_reason name input
    cache_creation cache_creation_input_tokens candidates parts thought finishReason promptFeedback blockReason
    usageMetadata promptTokenCount candidatesTokenCount thoughtsTokenCount totalTokenCount""".split()  # noqa: SIM905, a list of words is easier to read as such
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["stop", "length", "rate_limit_exceeded", "1302", "PerDay", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
JSON_BODIES = VALUES.map(lambda value: json.dumps(value).encode())
COMPLETIONS = st.builds(
    lambda content, finish, usage, rest: json.dumps(
        {"choices": [{"message": {"content": content}, "finish_reason": finish}], "usage": usage} | rest
    ).encode(),
    VALUES,
    SCALARS,
    st.none() | st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, SCALARS, max_size=2), max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=2),
)
MESSAGES = st.builds(
    lambda text, word, usage, rest: json.dumps(
        {
            "content": [{"type": "text", "text": text}],
            "stop_reason": word,
            "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}],
            "status": word,
            "candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": word}],
            "usageMetadata": usage,
            "usage": usage,
        }
        | rest
    ).encode(),
    VALUES,
    SCALARS | st.sampled_from(["completed", "end_turn", "tool_use", "STOP"]),
    st.none() | st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, SCALARS, max_size=2), max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=2),
)
BODIES = st.binary(max_size=200) | JSON_BODIES | COMPLETIONS | MESSAGES
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-should-retry", "x-request-id", "content-type"])
    | st.text(max_size=8),
    st.text(max_size=30) | st.sampled_from(["Wed, 21 Oct 2026 07:28:00 GMT", "false", "nan", "1e400", "-1", "7"]),
    max_size=5,
)


@pytest.fixture(params=[name for name in ADAPTERS if name not in ("azure", "anthropic-2026-10-21")], scope="module")
def decoder(request: pytest.FixtureRequest) -> Adapter:
    """Return one adapter of each way to decode: the others differ in their requests alone."""
    return find_adapter(request.param)


@pytest.fixture(params=ADAPTERS, scope="module")
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return find_adapter(request.param)


def decoded(adapter: Adapter, response: HttpResponse) -> Answer | CallError:
    try:
        return adapter.decode(response)
    except CallError as error:
        return error


def check_answer(answer: Answer) -> None:
    """An answer can be stored, and its usage is possible."""
    texts = (answer.text, answer.raw_finish, answer.model_echo, answer.provider_request_id)
    assert all(text.encode() is not None for text in texts)
    assert isinstance(answer.finish, Finish)
    assert (answer.usage is None) == (answer.usage_status is not UsageStatus.MEASURED)
    if answer.usage is not None:
        assert all(type(tokens) is int and 0 <= tokens <= 10**9 for tokens in answer.usage)
        assert answer.usage.reasoning <= answer.usage.output
    if answer.finish is Finish.OK:
        assert answer.text.strip()


def check_error(error: CallError, status: int) -> None:
    """An error can be logged in one line, and it asks for a possible wait."""
    assert isinstance(error.kind, ErrorKind)
    assert error.status == status
    assert len(error.message) <= 200
    assert all(text.isprintable() and text.encode() is not None for text in (error.message, error.code))
    assert error.retry_after_s is None or 0 <= error.retry_after_s < float("inf")


@settings(max_examples=150)
@given(status=st.just(200) | st.integers(0, 999), headers=HEADERS, body=BODIES)
def test_any_response_is_an_answer_or_a_call_error(
    decoder: Adapter, status: int, headers: dict[str, str], body: bytes
) -> None:
    """No status, header or body, however odd, may stop the job."""
    result = decoded(decoder, HttpResponse(status, headers, body))

    if isinstance(result, CallError):
        check_error(result, status)
    else:
        check_answer(result)


@settings(max_examples=150)
@given(headers=HEADERS, body=COMPLETIONS | MESSAGES)
def test_any_completion_is_an_answer_or_a_call_error(decoder: Adapter, headers: dict[str, str], body: bytes) -> None:
    """A body that looks like an answer and has odd values in it stops the job no more than others."""
    result = decoded(decoder, HttpResponse(200, headers, body))

    if isinstance(result, CallError):
        check_error(result, 200)
    else:
        check_answer(result)


@given(status=st.integers(0, 199) | st.integers(300, 999), body=BODIES)
def test_a_status_that_is_no_success_never_gives_an_answer(decoder: Adapter, status: int, body: bytes) -> None:
    """Whatever its body says, a response that is not 2xx is an error."""
    assert isinstance(decoded(decoder, HttpResponse(status, {}, body)), CallError)


@given(
    user=st.text(max_size=50),
    system=st.none() | st.text(max_size=20),
    image=st.none() | st.just("https://example.org/a.png"),
)
def test_a_request_is_json_and_never_holds_the_key(
    adapter: Adapter, user: str, system: str | None, image: str | None
) -> None:
    """Whatever the row holds, the body is JSON in UTF-8, and the key is in the headers alone."""
    key = "sk-CANARY-contract"

    sent = adapter.encode(a_request(user=user, system=system, image=image), MODEL, PARAMETERS)

    assert isinstance(json.loads(sent.body.decode()), dict)
    assert key in " ".join(adapter.headers(key).values())
    assert key not in sent.path
    assert key.encode() not in sent.body
    assert sent.path.startswith("/")


def test_a_lone_surrogate_is_sent_as_the_replacement_character(adapter: Adapter) -> None:
    """A lone surrogate can't be sent, and the rest of its row can."""
    sent = adapter.encode(a_request(user="a\ud800b"), MODEL, PARAMETERS)

    assert "a\ufffdb" in sent.body.decode()


def test_without_a_key_no_header_authorises(adapter: Adapter) -> None:
    """A local server without keys is asked without an authorization header."""
    assert not KEY_HEADERS & set(adapter.headers(None))
    assert KEY_HEADERS & set(adapter.headers("sk-1"))


@given(
    messages=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]) | SCALARS},
            optional={"content": VALUES | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": SCALARS}))},
        ),
        max_size=4,
    ),
    form=st.sampled_from([None, True, False, "bare", "object"]),
    role=st.sampled_from(["system", "developer", "user"]),
    few_shot=st.sampled_from(["turns", "text"]),
)
def test_ready_messages_of_any_form_can_be_sent(
    adapter: Adapter, messages: list[Any], form: Any, role: str, few_shot: str
) -> None:
    """Whatever a row's own messages hold, they go out as JSON: whether they make sense is for the provider to say."""
    ready = json.loads(json.dumps([*messages, {"role": "user", "content": "hi"}]).replace("\\ud800", ""))
    request = a_request(messages=json.dumps(ready).replace("NaN", "0").replace("Infinity", "1"))
    model = MODEL._replace(options={"json_schema": form, "system_role": role, "few_shot": few_shot})

    sent = adapter.encode(request, model, PARAMETERS._replace(schema='{"type": "object"}'))

    assert isinstance(json.loads(sent.body), dict)


def test_equal_requests_give_equal_bytes(adapter: Adapter) -> None:
    """Encoding depends on its arguments alone, not on what was encoded before."""
    other = MODEL._replace(api_name="another-name")
    first = adapter.encode(a_request(1), MODEL, PARAMETERS)

    between = adapter.encode(a_request(1), other, PARAMETERS._replace(max_output_tokens=65))

    assert adapter.encode(a_request(1), MODEL, PARAMETERS) == first != between
    assert "another-name" in between.path + between.body.decode()


class Echo:
    """An adapter of a user's, found by its path."""

    def headers(self, key: str | None) -> dict[str, str]:
        return {}

    def encode(self, request: Any, model: Any, parameters: Any) -> Any:
        return None

    def decode(self, response: HttpResponse) -> Answer:
        return Answer(response.body.decode(), usage=Usage(1, 1))


def test_an_adapter_of_the_user_is_found_by_its_path() -> None:
    """`package.module:Class` names a class anywhere that can be imported."""
    assert find_adapter("tests.test_provider_contract:Echo").decode(HttpResponse(200, {}, b"hello")).text == "hello"


@pytest.mark.parametrize(
    "name", ["opnai", "no.such.module:Class", "pipeline.records:NoSuchClass", "pipeline.records:PICO_USD", ":", "a b:c"]
)
def test_a_wrong_adapter_name_is_told_with_the_right_ones(name: str) -> None:
    """A name that leads nowhere gets a message with the built-in names and the form of a path."""
    with pytest.raises(JobError, match=rf"built in: {', '.join(ADAPTERS)}; or package\.module:Class"):
        find_adapter(name)


def test_a_class_that_is_no_adapter_is_refused() -> None:
    """A class without the three methods is refused before anything is sent."""
    with pytest.raises(JobError, match="headers, encode and decode"):
        find_adapter("collections:OrderedDict")
