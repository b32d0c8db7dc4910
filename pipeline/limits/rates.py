"""Rates: `aiolimiter` keeps the time; a tab beside it keeps what large requests owe and settled ones get back."""

from aiolimiter import AsyncLimiter

# Clocks and networks are not exact, and a provider may count whole windows. So every charge is a little more than what
# is taken; a refusal adds as much again, up to ten times, and 500 answers take that back.
_CARE = 0.005
_MOST_CARE = 0.05
_EASE = _CARE / 500
_ONE = 1 + _MOST_CARE  # the most that is charged for one request, which must fit in
# What a late wake-up of the event loop loses is caught up with, if it was no later than this: providers enforce a
# minute's limit in slices, of which the smallest known ones are 0.1 s.
_LATE_S = 0.04
# Waking up less often costs less, and event loops count in milliseconds.
_STEP_S = 0.01
# What is given back is spent as a share of each later charge, never all at once, and not saved up for longer than this.
_DISCOUNT = 0.25
_SAVED_S = 0.5


class Tab:
    """What is owed to a bucket and what was given back, in its unit. Nothing waits here.

    Charged + settled = paid + `owed` - `given_back` at every moment, save what was given back beyond *most_back*.
    """

    def __init__(self, most_back: float = 0.0) -> None:
        self.most_back = most_back
        self.owed = 0.0  # below 0: paid in advance
        self.given_back = 0.0

    def charge(self, amount: float, at_once: float) -> float:
        """Owe what of *amount* must be paid before it goes, *at_once* at most; return the rest, to be owed then."""
        discount = min(self.given_back, amount * _DISCOUNT)
        self.given_back -= discount
        amount -= discount
        first = min(amount, at_once)
        self.owed += first
        return amount - first

    def owe(self, amount: float) -> None:
        """Let whoever comes next pay *amount* first."""
        self.owed += amount

    def settle(self, more: float) -> None:
        """Charge what was used beyond the charge, or give back what was not, where *more* is negative."""
        if more > 0:
            spent = min(self.given_back, more)
            self.given_back -= spent
            self.owed += more - spent
        else:
            cancelled = min(max(self.owed, 0.0), -more)
            self.owed -= cancelled
            self.given_back = min(self.given_back - more - cancelled, self.most_back)


class Meter:
    """One rate. Callers take turns, one waits at a time.

    A request larger than the bucket goes when the bucket is full, and those after it wait until the rest is paid: so it
    never starves, and it is how the buckets of providers work, too. In any window of *w* seconds there goes no more
    than *w* + 0.05 seconds' worth and 1.05, and the last request.
    """

    def __init__(self, per_min: float, *, spent: bool = False) -> None:
        self._tab = Tab()
        self._care = _CARE
        self._open(per_min)
        if spent:  # what the provider still allows at this moment is not known
            self._tab.owe(self._depth)

    def change(self, per_min: float) -> None:
        """Go on at another rate, with nothing in the bucket."""
        if per_min != self.per_min:
            self._open(per_min)
            self._tab.owe(self._depth)

    def _open(self, per_min: float) -> None:
        self.per_min = per_min
        per_s = per_min / 60
        self._depth = _ONE + per_s * _LATE_S
        # Who waits for the whole bucket can't catch up with waking up late, so nobody does.
        self._helping = max(_ONE, self._depth / 2)
        self._step = per_s * _STEP_S
        self._tab.most_back = per_s * _SAVED_S
        self._limiter = AsyncLimiter(self._depth, self._depth / per_s)

    async def take(self, amount: float) -> None:
        """Wait until *amount* may go."""
        tab, amount = self._tab, amount * (1 + self._care)
        rest = tab.charge(amount, self._depth if amount > 2 * self._depth else self._helping)
        while tab.owed > 0:  # what is settled meanwhile counts
            helping = min(max(tab.owed, self._step), self._helping)
            await self._limiter.acquire(helping)
            tab.owed -= helping
        tab.owe(rest)

    def settle(self, more: float) -> None:
        """Correct what was taken by *more*, or by less where that is negative."""
        self._tab.settle(more)

    def refused(self, *, slower: bool) -> None:
        """Take note of a refusal: the provider's bucket is empty. If what kept to the rate was refused, go *slower*."""
        self._tab.given_back = 0.0
        self._tab.owe(2 * (self._depth - _ONE))
        if slower:
            self._care = min(_MOST_CARE, self._care + _CARE)

    def answered(self) -> None:
        """Take note of an answer: go faster again, as far as the rate allows."""
        self._care = max(_CARE, self._care - _EASE)
