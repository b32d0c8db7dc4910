"""What is known of models beside their price: vision, dialect, context, retirement. Read from `families.toml`."""

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any

from pydantic import Field

from pipeline.catalogue.files import Section, read_data
from pipeline.spec import validate

_FILE = "families.toml"


class Family(Section):
    """The models of one provider whose names begin with `prefix`."""

    provider: str
    prefix: str
    context_tokens: int | None = None  # where the price list does not say
    vision: bool = False
    retires: date | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class ListedProvider(Section):
    """A provider with a public price list; `listed_as` is its id in genai-prices."""

    listed_as: str
    skip: tuple[str, ...] = ()  # words of names that are no chat models
    peak_days: str = "mon-sun"  # of the hours with a price of their own
    options: dict[str, Any] = Field(default_factory=dict)


class _File(Section):
    checked: date  # what is said here, and the price list against the providers' pages
    providers: dict[str, ListedProvider]
    families: list[Family]


@cache
def _families() -> _File:
    return validate(_File, read_data(_FILE), where=_FILE)


def listed_providers() -> Mapping[str, ListedProvider]:
    """Return the providers with public prices, in order of precedence."""
    return _families().providers


def listed_on() -> date:
    """Return the day when the price list was last checked."""
    return _families().checked


def find_family(provider: str, name: str) -> Family | None:
    """Return what is known of the model *name* of *provider*."""
    known = [
        family for family in _families().families if family.provider == provider and name.startswith(family.prefix)
    ]
    return max(known, key=lambda family: len(family.prefix), default=None)


def find_options(provider: str, name: str) -> dict[str, Any]:
    """Return how the dialect of the model differs, as far as is known: the provider's options, then the family's."""
    listed = listed_providers().get(provider)
    family = find_family(provider, name)
    return {**(listed.options if listed else {}), **(family.options if family else {})}
