"""Billed tokens from what providers report: believed only when the counts are possible and agree with each other."""

from typing import Annotated

import msgspec

from pipeline.records import Usage

# No call takes a billion tokens; the bound keeps a nonsense count out of every sum.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


def split(prompt: int, completion: int, *, cached: int = 0, cache_write: int = 0, reasoning: int = 0) -> Usage | None:
    """Return the usage where *cached* and *cache_write* are part of *prompt*, and *reasoning* of *completion*.

    Returns None where the parts are more than the whole.
    """
    fresh = prompt - cached - cache_write
    if fresh < 0 or reasoning > completion:
        return None
    return Usage(fresh, completion, cached, cache_write, 0, reasoning)
