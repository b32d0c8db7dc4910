"""Models at list price, from the installed genai-prices package: no network, and imported only when one is asked for.

The package knows prices and most context sizes; what else is needed is in `families.toml`. A model is listed only when
its input and output prices, its context and its family are known.

The list knows hours of a day but no days of the week: those are in `families.toml`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

from pipeline.catalogue.builtin import AMOUNTS
from pipeline.catalogue.families import Family, ListedProvider, find_family, find_options, listed_on, listed_providers
from pipeline.money import read_hours
from pipeline.records import Hours, LongPrice, Model, Price

_FIELDS = {  # ours: that of genai-prices
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}
_BATCH = {"processing": "batch"}
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
                    model = _model(name, info, family, listed)
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


def _model(name: str, info: Any, family: Family, listed: ListedProvider) -> Model | None:
    """Return the model, or None when a price or the context is not known."""
    context = info.context_window or family.context_tokens
    prices = [_price(entry, listed) for entry in _dated(info)]
    if not context or not all(prices):
        return None
    return Model(
        name=name,
        provider=family.provider,
        context_tokens=context,
        prices=tuple(price for price in prices if price),
        vision=family.vision,
        retires=family.retires,
        options=find_options(family.provider, name),
    )


class _Entry(NamedTuple):
    since: date
    prices: Any
    batch: Any = None
    hours: tuple[time, time] | None = None


def _dated(info: Any) -> list[_Entry]:
    """Return the prices by the day they hold from; those for some hours came with the latest of the others."""
    from genai_prices.types import ConditionalPrice

    listed = info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]
    starts, hourly = _by_start(listed)
    batch, _ = _by_start(variant for variant in info.price_variants or () if variant.when == _BATCH)
    days = sorted({*starts, *(day for day in batch if day >= min(starts))})
    entries = [_Entry(day, starts[max(d for d in starts if d <= day)], _latest(batch, day)) for day in days]
    return entries + [_Entry(days[-1], each.prices, None, _start_and_end(each)) for each in hourly]


def _by_start(conditional: Iterable[Any]) -> tuple[dict[date, Any], list[Any]]:
    """Return the prices by their first day, and the entries for some hours of every day."""
    from genai_prices.types import TimeOfDateConstraint

    starts: dict[date, Any] = {}
    hourly = []
    for entry in conditional:
        if isinstance(entry.constraint, TimeOfDateConstraint):
            hourly.append(entry)
        else:
            starts[getattr(entry.constraint, "start_date", date.min)] = entry.prices
    return starts, hourly


def _latest(starts: Mapping[date, Any], day: date) -> Any:
    return starts[max(begun)] if (begun := [start for start in starts if start <= day]) else None


def _start_and_end(entry: Any) -> tuple[time, time]:
    return entry.constraint.start_time, entry.constraint.end_time


def _price(entry: _Entry, listed: ListedProvider) -> Price | None:
    """Return the price of *entry*, None when input or output is not known."""
    price = _amounts(vars(entry.prices))
    if price is None:
        return None
    told = price._replace(
        since=entry.since, source=f"genai-prices {metadata.version('genai-prices')}", checked=listed_on()
    )
    # A variant is partial: what it does not name costs what it costs outside a batch.
    batch = None if entry.batch is None else _amounts({**vars(entry.prices), **vars(entry.batch)})
    return told._replace(
        hours=() if entry.hours is None else _hours(*entry.hours, listed.peak_days),
        batch=batch and told._replace(**{name: getattr(batch, name) for name in (*AMOUNTS, "long")}),
    )


def _amounts(listed_prices: Mapping[str, Any]) -> Price | None:
    """Return the amounts of a listed price, with those for longer inputs; None when input or output is not known."""
    found = {ours: listed_prices.get(theirs) for ours, theirs in _FIELDS.items()}
    base: dict[str, Any] = {name: getattr(amount, "base", amount) for name, amount in found.items()}
    if base["input"] is None or base["output"] is None:
        return None
    starts = sorted({tier.start for amount in found.values() for tier in getattr(amount, "tiers", ())})
    long = (LongPrice(start, **{name: _above(amount, start) for name, amount in found.items()}) for start in starts)
    return Price(**base, long=tuple(long))


def _above(amount: Any, start: int) -> Any:
    """Return what *amount* is for more than *start* input tokens."""
    reached = [tier.price for tier in getattr(amount, "tiers", ()) if tier.start <= start]
    return reached[-1] if reached else getattr(amount, "base", amount)


def _hours(start: time, end: time, days: str) -> tuple[Hours, ...]:
    """Return the hours from *start* to *end*, two parts where midnight lies between them."""
    parts = [(start, f"{end:%H:%M}")] if start < end else [(start, "24:00"), (time(0), f"{end:%H:%M}")]
    return tuple(read_hours(f"{days} {first:%H:%M}-{last}") for first, last in parts if f"{first:%H:%M}" != last)
