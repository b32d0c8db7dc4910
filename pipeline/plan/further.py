"""What cascades are expected to lead to: further calls of other models, beside the first ones that are counted."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from pipeline.catalogue import tokens_usd
from pipeline.records import Price

Further = Mapping[tuple[str, str], tuple[tuple[str, float], ...]]
"""First model and cascade -> the further models, each with the share of the requests that it is expected to get."""


class Tokens(NamedTuple):
    """Of requests of one cascade: how many are sent, and their tokens, input as estimated and output as expected."""

    model: str
    cascade: str
    requests: int
    input: int
    output: int


def further_cost(one: Tokens, further: Further, prices: Mapping[str, Price]) -> Decimal:
    """Return what the further calls of *one* are expected to cost in USD."""
    calls = further.get((one.model, one.cascade), ())
    return sum(
        (tokens_usd(prices[model], int(one.input * share), int(one.output * share)) for model, share in calls),
        Decimal(0),
    )


def most_further_cost(one: Tokens, further: Further, prices: Mapping[str, Price]) -> Decimal:
    """Return what they cost where every request of *one* goes to every model of its cascade."""
    calls = further.get((one.model, one.cascade), ())
    return sum((tokens_usd(prices[model], one.input, one.output) for model, _ in calls), Decimal(0))


def further_models(many: Iterable[Tokens], further: Further) -> set[str]:
    """Return the models that further calls go to."""
    return {model for one in many for model, _ in further.get((one.model, one.cascade), ())}


def further_notes(many: Iterable[Tokens], further: Further) -> tuple[str, ...]:
    """Return a line a cascade: who is asked how many of its requests."""
    sent: dict[tuple[str, str], int] = {}
    for one in many:
        key = (one.model, one.cascade)
        sent[key] = sent.get(key, 0) + one.requests
    return tuple(
        f"{first}: {count} of its requests begin a cascade; expected are also "
        + ", ".join(f"{round(share * count)} requests to {model}" for model, share in further[first, cascade])
        + ", which are in its cost"
        for (first, cascade), count in sorted(sent.items())
        if count and (first, cascade) in further
    )
