"""Run by the Python of `make peers`, which has the vendors' own packages: are these bodies what their types allow?

Reads a JSON list of [adapter, kind, name, body] from standard input, kind being request or answer; writes the list of
problems. Nothing is sent.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from anthropic.types import Message
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai.types import Content, GenerateContentResponse, GenerationConfig
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError

_REQUESTS = {
    "openai": TypeAdapter(CompletionCreateParamsNonStreaming),
    "azure": TypeAdapter(CompletionCreateParamsNonStreaming),
    "openai-responses": TypeAdapter(ResponseCreateParamsNonStreaming),
    "anthropic": TypeAdapter(MessageCreateParamsNonStreaming),
    "anthropic-2026-10-21": TypeAdapter(MessageCreateParamsNonStreaming),
}
_ANSWERS = {
    "openai": ChatCompletion,
    "azure": ChatCompletion,
    "openai-responses": Response,
    "anthropic": Message,
    "gemini": GenerateContentResponse,
}


def check_request(adapter: str, body: dict[str, Any]) -> None:
    """Raise ValueError where *body* has a wrong type or a field that the vendor does not know."""
    if adapter == "gemini":
        for content in (*body["contents"], *([body["systemInstruction"]] if "systemInstruction" in body else [])):
            Content.model_validate(content)
        GenerationConfig.model_validate(body["generationConfig"])
        unknown = set(body) - {"contents", "systemInstruction", "generationConfig"}
    else:
        unknown = set(body) - set(_REQUESTS[adapter].validate_python(body))
        if adapter == "anthropic":
            unknown -= {"temperature"}  # the package knows the newer version only, which has none
    if unknown:
        raise ValueError(f"unknown: {unknown}")


def check_answer(adapter: str, body: dict[str, Any]) -> None:
    """Raise ValueError where *body* is no answer of the vendor's."""
    _ANSWERS[adapter].model_validate(body)


def main() -> None:
    """Check what comes in."""
    checks: dict[str, Callable[[str, dict[str, Any]], None]] = {"request": check_request, "answer": check_answer}
    problems = []
    for adapter, kind, name, body in json.load(sys.stdin):
        try:
            checks[kind](adapter, body)
        except (ValidationError, ValueError) as error:
            problems.append(f"{adapter} {kind} {name}: {str(error)[:300]}")
    json.dump(problems, sys.stdout)


if __name__ == "__main__":
    main()
