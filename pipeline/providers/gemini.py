"""Gemini generateContent."""

from typing import Any
from urllib.parse import quote

import msgspec

from pipeline.providers import bodies, failures
from pipeline.providers.capabilities import Options
from pipeline.providers.dialogue import dialogue, image_of, parts_of
from pipeline.providers.finishes import finish_of
from pipeline.providers.frames import Frames, encoded
from pipeline.providers.schemas import wanted_schema
from pipeline.providers.usages import Tokens, read_usage
from pipeline.records import Answer, Finish, HttpRequest, HttpResponse, Model, Parameters, Request, Usage

_OURS = frozenset({"contents", "systemInstruction"})


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    thought: bool | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False):
    content: _Content | None = None
    finish_reason: str | None = msgspec.field(default=None, name="finishReason")


class _Feedback(msgspec.Struct, gc=False):
    block_reason: str | None = msgspec.field(default=None, name="blockReason")


class _Response(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class _Usage(msgspec.Struct, rename="camel", gc=False):
    """Cached tokens are part of the prompt; thoughts are not part of the candidates. Zeros may be left out."""

    prompt_token_count: Tokens
    cached_content_token_count: Tokens | None = None
    candidates_token_count: Tokens | None = None
    thoughts_token_count: Tokens | None = None
    tool_use_prompt_token_count: Tokens | None = None
    total_token_count: Tokens | None = None


_decoder = msgspec.json.Decoder(_Response)


class GeminiAdapter:
    """The dialect of the Gemini API. `base_url` ends in the version, as in `/v1beta`."""

    def __init__(self) -> None:
        self._frames = Frames(_OURS, _path, _fields)

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type and, where there is a *key*, `x-goog-api-key`: a key in the URL would be logged."""
        headers = {"content-type": "application/json"}
        return headers if key is None else headers | {"x-goog-api-key": key}

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return the request as a POST: the system text apart from the contents, pictures as URL or base64.

        Raises:
            JobError: when the options of *model* are wrong.
        """
        frame = self._frames.of(model, parameters)
        system, turns = dialogue(request, frame.options, frame.instruction)
        contents = [
            {"role": "model" if turn.role == "assistant" else "user", "parts": _parts(turn.content)} for turn in turns
        ]
        rest: dict[str, Any] = {"contents": contents}
        if system:
            rest = {"systemInstruction": {"parts": [{"text": system}]}} | rest
        return HttpRequest(frame.path, frame.around(encoded(rest)))

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer; a prompt that was blocked is one, too, as it may be billed.

        Raises:
            CallError: for every response that is neither.
        """
        body = bodies.read(response, _decoder) if 200 <= response.status < 300 else None
        if (
            body is None
            or body.error
            or (body.candidates is None and not (body.prompt_feedback or body.usage_metadata))
        ):
            raise failures.call_error(response)
        text, finish, word = _said(body)
        usage, usage_status = read_usage(body.usage_metadata, _Usage, _billed, text)
        return Answer(
            text,
            finish,
            word,
            usage,
            usage_status,
            body.model_version or "",
            body.response_id or "",
            bodies.limit_headers(response.headers),
        )


def _path(model: Model, _options: Options) -> str:
    name = model.wire_name
    return f"/{quote(name if '/' in name else f'models/{name}')}:generateContent"


def _fields(_model: Model, parameters: Parameters, options: Options) -> dict[str, Any]:
    config: dict[str, Any] = {"maxOutputTokens": parameters.max_output_tokens}
    if parameters.temperature is not None and options.temperature:
        config["temperature"] = parameters.temperature
    schema = wanted_schema(parameters, options)
    if schema is not None and parameters.schema is None:
        # An enumeration comes back as the bare label, so that it costs no more than a free answer.
        config |= {
            "responseMimeType": "text/x.enum",
            "responseSchema": {"type": "STRING", "enum": list(parameters.choices)},
        }
    elif schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
    elif parameters.schema is not None and options.json_schema == "object":
        config["responseMimeType"] = "application/json"
    return {"generationConfig": config}


def _parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_part(part) for part in parts_of(content)] or [{"text": ""}]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a text or a picture in this dialect's form, any other part as it is."""
    if part.get("type") == "text":
        return {"text": str(part.get("text", ""))}
    image = image_of(part)
    if image is None:
        return part
    if image.data is None:
        return {"fileData": {"mimeType": image.media_type, "fileUri": image.url}}
    return {"inlineData": {"mimeType": image.media_type, "data": image.data}}


def _said(body: _Response) -> tuple[str, Finish, str]:
    """Return text, how it ended, and the provider's word for that; thoughts are no part of the text."""
    if not body.candidates:
        word = (body.prompt_feedback.block_reason or "") if body.prompt_feedback else ""
        return "", Finish.BLOCKED if word else Finish.EMPTY, word
    candidate = body.candidates[0]
    parts = (candidate.content.parts or []) if candidate.content else []
    text = "".join(part.text or "" for part in parts if not part.thought)
    return text, finish_of(candidate.finish_reason, text), candidate.finish_reason or ""


def _billed(usage: _Usage) -> Usage | None:
    """Return the usage in disjoint classes, None where the counts contradict each other."""
    prompt = usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0)
    thoughts = usage.thoughts_token_count or 0
    output = (usage.candidates_token_count or 0) + thoughts
    cached = usage.cached_content_token_count or 0
    if cached > usage.prompt_token_count:
        return None
    if usage.total_token_count is not None and usage.total_token_count != prompt + output:
        return None
    return Usage(prompt - cached, output, cached, 0, 0, thoughts)
