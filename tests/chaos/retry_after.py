"""Every form in which a server may ask for patience."""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from .wire import Headers, http_date

_DAY_S: Final = 86_400


class WaitForm(StrEnum):
    """How Retry-After is written."""

    SECONDS = "seconds"
    MS = "ms"  # retry-after-ms alone
    BOTH = "both"  # retry-after-ms as asked, Retry-After 5 s longer
    DATE = "date"  # with the server's Date
    SKEWED_DATE = "skewed_date"  # the server's clock is a day behind, in Date as well
    PAST_DATE = "past_date"
    NEGATIVE = "negative"
    GARBAGE = "garbage"
    NAN = "nan"
    INFINITE = "infinite"
    EMPTY = "empty"


def _dates(wait_s: float, *, skew_s: float = 0.0) -> Headers:
    # Whole seconds, as a date has no fraction: the difference is then what was asked for.
    now = int(time.time() + skew_s)
    return ("date", http_date(now)), ("retry-after", http_date(now + round(wait_s)))


def _value(text: str) -> Callable[[float], Headers]:
    return lambda _: (("retry-after", text),)


_FORMS: Final[Mapping[WaitForm, Callable[[float], Headers]]] = {
    WaitForm.SECONDS: lambda wait_s: (("retry-after", f"{wait_s:.3f}".rstrip("0").rstrip(".")),),
    WaitForm.MS: lambda wait_s: (("retry-after-ms", f"{wait_s * 1000:.0f}"),),
    WaitForm.BOTH: lambda wait_s: (("retry-after-ms", f"{wait_s * 1000:.0f}"), ("retry-after", f"{wait_s + 5:.0f}")),
    WaitForm.DATE: _dates,
    WaitForm.SKEWED_DATE: lambda wait_s: _dates(wait_s, skew_s=-_DAY_S),
    WaitForm.PAST_DATE: lambda _: _dates(-_DAY_S),
    WaitForm.NEGATIVE: lambda wait_s: (("retry-after", f"-{wait_s:g}"),),
    WaitForm.GARBAGE: _value("soon"),
    WaitForm.NAN: _value("nan"),
    WaitForm.INFINITE: _value("inf"),
    WaitForm.EMPTY: _value(""),
}


def retry_headers(form: WaitForm, wait_s: float) -> Headers:
    """Return the headers that ask for *wait_s* seconds of patience, written in *form*."""
    return _FORMS[form](wait_s)
