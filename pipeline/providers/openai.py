"""OpenAI chat completions: OpenAI, DeepSeek, GLM, Mistral, AIWave, OpenRouter, vLLM, Ollama and llama.cpp speak it."""

from typing import Any

import msgspec

from pipeline.providers import bodies, failures
from pipeline.providers.capabilities import Options
from pipeline.providers.dialogue import dialogue, parts_of
from pipeline.providers.finishes import finish_of
from pipeline.providers.frames import Frame, Frames, encoded
from pipeline.providers.schemas import named_schema, wanted_schema
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

_OURS = frozenset({"model", "messages", "n", "stream"})


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


class OpenAIAdapter:
    """The dialect of chat completions. `base_url` ends where `/chat/completions` begins, mostly in `/v1`."""

    def __init__(self) -> None:
        self._frames = Frames(_OURS, self.path_of, _fields)

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type and, where there is a *key*, bearer authorization."""
        headers = {"content-type": "application/json"}
        return headers if key is None else headers | {"authorization": f"Bearer {key}"}

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return the request as a POST. Images are sent as the URLs they are, `data:` ones included.

        Raises:
            JobError: when the options of *model* have a wrong type or set what is not theirs.
        """
        frame = self._frames.of(model, parameters)
        return HttpRequest(frame.path, b"".join((frame.head, b',"messages":', _messages(request, frame), b"}")))

    def path_of(self, _model: Model, _options: Options) -> str:
        """Return the path to POST to."""
        return "/chat/completions"

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


def _fields(model: Model, parameters: Parameters, options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": model.wire_name, options.max_tokens_field: parameters.max_output_tokens}
    if parameters.temperature is not None and options.temperature:
        fields["temperature"] = parameters.temperature
    schema = wanted_schema(parameters, options)
    if schema is not None:
        fields["response_format"] = {"type": "json_schema", "json_schema": named_schema(schema, options)}
    elif parameters.schema is not None and options.json_schema == "object":
        fields["response_format"] = {"type": "json_object"}
    return fields


def _messages(request: Request, frame: Frame) -> bytes:
    if not _is_plain(frame):
        return encoded(_arranged(request, frame))
    if request.messages is None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": request.user}]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
    elif request.image is None:
        return bodies.without_surrogates(request.messages).encode()
    else:
        messages = msgspec.json.decode(request.messages)
    if request.image is not None:
        image = {"type": "image_url", "image_url": {"url": request.image}}
        messages[-1]["content"] = [*parts_of(messages[-1].get("content")), image]
    return encoded(messages)


def _is_plain(frame: Frame) -> bool:
    """Tell whether messages go out as they are."""
    options = frame.options
    return not frame.instruction and options.system_role == "system" and options.few_shot == "turns"


def _arranged(request: Request, frame: Frame) -> list[dict[str, Any]]:
    """Return the messages as the model wants them."""
    system, turns = dialogue(request, frame.options, frame.instruction)
    first = [{"role": frame.options.system_role, "content": system}] if system else []
    return [*first, *({"role": turn.role, "content": turn.content} for turn in turns)]


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
