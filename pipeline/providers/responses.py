"""OpenAI Responses: the API that OpenAI's newer models are made for."""

from typing import Any

import msgspec

from pipeline.providers import bodies, failures
from pipeline.providers.capabilities import Options
from pipeline.providers.dialogue import dialogue, image_of
from pipeline.providers.finishes import finish_of
from pipeline.providers.frames import Frames, encoded
from pipeline.providers.schemas import named_schema, wanted_schema
from pipeline.providers.usages import Tokens, read_usage, split
from pipeline.records import Answer, Finish, HttpRequest, HttpResponse, Model, Parameters, Request, Usage

_OURS = frozenset({"model", "input", "instructions", "stream", "background"})
# The words of this API that others have other words for. A response that is not at its end has no answer.
_WORDS = {
    "completed": "stop",
    "max_output_tokens": "length",
    "failed": "error",
    "cancelled": "aborted",
    "queued": "aborted",
    "in_progress": "aborted",
}


class _Content(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Content] | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    output: list[_Item]
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: Any = None
    model: str | None = None
    id: str | None = None
    error: Any = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Tokens
    output_tokens: Tokens
    total_tokens: Tokens | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_decoder = msgspec.json.Decoder(_Response)


class ResponsesAdapter:
    """The dialect of responses. `base_url` ends in `/v1`. Nothing is stored at the provider's unless asked for."""

    def __init__(self) -> None:
        self._frames = Frames(_OURS, lambda _model, _options: "/responses", _fields)

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type and, where there is a *key*, bearer authorization."""
        headers = {"content-type": "application/json"}
        return headers if key is None else headers | {"authorization": f"Bearer {key}"}

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return the request as a POST: the system text as instructions.

        Raises:
            JobError: when the options of *model* are wrong.
        """
        frame = self._frames.of(model, parameters)
        system, turns = dialogue(request, frame.options, frame.instruction)
        rest: dict[str, Any] = {"instructions": system} if system else {}
        rest["input"] = [{"role": turn.role, "content": _content(turn.role, turn.content)} for turn in turns]
        return HttpRequest(frame.path, frame.around(encoded(rest)))

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer: the texts of its messages.

        Raises:
            CallError: for every response that has none, or failed.
        """
        body = bodies.read(response, _decoder) if 200 <= response.status < 300 else None
        if body is None or body.error:
            raise failures.call_error(response)
        text, finish, word = _said(body)
        usage, usage_status = read_usage(body.usage, _Usage, _billed, text)
        return Answer(
            text,
            finish,
            word,
            usage,
            usage_status,
            body.model or "",
            bodies.without_surrogates(response.headers.get("x-request-id") or body.id or ""),
            bodies.limit_headers(response.headers),
        )


def _fields(model: Model, parameters: Parameters, options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": model.wire_name,
        "max_output_tokens": parameters.max_output_tokens,
        "store": False,
    }
    if parameters.temperature is not None and options.temperature:
        fields["temperature"] = parameters.temperature
    schema = wanted_schema(parameters, options)
    if schema is not None:
        fields["text"] = {"format": {"type": "json_schema", **named_schema(schema, options)}}
    elif parameters.schema is not None and options.json_schema == "object":
        fields["text"] = {"format": {"type": "json_object"}}
    return fields


def _content(role: str, content: str | list[dict[str, Any]]) -> Any:
    return content if isinstance(content, str) else [_part(role, part) for part in content]


def _part(role: str, part: dict[str, Any]) -> dict[str, Any]:
    """Return a text or a picture in this dialect's form, any other part as it is."""
    if part.get("type") == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part.get("text")}
    image = image_of(part)
    return part if image is None else {"type": "input_image", "image_url": image.url, "detail": "auto"}


def _said(body: _Response) -> tuple[str, Finish, str]:
    """Return text, how it ended, and the provider's word for that; reasoning is no part of the text."""
    said = [part for item in body.output if item.type == "message" for part in item.content or []]
    text = "".join(part.text or "" for part in said if part.type == "output_text")
    word = body.status or ""
    if word == "incomplete" and body.incomplete_details is not None:
        word = body.incomplete_details.reason or word
    refusal = "".join(part.refusal or "" for part in said)
    if refusal:
        return text or refusal, Finish.BLOCKED, word
    if word == "completed" and not text and any(item.type.endswith("_call") for item in body.output):
        return text, Finish.UNEXPECTED, word
    return text, finish_of(_WORDS.get(word, word), text), word


def _billed(usage: _Usage) -> Usage | None:
    """Return the usage in disjoint classes, None where the counts contradict each other."""
    if usage.total_tokens is not None and usage.total_tokens != usage.input_tokens + usage.output_tokens:
        return None
    details, thinking = usage.input_tokens_details, usage.output_tokens_details
    return split(
        usage.input_tokens,
        usage.output_tokens,
        cached=(details.cached_tokens or 0) if details else 0,
        cache_write=(details.cache_write_tokens or 0) if details else 0,
        reasoning=(thinking.reasoning_tokens or 0) if thinking else 0,
    )
