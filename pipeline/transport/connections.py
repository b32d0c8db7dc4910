"""The pool of connections of a run."""

import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

_SPARE_FILES: Final = 100  # descriptors kept for the ledger, the spool and the log


@asynccontextmanager
async def open_connections(most: int) -> AsyncIterator[aiohttp.TCPConnector]:
    """Open a pool of at most so many connections for the length of a run."""
    connections = aiohttp.TCPConnector(limit=most, ttl_dns_cache=300)
    async with connections:
        yield connections


def connection_limit(wanted: int) -> int:
    """Return how many connections may be open at once: *wanted*, or fewer where the file limit does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted + _SPARE_FILES > soft:
        soft = min(wanted + _SPARE_FILES, hard) if hard != resource.RLIM_INFINITY else wanted + _SPARE_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - _SPARE_FILES))
