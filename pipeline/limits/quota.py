"""What models share: rates, an amount a day, and the pause after a refusal."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.limits.headers import Unit
from pipeline.limits.rates import Meter
from pipeline.limits.reckoning import Need

_DAY_S = 86_400


class Used(NamedTuple):
    """What was used of a day's quota before this run."""

    requests: float = 0
    tokens: float = 0


class Quota:
    """Limits that all who hold it keep to together. Make it inside the event loop.

    The rates are kept in every window of 0.1, 1 and 60 s. Days begin at 00:00 UTC; *clock* gives Unix seconds.
    """

    def __init__(
        self,
        name: str = "",
        *,
        used: Used | None = None,
        clock: Callable[[], float] = time.time,
        **limits: Any,
    ) -> None:
        """Take *limits* by the names of `catalogue.Quota`, such as requests_per_min and tokens_per_day, or None."""
        self.turn = asyncio.Lock()
        self.resume_at = 0.0  # of the clock of the pool
        units: tuple[Unit, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
        self.meters = {unit: Meter(rate) for unit in units if (rate := limits.get(f"{unit}_per_min")) is not None}
        self._name = name
        self._most = {unit: most for unit in units if (most := limits.get(f"{unit}_per_day")) is not None}
        self._clock = clock
        self._used: dict[Unit, float] = dict(zip(("requests", "tokens"), used or Used(), strict=True))
        self._day = int(clock() // _DAY_S)

    @property
    def counts_days(self) -> bool:
        """Tell whether there is a limit a day."""
        return bool(self._most)

    def claim(self, need: Need) -> str | None:
        """Count *need* as used today, or return why it is not: that would be more than may be used."""
        day = int(self._clock() // _DAY_S)
        if day != self._day:
            self._day, self._used = day, dict.fromkeys(self._used, 0.0)
        for unit, most in self._most.items():
            if self._used[unit] + need.of(unit) > most:
                of = f" of quota {self._name}" if self._name else ""
                return f"{unit}_per_day{of}: the {most:,.0f} of today are used up until 00:00 UTC"
        for unit in self._most:
            self._used[unit] += need.of(unit)
        return None

    def settle(self, claimed: Need, used: Need) -> None:
        """Correct what was *claimed* to what was *used*."""
        for unit in self._most:
            self._used[unit] = max(0.0, self._used[unit] + used.of(unit) - claimed.of(unit))
