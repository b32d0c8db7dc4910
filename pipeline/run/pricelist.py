"""The catalogue beside the public price list: what is old, what differs, and a file of new entries on request."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.catalogue import AMOUNTS, Catalogue, find_listed, load_catalogue, price_at, with_batch_share
from pipeline.errors import JobError
from pipeline.files import write_whole
from pipeline.records import Hours, Model, Price
from pipeline.run.options import RunOptions, load

_STALE = timedelta(days=90)
_HEADER = (
    "# Written by `rowroute prices refresh`: entries are added, never edited. Name this file in `catalogue` of a job."
)


class Difference(NamedTuple):
    """An amount of today, in USD per million tokens, that is not the listed one; None is "no such price"."""

    model: str
    amount: str
    ours: Decimal | None
    listed: Decimal | None
    source: str


def load_models(job_file: Path | None, *, listed: bool) -> Catalogue:
    """Return the catalogue of a job, or the built-in one; *listed* adds every model of the price list."""
    return load_catalogue(None if job_file is None else load(RunOptions(job_file)), listed=listed)


def stale_models(catalogue: Catalogue, today: date) -> dict[str, str]:
    """Return what is old by model: retired, or a price that nobody has checked for 90 days or ever."""
    return {name: why for name, model in sorted(catalogue.models.items()) if (why := _stale(model, today))}


def _stale(model: Model, today: date) -> str:
    if model.retires is not None and model.retires <= today:
        return f"retired on {model.retires}"
    checked = price_at(model, datetime.combine(today, datetime.min.time(), UTC)).checked
    if checked is None:
        return "price never checked"
    return f"price checked on {checked}, {(today - checked).days} days ago" if today - checked > _STALE else ""


def differences(catalogue: Catalogue, at: datetime) -> list[Difference]:
    """Return where the prices of *at* are not those of the price list, for the models that both know."""
    found = []
    for name, model in sorted(catalogue.models.items()):
        ours, theirs = price_at(model, at), _listed_price(model, at)
        if theirs is not None:
            pairs = ((amount, getattr(ours, amount), getattr(theirs, amount)) for amount in AMOUNTS)
            found += [Difference(name, *pair, ours.source) for pair in pairs if pair[1] != pair[2]]
    return found


def _listed_price(model: Model, at: datetime) -> Price | None:
    listed = find_listed(model.wire_name)
    return price_at(listed, at) if listed is not None and listed.provider == model.provider else None


def write_listed(path: Path, catalogue: Catalogue, changed: set[str], at: datetime) -> None:
    """Write the models *changed* to *path*, each with its own prices and, from the day of *at* on, the listed ones.

    Raises:
        JobError: when *path* is a file that this command has not written.
    """
    if path.exists() and not path.read_text(encoding="utf-8").startswith(_HEADER):
        raise JobError(f"{path}: was not written by this command; choose another file")
    parts = [_HEADER]
    for name in sorted(changed):
        model = catalogue.models[name]
        listed = find_listed(model.wire_name)
        assert listed is not None
        day = at.astimezone(UTC).date()
        # The list may hold hours and sizes, so every entry in force comes along, from today on.
        newest = max(price.since for price in listed.prices if price.since <= day and not price.hours)
        new = [price._replace(since=day) for price in listed.prices if newest <= price.since <= day]
        parts += _as_toml(model._replace(prices=(*(old for old in model.prices if old.since < day), *new)))
    write_whole(path, "\n".join(parts) + "\n")


def _as_toml(model: Model) -> Iterator[str]:
    yield f"\n[models.{_toml(model.name)}]"
    fields = {
        "provider": model.provider,
        "context_tokens": model.context_tokens,
        "api_name": model.api_name or None,
        "vision": model.vision,
        "retires": model.retires,
        "only": {column: list(values) for column, values in model.only.items()} or None,
        "options": dict(model.options),
    }
    yield from (f"{name} = {_toml(value)}" for name, value in fields.items() if value is not None)
    yield "prices = ["
    yield from (f"  {_toml(_price_entry(price))}," for price in model.prices)
    yield "]"


def _price_entry(price: Price) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "since": max(price.since, date(1970, 1, 1)),
        "source": price.source or None,
        "checked": price.checked,
        "hours": [_hours(hours) for hours in price.hours] or None,
        **_amounts(price),
        "long": [{"over_input_tokens": long.over_input_tokens, **_amounts(long)} for long in price.long] or None,
        "batch": _batch_share(price),
    }
    return {name: value for name, value in entry.items() if value is not None}


def _batch_share(price: Price) -> str | None:
    """Return the batch price as a share, None where it is none of every amount alike."""
    if price.batch is None or not price.input:
        return None
    share = price.batch.input / price.input
    return str(share) if with_batch_share(price, share).batch == price.batch else None


def _amounts(prices: Any) -> dict[str, str]:
    return {name: str(amount) for name in AMOUNTS if (amount := getattr(prices, name)) is not None}


def _hours(hours: Hours) -> str:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    clock = "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (hours.start, hours.end))
    return f"{days[hours.days[0]]}-{days[hours.days[-1]]} {clock}"


def _toml(value: Any) -> str:
    """Return *value* as TOML on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return value.isoformat() if isinstance(value, date) else json.dumps(value, ensure_ascii=False)
