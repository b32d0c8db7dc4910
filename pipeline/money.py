"""Money as job files and catalogues write it: quoted amounts, and prices with a day, hours and sizes."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pipeline.records import Hours


def _money(value: object) -> Decimal:
    """Read money from a quoted decimal; a TOML float has already lost digits."""
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError('write the amount in quotes, as in "0.15", so that no digit is lost')
    try:
        amount = Decimal(value)
    except InvalidOperation as error:
        raise ValueError(f'{value!r} is not an amount of USD, as in "0.15"') from error
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be a finite amount >= 0")
    return amount


def _cap(value: object) -> Decimal:
    """Read a cap, where a plain number is exact enough to be meant."""
    return _money(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value)


_AMOUNT_SCHEMA = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
Usd = Annotated[Decimal, BeforeValidator(_money), WithJsonSchema(_AMOUNT_SCHEMA)]
UsdCap = Annotated[
    Decimal, BeforeValidator(_cap), WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, _AMOUNT_SCHEMA]})
]


class Section(BaseModel):
    """A table of a file; an unknown key in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _share(value: object) -> Decimal:
    share = _money(value)
    if share > 1:
        raise ValueError('a share of the price, as in "0.5"')
    return share


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = "|".join(_DAYS)
_HOURS = re.compile(rf"(?:({_DAY})-({_DAY}) )?(\d\d):(\d\d)-(\d\d):(\d\d)")


def read_hours(text: str) -> Hours:
    """Read `mon-fri 01:00-04:00` or `16:30-24:00`: UTC, within a day. Raises ValueError with what would be right."""
    found = _HOURS.fullmatch(text.lower())
    if found:
        first, last, *clock = found.groups()
        hour, minute, end_hour, end_minute = map(int, clock)
        start, end = hour * 60 + minute, end_hour * 60 + end_minute
        days = range(7) if first is None else range(_DAYS.index(first), _DAYS.index(last) + 1)
        if 0 <= start < end <= 24 * 60 and minute < 60 and end_minute < 60 and days:
            return Hours(tuple(days), start, end)
    raise ValueError(f'{text!r}: write hours of a day in UTC as in "mon-fri 01:00-04:00" or "16:30-24:00"')


def _all_hours(value: object) -> tuple[Hours, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('a text as in "mon-fri 01:00-04:00", or a list of them')
    return tuple(map(read_hours, texts))


Share = Annotated[Decimal, BeforeValidator(_share), WithJsonSchema(_AMOUNT_SCHEMA)]
_HOURS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class LongPriceEntry(Section):
    """The prices of every token of a request above a size of the input."""

    over_input_tokens: int = Field(gt=0)
    input: Usd
    output: Usd
    cached_input: Usd | None = None
    cache_write_5m: Usd | None = None
    cache_write_1h: Usd | None = None


class PriceEntry(Section):
    """An entry of `prices`: USD per million tokens from a day on, never edited; a new price is a new entry."""

    since: date
    input: Usd
    output: Usd
    cached_input: Usd | None = None
    cache_write_5m: Usd | None = None
    cache_write_1h: Usd | None = None
    source: str | None = None
    checked: date | None = Field(None, description="when the source was last looked at")
    batch: Share | None = Field(None, description="share of these prices in a provider's batch")
    hours: Annotated[tuple[Hours, ...], BeforeValidator(_all_hours), WithJsonSchema(_HOURS_SCHEMA)] = Field(
        (), description='when it holds, in UTC: "mon-fri 01:00-04:00"; otherwise all day'
    )
    long: list[LongPriceEntry] = Field(default_factory=list)
