"""Money: which price holds when, and what an answer costs, exactly."""

from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from math import lcm

from pipeline.errors import JobError
from pipeline.records import Model, Price, Usage

_PICO_USD_PER_TOKEN = 10**6  # of a price of 1 USD per million tokens


def price_at(model: Model, at: datetime) -> Price:
    """Return the price of *model* in force at *at*, which must know its time zone; an entry starts at 00:00 UTC.

    Raises:
        JobError: when no price is known for that day: an unknown price is never taken for zero.
    """
    if at.tzinfo is None:
        raise ValueError("a time without a zone does not say which day it is in UTC")
    day = at.astimezone(UTC).date()
    in_force = [price for price in model.prices if price.since <= day]
    if not in_force:
        known = f"the first one known is of {model.prices[0].since}" if model.prices else "none is known"
        raise JobError(f"models.{model.name}: no price on {day}; {known}")
    return in_force[-1]


def cost_pusd(usage: Usage, price: Price) -> int:
    """Return the cost of *usage* in whole pico-USD (1e-12 USD), exact for prices of up to six decimals.

    With more decimals the sum is rounded once, half up. A class without a price of its own is billed as plain input,
    one-hour cache writes first as five-minute ones: price lists name a class only where they charge it otherwise. For
    cached input that can only overstate, as it is never dearer than fresh input; a surcharge on cache writes must
    stand in the model's entry.
    """
    weights, scale = _weights(price)
    counts = (usage.input, usage.output, usage.cached_input, usage.cache_write_5m, usage.cache_write_1h)
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    return (2 * total + scale) // (2 * scale)


@lru_cache(maxsize=4096)
def _weights(price: Price) -> tuple[tuple[int, ...], int]:
    """Return pico-USD per token of each class as whole numbers over a common scale, which is 1 for usual prices."""
    cached = price.input if price.cached_input is None else price.cached_input
    write_5m = price.input if price.cache_write_5m is None else price.cache_write_5m
    write_1h = write_5m if price.cache_write_1h is None else price.cache_write_1h
    rates = [Fraction(usd) * _PICO_USD_PER_TOKEN for usd in (price.input, price.output, cached, write_5m, write_1h)]
    scale = lcm(*(rate.denominator for rate in rates))
    return tuple(int(rate * scale) for rate in rates), scale
