"""A cost cap that holds: no request starts unless its dearest possible answer still fits."""

import anyio


class Budget:
    """Counts money in pico-USD. What is under way is reserved at its worst case."""

    def __init__(self, cap_pusd: int | None, spent_pusd: int = 0) -> None:
        self.cap_pusd = cap_pusd
        self.spent_pusd = spent_pusd
        self._reserved_pusd = 0
        self._settled = anyio.Event()

    async def reserve(self, worst_pusd: int) -> bool:
        """Set *worst_pusd* aside, waiting for what is under way to turn out cheaper; False when it can never fit."""
        while self.cap_pusd is not None and self.spent_pusd + self._reserved_pusd + worst_pusd > self.cap_pusd:
            if self._reserved_pusd == 0 or self.spent_pusd + worst_pusd > self.cap_pusd:
                return False
            await self._settled.wait()
        self._reserved_pusd += worst_pusd
        return True

    def reserve_now(self, worst_pusd: int) -> bool:
        """Set *worst_pusd* aside where it fits at once."""
        if self.cap_pusd is not None and self.spent_pusd + self._reserved_pusd + worst_pusd > self.cap_pusd:
            return False
        self._reserved_pusd += worst_pusd
        return True

    def hold(self, worst_pusd: int) -> None:
        """Set *worst_pusd* aside for what is under way already, whether it fits or not."""
        self._reserved_pusd += worst_pusd

    def settle(self, worst_pusd: int, cost_pusd: int) -> None:
        """Replace a reservation by what was billed."""
        self._reserved_pusd -= worst_pusd
        self.spent_pusd += cost_pusd
        if self.cap_pusd is not None:
            self._settled.set()
            self._settled = anyio.Event()
