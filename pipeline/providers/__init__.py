"""Dialects: how a provider is asked and how it answers. Data in, data out: no connection, clock or environment."""

import pkgutil
from typing import Protocol, runtime_checkable

from pipeline.errors import JobError
from pipeline.records import Answer, HttpRequest, HttpResponse, Model, Parameters, Request

_BUILT_IN = {
    "openai": "pipeline.providers.openai:OpenAIAdapter",
    "openai-responses": "pipeline.providers.responses:ResponsesAdapter",
    "azure": "pipeline.providers.azure:AzureAdapter",
    "anthropic": "pipeline.providers.anthropic:AnthropicAdapter",
    "anthropic-2026-10-21": "pipeline.providers.anthropic:Anthropic2026Adapter",
    "gemini": "pipeline.providers.gemini:GeminiAdapter",
}


@runtime_checkable
class Adapter(Protocol):
    """A dialect. Its methods are pure but for caches, and it is made by calling its class without arguments."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers of every request; the *key* appears here and nowhere else."""

    def encode(self, request: Request, model: Model, parameters: Parameters) -> HttpRequest:
        """Return what to POST.

        Raises:
            JobError: when the options of *model* are not what this dialect knows them to be.
        """

    def decode(self, response: HttpResponse) -> Answer:
        """Return the answer in *response*.

        Raises:
            CallError: for everything that is not an answer. Any status with any bytes gives one or the other.
        """


def find_adapter(name: str) -> Adapter:
    """Return a new adapter: a built-in one by its name, any other as `package.module:Class`.

    Raises:
        JobError: when there is no such class, or it is not an adapter.
    """
    target = _BUILT_IN.get(name, name)
    right = f"built in: {', '.join(_BUILT_IN)}; or package.module:Class"
    if ":" not in target:
        raise JobError(f"no adapter {name!r}; {right}")
    try:
        adapter = pkgutil.resolve_name(target)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise JobError(f"no adapter {name!r}: {error}; {right}") from error
    if not isinstance(adapter, Adapter):
        raise JobError(f"adapter {name!r} must have the methods headers, encode and decode")
    return adapter
