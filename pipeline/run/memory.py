"""Memory between the stages, which hand each other files."""

import ctypes

import pyarrow as pa


def release_freed() -> None:
    """Give back to the system what earlier stages freed: allocators keep it, and the next stage adds its own."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
