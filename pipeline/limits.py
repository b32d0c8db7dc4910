"""How fast a provider may be asked: one pool per shared quota, first come first served."""

import asyncio

import anyio
from aiolimiter import AsyncLimiter

# A bucket no deeper than this much traffic: providers enforce a minute's limit in slices of a second or less, so a
# minute's worth sent at once is refused.
_BURST_S = 0.05


def _bucket(per_min: float | None) -> AsyncLimiter | None:
    if per_min is None:
        return None
    depth = max(1.0, per_min / 60 * _BURST_S)
    return AsyncLimiter(depth, depth * 60 / per_min)


class Pool:
    """The quota that some models share: requests and tokens per minute, requests at a time, and a common pause.

    Make it inside the event loop. Waiters are served in the order they came: `AsyncLimiter` alone would let a large
    request starve behind small ones, so a lock stands before it. A request of more tokens than the bucket holds takes
    several helpings.
    """

    def __init__(
        self, *, requests_per_min: float | None = None, tokens_per_min: float | None = None, concurrency: int = 64
    ) -> None:
        self.concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._requests = _bucket(requests_per_min)
        self._tokens = _bucket(tokens_per_min)
        self._queue = anyio.Lock()
        self._resume_at = 0.0

    async def enter(self, tokens: int) -> None:
        """Take a place for one request of about *tokens* tokens, as soon as the limits allow it; `leave` gives it back."""
        await self._slots.acquire()
        if self._requests or self._tokens or self._resume_at:
            try:
                await self._pace(tokens)
            except BaseException:
                self._slots.release()
                raise

    def leave(self) -> None:
        """Give a place back."""
        self._slots.release()

    async def _pace(self, tokens: int) -> None:
        async with self._queue:
            # A pause may grow while it is waited for.
            while self._resume_at > anyio.current_time():
                await anyio.sleep_until(self._resume_at)
            self._resume_at = 0.0
            if self._requests:
                await self._requests.acquire()
            while self._tokens and tokens > 0:
                helping = min(float(tokens), self._tokens.max_rate)
                await self._tokens.acquire(helping)
                tokens -= int(helping) or 1

    def pause(self, wait_s: float) -> None:
        """Let nobody in for *wait_s* seconds; requests under way go on."""
        self._resume_at = max(self._resume_at, anyio.current_time() + wait_s)
