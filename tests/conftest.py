"""What every test shares: one event loop kind, and hypothesis that is the same on every CI run."""

import os

import pytest
from hypothesis import HealthCheck, settings

# As the command has it, and read when polars is imported: several files of tests run at a time on few cores.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def anyio_backend() -> str:
    """aiohttp runs on asyncio only."""
    return "asyncio"
