"""Anthropic Messages, in both versions of the API; DeepSeek, OpenRouter, llama.cpp and others offer it, too."""

import json
from typing import Any, ClassVar

import msgspec

from pipeline.providers import bodies, failures
from pipeline.providers.capabilities import Options
from pipeline.providers.dialogue import dialogue, image_of
from pipeline.providers.finishes import finish_of
from pipeline.providers.frames import Frames, encoded
from pipeline.providers.schemas import wanted_schema
from pipeline.providers.usages import Tokens, read_usage
from pipeline.records import Answer, Finish, HttpRequest, HttpResponse, Model, Parameters, Request, Usage

_OURS = frozenset({"model", "messages", "system", "stream"})
_TOOL = "rowroute_answer"  # the one tool that is ever offered, so a call of it is the answer


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    name: str | None = None
    input: Any = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    stop_reason: str | None = None
    usage: Any = None
    model: str | None = None
    id: str | None = None
    error: Any = None


class _Written(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: Tokens = 0
    ephemeral_1h_input_tokens: Tokens = 0


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    """Input, cache writes and cache reads are counted apart; `output_tokens` is the whole output."""

    input_tokens: Tokens
    output_tokens: Tokens
    cache_creation_input_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation: _Written | None = None
    output_tokens_details: _Details | None = None


_decoder = msgspec.json.Decoder(_Message)


class AnthropicAdapter:
    """The Messages API of version 2023-06-01. `base_url` ends in `/v1`."""

    version: ClassVar[str] = "2023-06-01"
    takes_temperature: ClassVar[bool] = True

    def __init__(self) -> None:
        self._frames = Frames(_OURS, lambda _model, _options: "/messages", self._fields, has_tools=True)

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type, version and, where there is a *key*, `x-api-key`."""
        headers = {"content-type": "application/json", "anthropic-version": self.version}
        return headers if key is None else headers | {"x-api-key": key}

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return the request as a POST: the system text apart from the messages, pictures as URL or base64.

        Raises:
            JobError: when the options of *model* are wrong.
        """
        frame = self._frames.of(model, parameters)
        system, turns = dialogue(request, frame.options, frame.instruction)
        messages = [{"role": turn.role, "content": _content(turn.content)} for turn in turns]
        rest = {"system": system, "messages": messages} if system else {"messages": messages}
        return HttpRequest(frame.path, frame.around(encoded(rest)))

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer: its texts, or what it would hand to the tool that stands for a schema.

        Raises:
            CallError: for every response that is not a message.
        """
        message = bodies.read(response, _decoder) if 200 <= response.status < 300 else None
        if message is None or message.error:
            raise failures.call_error(response)
        text, finish = _said(message)
        usage, usage_status = read_usage(message.usage, _Usage, _billed, text)
        request_id = response.headers.get("request-id") or message.id or ""
        return Answer(
            text,
            finish,
            message.stop_reason or "",
            usage,
            usage_status,
            message.model or "",
            bodies.without_surrogates(request_id),
            bodies.limit_headers(response.headers),
        )

    def _fields(self, model: Model, parameters: Parameters, options: Options) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": model.wire_name, "max_tokens": parameters.max_output_tokens}
        if parameters.temperature is not None and options.temperature and self.takes_temperature:
            fields["temperature"] = min(parameters.temperature, 1.0)  # the scale of this API ends there
        schema = wanted_schema(parameters, options)
        if schema is not None and options.json_schema == "tool":
            tool = {"name": _TOOL, "description": "Takes the answer.", "input_schema": schema}
            fields |= {"tools": [tool], "tool_choice": {"type": "tool", "name": _TOOL}}
        elif schema is not None:
            fields["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return fields


class Anthropic2026Adapter(AnthropicAdapter):
    """Version 2026-10-21: bearer authorization, and no temperature, which it answers with 400."""

    version = "2026-10-21"
    takes_temperature = False

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type, version and, where there is a *key*, bearer authorization."""
        headers = super().headers(None)
        return headers if key is None else headers | {"authorization": f"Bearer {key}"}


def _content(content: str | list[dict[str, Any]]) -> Any:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a picture in this dialect's form, any other part as it is."""
    image = image_of(part)
    if image is None:
        return part
    if image.data is None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _said(message: _Message) -> tuple[str, Finish]:
    """Return the text and how it ended; thinking is no part of it."""
    for block in message.content:
        if block.type == "tool_use" and block.name == _TOOL:
            finish = Finish.OK if message.stop_reason == "tool_use" else finish_of(message.stop_reason, "x")
            return bodies.without_surrogates(json.dumps(block.input, ensure_ascii=False)), finish
    text = "".join(block.text or "" for block in message.content if block.type == "text")
    return text, finish_of(message.stop_reason, text)


def _billed(usage: _Usage) -> Usage | None:
    """Return the usage in disjoint classes, as it comes, None where the parts do not add up."""
    written, parts = usage.cache_creation_input_tokens, usage.cache_creation
    write_5m, write_1h = written or 0, 0
    if parts is not None:
        write_5m, write_1h = parts.ephemeral_5m_input_tokens, parts.ephemeral_1h_input_tokens
        if written is not None and write_5m + write_1h != written:
            return None
    details = usage.output_tokens_details
    thinking = (details.thinking_tokens or 0) if details else 0
    if thinking > usage.output_tokens:
        return None
    cached = usage.cache_read_input_tokens or 0
    return Usage(usage.input_tokens, usage.output_tokens, cached, write_5m, write_1h, thinking)
