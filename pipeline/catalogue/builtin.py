"""The models, providers and tiers that come with the package."""

from datetime import date
from typing import Any

from pydantic import Field

from pipeline.catalogue.entries import Table
from pipeline.catalogue.families import find_options
from pipeline.catalogue.files import Section, read_data
from pipeline.records import Model, Price
from pipeline.spec import ModelFile, Provider, Route, Usd, validate


class _Price(Section):
    since: date
    source: str
    input: Usd
    output: Usd
    cached_input: Usd | None = None


class _Model(Section):
    provider: str
    context_tokens: int = Field(gt=0)
    api_name: str = ""
    vision: bool = False
    retires: date | None = None
    options: dict[str, Any] | None = None  # None: as its family
    prices: list[_Price] = Field(min_length=1)


class _ModelFile(Section):
    checked: date
    models: dict[str, _Model]


def article_models() -> dict[str, Model]:
    """Return the article's eight models.

    The price in force is the provider's list price where it is known, because that is what will be billed; the
    article's own price is the earlier entry, dated by its publication, for re-pricing at its date.
    """
    file = validate(_ModelFile, read_data("article.toml"), where="article.toml")
    return {
        name: Model(
            name=name,
            provider=entry.provider,
            context_tokens=entry.context_tokens,
            prices=tuple(
                sorted((Price(**price.model_dump()) for price in entry.prices), key=lambda price: price.since)
            ),
            vision=entry.vision,
            api_name=entry.api_name,
            retires=entry.retires,
            options=find_options(entry.provider, name) if entry.options is None else entry.options,
        )
        for name, entry in file.models.items()
    }


def known_providers() -> dict[str, Provider]:
    """Return the built-in providers as a job would write them."""
    return validate(ModelFile, read_data("providers.toml"), where="providers.toml").providers


def article_table() -> Table:
    """Return the article's route table."""
    return table_of(validate(Route, {"table": read_data("tiers.toml")}, where="tiers.toml"))


def table_of(route: Route) -> Table:
    """Return the cells of *route* as a table."""
    return {tier: {cell: tuple(models) for cell, models in cells.items()} for tier, cells in route.table.items()}
