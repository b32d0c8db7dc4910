"""The models, providers and tiers that come with the package."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import Field

from pipeline.catalogue.entries import Table
from pipeline.catalogue.families import find_options
from pipeline.catalogue.files import Section, read_data
from pipeline.money import PriceEntry
from pipeline.records import LongPrice, Model, Price
from pipeline.spec import ModelFile, Provider, Route, validate

AMOUNTS = ("input", "output", "cached_input", "cache_write_5m", "cache_write_1h")


class _Model(Section):
    provider: str
    context_tokens: int = Field(gt=0)
    api_name: str = ""
    vision: bool = False
    retires: date | None = None
    options: dict[str, Any] | None = None  # None: as its family
    prices: list[PriceEntry] = Field(min_length=1)


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
            prices=prices_of(entry.prices, source="", checked=file.checked),
            vision=entry.vision,
            api_name=entry.api_name,
            retires=entry.retires,
            options=find_options(entry.provider, name) if entry.options is None else entry.options,
        )
        for name, entry in file.models.items()
    }


def prices_of(entries: Iterable[PriceEntry], *, source: str, checked: date | None = None) -> tuple[Price, ...]:
    """Return dated prices in order; *source* and *checked* are those of an entry that names none."""
    return tuple(
        with_batch_share(
            Price(
                **entry.model_dump(exclude={"long", "source", "checked", "hours", "batch"}),
                source=entry.source or source,
                checked=entry.checked or checked,
                hours=entry.hours,
                long=tuple(
                    LongPrice(**long.model_dump())
                    for long in sorted(entry.long, key=lambda long: long.over_input_tokens)
                ),
            ),
            entry.batch,
        )
        for entry in sorted(entries, key=lambda entry: entry.since)
    )


def with_batch_share(price: Price, share: Decimal | None) -> Price:
    """Return *price* with *share* of it as the price in a batch, which is exact; None: there is none."""
    if share is None:
        return price
    long = tuple(each._replace(**_scaled(each, share)) for each in price.long)
    return price._replace(batch=price._replace(**_scaled(price, share), long=long))


def _scaled(prices: Price | LongPrice, share: Decimal) -> dict[str, Any]:
    amounts = {name: getattr(prices, name) for name in AMOUNTS}
    # Decimal arithmetic rounds to 28 digits unless told otherwise; no price times no share comes near.
    return {name: None if amount is None else amount * share for name, amount in amounts.items()}


def known_providers() -> dict[str, Provider]:
    """Return the built-in providers as a job would write them."""
    return validate(ModelFile, read_data("providers.toml"), where="providers.toml").providers


def article_table() -> Table:
    """Return the article's route table."""
    return table_of(validate(Route, {"table": read_data("tiers.toml")}, where="tiers.toml"))


def table_of(route: Route) -> Table:
    """Return the cells of *route* as a table."""
    return {tier: {cell: tuple(models) for cell, models in cells.items()} for tier, cells in route.table.items()}
