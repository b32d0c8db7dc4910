"""How many tokens a request is expected to count for, and how many a provider seems to have counted."""

import math
from typing import NamedTuple

from pipeline.limits.headers import Unit

_LEARN = 0.02
_FIRST_DOUBT_S = 60.0


class Need(NamedTuple):
    """Tokens of one request; `fresh` is the input that no cache holds."""

    input: float
    fresh: float
    output: float

    def of(self, unit: Unit) -> float:
        """Return how much of *unit* this is."""
        match unit:
            case "requests":
                return 1.0
            case "tokens":
                return self.input + self.output
            case "input_tokens":
                return self.fresh  # where input has a limit of its own, cached input does not count
            case "output_tokens":
                return self.output


class Booked(NamedTuple):
    """What a request asked for at most, and what was reserved for it."""

    asked: Need
    reserved: Need


class Reckoning:
    """Learns how the tokens that are used compare with those asked for, and reserves what is expected to come.

    Some providers count the output that is allowed, others what comes in the end; no header says which. So a refusal
    casts doubt on it: for 60 s all that is allowed is reserved and not given back. Each further doubt lasts twice as
    long as the last one, unless trust has held for longer than that.
    """

    def __init__(self) -> None:
        self._ratios = Need(1.0, 1.0, 1.0)
        self._answers = 0
        self._doubt_s = _FIRST_DOUBT_S
        self._doubt_until = -math.inf

    def book(self, asked: Need, now_s: float) -> Booked:
        """Return what to reserve for a request whose input is estimated, and whose output is at most, as *asked*."""
        ratios = self._ratios
        output = asked.output if now_s < self._doubt_until else asked.output * ratios.output
        return Booked(asked, Need(asked.input * ratios.input, asked.fresh * ratios.fresh, output))

    def answered(self, booked: Booked, used: Need, now_s: float) -> Need:
        """Learn from an answer, and return what the provider is taken to have counted for it.

        The first answers count alike, then the recent ones more.
        """
        self._answers += 1
        weight = max(_LEARN, 1 / self._answers)
        self._ratios = Need(
            *(
                ratio + weight * (now / max(most, 1.0) - ratio)
                for ratio, now, most in zip(self._ratios, used, booked.asked, strict=True)
            )
        )
        if now_s >= self._doubt_until:
            return used
        return used._replace(output=max(used.output, booked.reserved.output))

    def refused(self, booked: Booked, now_s: float) -> bool:
        """Doubt, and return True, if the request that was refused had less reserved for it than it asked for."""
        if booked.reserved.output >= booked.asked.output:
            return False
        trusted_s = now_s - self._doubt_until
        if trusted_s >= 0:
            self._doubt_s = _FIRST_DOUBT_S if trusted_s > self._doubt_s else 2 * self._doubt_s
            self._doubt_until = now_s + self._doubt_s
        return True
