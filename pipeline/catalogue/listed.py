"""Models at list price, from the installed genai-prices package: no network, and imported only when one is asked for.

The package knows prices and most context sizes; what else is needed is in `families.toml`. A model is listed only when
its input and output prices, its context and its family are known.

Two kinds of price do not fit one entry, and both are read so that a bill is never larger than what was planned:

- prices by the hour (DeepSeek): the dearest hour counts, and `source` says so;
- prices that rise above a context size: the context is cut there, so that no row gets a price that does not hold.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import metadata
from typing import Any

from pipeline.catalogue.families import Family, find_family, find_options, listed_providers
from pipeline.records import Model, Price

_FIELDS = {  # ours: that of genai-prices
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}
_SNAPSHOT = re.compile(r"-(\d{4}-?\d{2}-?\d{2}|latest)$")  # gpt-4o-2024-11-20, claude-opus-5-5-20260922


def find_listed(name: str) -> Model | None:
    """Return the model that answers to *name*, dated snapshots included, or None."""
    listed = _listed()
    found = listed.get(name.lower()) or listed.get(_SNAPSHOT.sub("", name.lower()))
    return found._replace(name=name) if found else None


def list_models() -> Mapping[str, Model]:
    """Return every model with a list price under each of its names."""
    return _listed()


@cache
def _listed() -> dict[str, Model]:
    from genai_prices.data import providers as price_lists

    by_id = {price_list.id: price_list.models for price_list in price_lists}
    models: dict[str, Model] = {}
    for provider, listed in listed_providers().items():
        for info in by_id.get(listed.listed_as, ()):
            for name in _names(info):
                family = find_family(provider, name)
                if family and not info.deprecated and not set(re.split(r"[-:.]", name)) & set(listed.skip):
                    model = _model(name, info, family)
                    if model:
                        models.setdefault(name, model)
    return models


def _names(info: Any) -> Iterator[str]:
    """Yield what the model is asked for by: its id, and the other whole names that its rules match."""
    model_id = info.id.lower()
    if info.is_match(model_id):
        yield model_id
    for clause in getattr(info.match, "or_", [info.match]):
        name = getattr(clause, "equals", "").lower()
        # Rules also match spellings no provider takes, as claude-opus-4.7 for claude-opus-4-7.
        respelled = name.replace(".", "-").startswith(model_id.replace(".", "-")) and not name.startswith(model_id)
        if name and not respelled:
            yield name


def _model(name: str, info: Any, family: Family) -> Model | None:
    """Return the model, or None when a price or the context is not known."""
    context = info.context_window or family.context_tokens
    dated = _dated(info.prices)
    prices = [_price(since, dated[since]) for since in sorted(dated)]
    if not context or not all(prices):
        return None
    return Model(
        name=name,
        provider=family.provider,
        context_tokens=min([context, *_steps(dated[max(dated)])]),
        prices=tuple(price for price in prices if price),
        vision=family.vision,
        retires=family.retires,
        options=find_options(family.provider, name),
    )


def _dated(listed: Any) -> dict[date, list[Any]]:
    """Return the prices by the day they hold from; prices by the hour stand beside the latest one."""
    from genai_prices.types import ConditionalPrice, StartDateConstraint

    dated: dict[date, list[Any]] = {}
    hourly = []
    for entry in listed if isinstance(listed, list) else [ConditionalPrice(prices=listed)]:
        if entry.constraint is None:
            dated[date.min] = [entry.prices]
        elif isinstance(entry.constraint, StartDateConstraint):
            dated[entry.constraint.start_date] = [entry.prices]
        else:
            hourly.append(entry.prices)
    dated.setdefault(max(dated, default=date.min), []).extend(hourly)
    return dated


def _price(since: date, together: list[Any]) -> Price | None:
    """Return the price in force from *since*, None when input or output is not known."""
    amounts = {ours: _dearest(together, theirs) for ours, theirs in _FIELDS.items()}
    input_usd, output_usd = amounts.pop("input"), amounts.pop("output")
    if input_usd is None or output_usd is None:
        return None
    peak = ", dearest hour" if len(together) > 1 else ""
    source = f"genai-prices {metadata.version('genai-prices')}{peak}"
    return Price(input_usd, output_usd, **amounts, since=since, source=source)


def _dearest(together: list[Any], field: str) -> Decimal | None:
    """Return the highest of the prices before any step, None when none is known."""
    amounts = [vars(price)[field] for price in together if field in vars(price)]
    return max((getattr(amount, "base", amount) for amount in amounts), default=None)


def _steps(together: list[Any]) -> list[int]:
    """Return the input sizes above which another price holds today."""
    amounts = [amount for price in together for amount in vars(price).values()]
    return [tier.start for amount in amounts for tier in getattr(amount, "tiers", ())]
