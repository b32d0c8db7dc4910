"""Billed tokens from what providers report: believed only when the counts are possible and agree with each other."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from pipeline.records import Usage, UsageStatus

# No call takes a billion tokens; the bound keeps a nonsense count out of every sum.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Counts = TypeVar("Counts")


def split(prompt: int, completion: int, *, cached: int = 0, cache_write: int = 0, reasoning: int = 0) -> Usage | None:
    """Return the usage where *cached* and *cache_write* are part of *prompt*, and *reasoning* of *completion*.

    Returns None where the parts are more than the whole.
    """
    fresh = prompt - cached - cache_write
    if fresh < 0 or reasoning > completion:
        return None
    return Usage(fresh, completion, cached, cache_write, 0, reasoning)


def read_usage(
    raw: Any, kind: type[Counts], billed: Callable[[Counts], Usage | None], text: str
) -> tuple[Usage | None, UsageStatus]:
    """Return the usage that *billed* makes of *raw*, which should be of *kind*, and whether it can be believed.

    Zeros beside a *text* are a gateway that did not count; believing them would make the answer free.
    """
    if raw is None:
        return None, UsageStatus.MISSING
    try:
        usage = billed(msgspec.convert(raw, kind))
    except msgspec.ValidationError:
        usage = None
    if usage is None or (text and not (usage.total_input and usage.output)):
        return None, UsageStatus.INVALID
    return usage, UsageStatus.MEASURED
