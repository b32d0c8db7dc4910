"""Cascades by agreement: cheap models are asked first, a further one only where their answers differ. Pure decisions.

The rule is that of `policy.play`, by which a policy was learned: an answer agrees when it is that of any model asked
before, and then the earliest of these counts. Every call is paid.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from pipeline.scorers.choice import chosen_letter
from pipeline.scorers.exact import normalised
from pipeline.scorers.number import last_number


class Cascade(msgspec.Struct, frozen=True):
    """How a request goes on after its first model, as `Request.cascade` holds it in JSON."""

    then: tuple[str, ...]  # the further models, in the order they are asked
    agree: str  # how answers are compared, one of `AGREE`

    @property
    def text(self) -> str:
        """Return it as JSON text, the same for equal cascades."""
        return msgspec.json.encode(self).decode()


def read_cascade(text: str) -> Cascade:
    """Return the cascade that `Cascade.text` wrote."""
    return msgspec.json.decode(text, type=Cascade)


class Heard(NamedTuple):
    """What a model said: in a form that can be compared, None for nothing; and whether it is an answer at all."""

    key: str | None
    sound: bool


class Ask(NamedTuple):
    """Ask the model at *place*, 0 being the first."""

    place: int


class Keep(NamedTuple):
    """The answer of the model at *place* counts."""

    place: int


def next_of(heard: Sequence[Heard], models: int) -> Ask | Keep:
    """Return what follows when the first of so many *models* have been heard.

    Where even the last one gave no answer, the first answer of any counts, and the last failure where there is none.
    """
    if not heard:
        return Ask(0)
    last = heard[-1]
    if last.key is not None:
        agreeing = next(place for place, one in enumerate(heard) if one.key == last.key)
        if agreeing < len(heard) - 1:
            return Keep(agreeing)
    if len(heard) < models:
        return Ask(len(heard))
    if last.sound:
        return Keep(len(heard) - 1)
    return Keep(next((place for place, one in enumerate(heard) if one.sound), len(heard) - 1))


def comparable(text: str, agree: str) -> str | None:
    """Return what of an answer is compared, None where it has nothing to compare. *agree* is one of `AGREE`."""
    return AGREE[agree](text) or None


def _number(text: str) -> str | None:
    number = last_number(text)
    return None if number is None else str(number.normalize() + 0)  # 1.0 is 1, and -0 is 0


def _json(text: str) -> str | None:
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="deterministic").decode()
    except (ValueError, RecursionError):
        return None


AGREE: dict[str, Callable[[str], str | None]] = {
    "exact": str.strip,
    "normalised": normalised,
    "choice": chosen_letter,
    "number": _number,
    "json": _json,
}
"""Name of a way to compare answers -> what of an answer is compared."""
