"""OpenAI chat completions: OpenAI, DeepSeek, GLM, Mistral, AIWave, OpenRouter, vLLM, Ollama and llama.cpp speak it."""

from typing import Any, Literal, NamedTuple

import msgspec

from pipeline.errors import JobError
from pipeline.providers import bodies, failures
from pipeline.providers.finishes import finish_of
from pipeline.providers.usages import Tokens, split
from pipeline.records import (
    Answer,
    Finish,
    HttpRequest,
    HttpResponse,
    Model,
    Parameters,
    Request,
    Usage,
    UsageStatus,
)

_PATH = "/chat/completions"
_OURS = {"model", "messages", "n", "stream"}


class _Options(msgspec.Struct):
    """`options` of a model in this dialect."""

    max_tokens_field: str = "max_tokens"  # OpenAI's newer models want max_completion_tokens
    temperature: bool = True  # False: the model refuses the parameter
    # Whether response_format may be a JSON schema: `false` never, `true` also for `choices`, as an object with a label;
    # "bare" likewise, as a string (llama.cpp, vLLM). Without it a schema is sent and choices are only checked.
    json_schema: bool | Literal["bare"] | None = None
    strict_schema: bool = True
    body: dict[str, Any] = {}  # further fields of the request


class _Frame(NamedTuple):
    """What surrounds the messages, the same for every request of a job to a model."""

    model: Model
    parameters: Parameters
    head: bytes
    tail: bytes


class _Part(msgspec.Struct, gc=False):
    type: str = "text"  # Mistral also sends "thinking"
    text: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    index: Any = 0


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Tokens | None = None  # DeepSeek; equals cached_tokens where both are sent
    prompt_cache_miss_tokens: Tokens | None = None


class _Completion(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None
    id: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Completion)
_encoder = msgspec.json.Encoder()


class OpenAIAdapter:
    """The dialect of chat completions. `base_url` ends where `/chat/completions` begins, mostly in `/v1`."""

    def __init__(self) -> None:
        self._frames: dict[str, _Frame] = {}

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type and, where there is a *key*, bearer authorization."""
        headers = {"content-type": "application/json"}
        return headers if key is None else headers | {"authorization": f"Bearer {key}"}

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return the request as a POST. Images must be URLs, `data:` ones included; lone surrogates become U+FFFD.

        Raises:
            JobError: when the options of *model* have a wrong type or set what is not theirs.
        """
        frame = self._frames.get(model.name)
        if frame is None or frame.model is not model or frame.parameters is not parameters:
            frame = self._frames[model.name] = _frame(model, parameters)
        return HttpRequest(_PATH, b"".join((frame.head, _messages(request), frame.tail)))

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer, of several choices the one of index 0.

        Raises:
            CallError: for every response that is not a completion.
        """
        if 200 <= response.status < 300:
            try:
                completion = _decoder.decode(response.body)
            except (ValueError, RecursionError):
                return _decode_odd(response)
            if not completion.error:
                return _answer(response, completion)
        raise failures.call_error(response)


def _frame(model: Model, parameters: Parameters) -> _Frame:
    try:
        options = msgspec.convert(dict(model.options), _Options)
    except msgspec.ValidationError as error:
        raise JobError(f"models.{model.name}.options: {error}") from error
    ours = sorted(_OURS & options.body.keys())
    if ours:
        raise JobError(f"models.{model.name}.options.body: {', '.join(ours)} can't be set here")
    fields: dict[str, Any] = {options.max_tokens_field: parameters.max_output_tokens}
    if parameters.temperature is not None and options.temperature:
        fields["temperature"] = parameters.temperature
    response_format = _response_format(parameters, options)
    if response_format:
        fields["response_format"] = response_format
    head = b'{"model":' + _encoder.encode(model.wire_name) + b',"messages":'
    return _Frame(model, parameters, head, b"," + _encoder.encode(fields | options.body)[1:])


def _response_format(parameters: Parameters, options: _Options) -> dict[str, Any] | None:
    schema: Any
    if parameters.schema is not None and options.json_schema is not False:
        schema = msgspec.Raw(parameters.schema.encode())
    elif parameters.choices and options.json_schema:
        schema = {"type": "string", "enum": parameters.choices}
        if options.json_schema != "bare":
            schema = {
                "type": "object",
                "properties": {"label": schema},
                "required": ["label"],
                "additionalProperties": False,
            }
    else:
        return None
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": options.strict_schema},
    }


def _messages(request: Request) -> bytes:
    if request.messages is not None and request.image is None:
        return bodies.without_surrogates(request.messages).encode()
    if request.messages is not None:
        messages = msgspec.json.decode(request.messages, type=list[dict[str, Any]])
    elif request.system is None:
        messages = [{"role": "user", "content": request.user}]
    else:
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    if request.image is not None:
        messages[-1]["content"] = _with_image(messages[-1]["content"], request.image)
    try:
        return _encoder.encode(messages)
    except UnicodeEncodeError:
        return bodies.encode_with_surrogates(messages)


def _with_image(content: Any, url: str) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
    if isinstance(content, list):
        parts = content
    return [*parts, {"type": "image_url", "image_url": {"url": url}}]


def _decode_odd(response: HttpResponse) -> Answer:
    """Decode what strict typing refuses: wrong usage, lone surrogates, an error instead of choices, or rubbish."""
    body = bodies.parse(response)
    if not isinstance(body, dict) or "choices" not in body or body.get("error"):
        raise failures.call_error(response)
    try:
        choices = msgspec.convert(body["choices"] or [], list[_Choice])
    except msgspec.ValidationError as error:
        raise bodies.bad_body(response, f"is no completion: {error}") from error
    names = {name: body[name] for name in ("model", "id") if isinstance(body.get(name), str)}
    try:
        return _answer(response, _Completion(choices, msgspec.convert(body.get("usage"), _Usage | None), **names))
    except msgspec.ValidationError:
        return _answer(response, _Completion(choices, **names))._replace(usage_status=UsageStatus.INVALID)


def _answer(response: HttpResponse, completion: _Completion) -> Answer:
    text, finish, word = _said(completion.choices)
    usage, usage_status = None, UsageStatus.MISSING
    if completion.usage is not None:
        usage = _billed(completion.usage, text)
        usage_status = UsageStatus.INVALID if usage is None else UsageStatus.MEASURED
    return Answer(
        text,
        finish,
        word,
        usage,
        usage_status,
        completion.model or "",
        bodies.without_surrogates(response.headers.get("x-request-id") or completion.id or ""),
        bodies.limit_headers(response.headers),
    )


def _said(choices: list[_Choice]) -> tuple[str, Finish, str]:
    """Return the text of the choice that counts, how it ended, and the provider's word for that."""
    if not choices:
        return "", Finish.EMPTY, ""
    choice = choices[0]
    if len(choices) > 1:
        choice = next((choice for choice in choices if choice.index == 0), choice)
    word = choice.finish_reason or ""
    message = choice.message or _Message()
    text = message.content or ""
    if not isinstance(text, str):
        text = "".join(part.text or "" for part in text if part.type == "text")
    if message.refusal:
        return text or message.refusal, Finish.BLOCKED, word
    return text, finish_of(word, text), word


def _billed(usage: _Usage, text: str) -> Usage | None:
    """Return the usage in disjoint classes, None where the counts contradict each other or the *text* that came."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    details, thinking = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    hit, miss = usage.prompt_cache_hit_tokens, usage.prompt_cache_miss_tokens
    if hit is not None:
        cached = hit
        if miss is not None and hit + miss != prompt:
            return None
    if usage.total_tokens is not None and usage.total_tokens != prompt + completion:
        return None
    # Zeros beside a text are a gateway that did not count; believing them would make the answer free.
    if text and not (prompt and completion):
        return None
    return split(
        prompt,
        completion,
        cached=cached,
        cache_write=(details.cache_write_tokens or 0) if details else 0,
        reasoning=(thinking.reasoning_tokens or 0) if thinking else 0,
    )
