"""What a catalogue holds: models with dated prices, the providers that serve them, and the route table."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from pipeline.records import Model, Tier


class Quota(NamedTuple):
    """Limits that models share; None is no limit, and days begin at 00:00 UTC."""

    models: tuple[str, ...] = ("*",)  # names or patterns
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    input_tokens_per_min: float | None = None
    output_tokens_per_min: float | None = None
    requests_per_day: float | None = None
    tokens_per_day: float | None = None

    def divided(self, processes: int) -> "Quota":
        """Return the part of each of so many processes."""
        return self._replace(
            **{name: amount / processes for name in self._fields[1:] if (amount := getattr(self, name)) is not None}
        )

    def holds_for(self, model: str) -> bool:
        """Tell whether *model* shares in it."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


# What each batch API takes: chat completions, not responses; messages of both versions.
_BATCHED = {
    "openai": ("openai",),
    "anthropic": ("anthropic", "anthropic-2026-10-21"),
    "gemini": ("gemini",),
    "mistral": ("openai",),
}


class ProviderEntry(NamedTuple):
    """Where to send and how fast, every default filled in."""

    name: str
    adapter: str
    base_url: str | None = None  # None: the adapter needs none (`WITHOUT_URL`)
    key_env: str | None = None
    key_file: str | None = None
    quotas: Mapping[str, Quota] = {}  # by name; that of the whole provider has the empty one
    concurrency: int = 64
    timeout_s: float = 120.0
    max_attempts: int = 5
    max_retry_after_s: float = 120.0
    headers: Mapping[str, str] = {}
    path: str | None = None  # of the recorded answers
    batch: str | None = None  # its batch API
    batch_poll_s: float = 60.0
    batch_delete: bool = False  # whether a batch that is done with is deleted there, with its files

    @property
    def can_batch(self) -> bool:
        """Tell whether it has a batch API that takes what its adapter writes."""
        return self.adapter in _BATCHED.get(self.batch or "", ())


RECORDED = "recorded"
WITHOUT_URL = (RECORDED, "local")  # adapters that send nothing to a configured address

Table = Mapping[Tier, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that routing and pricing know.

    `table` maps tier -> cell (task or "task.hard") -> models in order of preference. `digest` is the SHA-256 of the
    whole content in hex: two runs with one digest had the same models, prices, providers and table.
    """

    models: Mapping[str, Model]
    providers: Mapping[str, ProviderEntry]
    table: Table
    digest: str
