"""Money: which price holds when, and what an answer costs, exactly."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import NamedTuple

from pipeline.errors import JobError
from pipeline.records import PICO_USD, Hours, LongPrice, Model, Price, Usage

_PICO_USD_PER_TOKEN = 10**6  # of a price of 1 USD per million tokens


def price_at(model: Model, at: datetime) -> Price:
    """Return the price of *model* in force at *at*, which must know its time zone; an entry starts at 00:00 UTC.

    An entry for some hours only goes before the all-day entry, until a later all-day entry takes its place.

    Raises:
        JobError: when no price is known for that time: an unknown price is never taken for zero.
    """
    utc = _utc(at)
    all_day, hourly = _in_force(model, utc)
    return next((price for price in reversed(hourly) if any(_holds(hours, utc) for hours in price.hours)), all_day)


def dearest_at(model: Model, at: datetime) -> Price:
    """Return the dearest price of *model* at any hour of the week, by the entries in force on the day of *at*.

    Raises:
        JobError: when no price is known for that day.
    """
    all_day, hourly = _in_force(model, _utc(at))
    return max([all_day, *hourly], key=_dearness)


def cheap_from(model: Model, at: datetime) -> datetime:
    """Return when, from *at* on, the cheapest hour of *model* begins, by the entries in force on the day of *at*.

    Raises:
        JobError: when no price is known for that day.
    """
    utc = _utc(at)
    all_day, hourly = _in_force(model, utc)
    cheapest = min([all_day, *hourly], key=_dearness)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = {minute for price in hourly for hours in price.hours for minute in (hours.start, hours.end)}
    times = (midnight + timedelta(days=day, minutes=minute) for day in range(8) for minute in edges)
    later = sorted(time for time in times if time > utc)
    cheap = (time for time in [utc, *later] if _dearness(price_at(model, time)) <= _dearness(cheapest))
    return next(cheap, utc)  # no hour of the week is left for the all-day price


def cost_pusd(usage: Usage, price: Price) -> int:
    """Return the cost of *usage*, one request, in whole pico-USD (1e-12 USD), exact for prices of up to six decimals.

    With more decimals the sum is rounded once, half up. A class without a price of its own is billed as plain input,
    one-hour cache writes first as five-minute ones: price lists name a class only where they charge it otherwise. For
    cached input that can only overstate, as it is never dearer than fresh input; a surcharge on cache writes must
    stand in the model's entry. More input than the start of a long price puts that price on every token.
    """
    return bill(price)(usage)


@lru_cache(maxsize=4096)
def bill(price: Price) -> Callable[[Usage], int]:
    """Return `cost_pusd` at *price*, for many usages: looking a price up by its value costs more than the sum."""
    plain, longs = _weights(price), [(long.over_input_tokens, _weights(long)) for long in price.long]

    def cost(usage: Usage) -> int:
        fresh, output, cached, write_5m, write_1h, _ = usage
        weights = plain
        for over, dearer in longs:
            if fresh + cached + write_5m + write_1h > over:
                weights = dearer
        total = fresh * weights.input + output * weights.output
        if cached or write_5m or write_1h:
            total += cached * weights.cached_input + write_5m * weights.cache_write_5m
            total += write_1h * weights.cache_write_1h
        scale = weights.scale
        return total if scale == 1 else (2 * total + scale) // (2 * scale)

    return cost


def tokens_usd(prices: Price | LongPrice, input_tokens: int, output_tokens: int) -> Decimal:
    """Return what so many tokens of any number of requests cost, exact to the pico-USD, all input taken for fresh."""
    # USD per million tokens is pico-USD per token times a million.
    return ((input_tokens * prices.input + output_tokens * prices.output) * 1_000_000).to_integral_value() * PICO_USD


class _Weights(NamedTuple):
    """Pico-USD per token of each class as whole numbers over a common scale, which is 1 for usual prices."""

    input: int
    output: int
    cached_input: int
    cache_write_5m: int
    cache_write_1h: int
    scale: int


def _weights(prices: Price | LongPrice) -> _Weights:
    cached = prices.input if prices.cached_input is None else prices.cached_input
    write_5m = prices.input if prices.cache_write_5m is None else prices.cache_write_5m
    write_1h = write_5m if prices.cache_write_1h is None else prices.cache_write_1h
    amounts = (prices.input, prices.output, cached, write_5m, write_1h)
    rates = [Fraction(usd) * _PICO_USD_PER_TOKEN for usd in amounts]
    scale = lcm(*(rate.denominator for rate in rates))
    return _Weights._make([*(int(rate * scale) for rate in rates), scale])


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("a time without a zone does not say which day it is in UTC")
    return at.astimezone(UTC)


def _in_force(model: Model, utc: datetime) -> tuple[Price, list[Price]]:
    """Return the latest all-day price, and those for some hours that came with it or after it."""
    day = utc.date()
    begun = [price for price in model.prices if price.since <= day]
    all_day = [price for price in begun if not price.hours]
    if not all_day:
        known = f"the first one known is of {model.prices[0].since}" if model.prices else "none is known"
        raise JobError(f"models.{model.name}: no price on {day}; {known}")
    return all_day[-1], [price for price in begun if price.hours and price.since >= all_day[-1].since]


def _holds(hours: Hours, utc: datetime) -> bool:
    return utc.weekday() in hours.days and hours.start <= utc.hour * 60 + utc.minute < hours.end


def _dearness(price: Price) -> Decimal:
    return price.input + price.output
