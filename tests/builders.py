"""Defaults for the values that tests need; change one thing at a time."""

from pathlib import Path
from typing import Any

from pipeline.ledger import Attempt
from pipeline.records import Request


def a_request(number: int = 1, **changes: Any) -> Request:
    """Return a request whose id is *number*."""
    request = Request(request_id=number.to_bytes(16, "big"), row_id=f"r{number}", user=f"mark=row-{number:06};")
    return request._replace(**changes)


def an_attempt(number: int = 1, **changes: Any) -> Attempt:
    """Return a final, good attempt at request *number*."""
    attempt = Attempt(
        request_id=number.to_bytes(16, "big"),
        row_id=f"r{number}",
        night=1,
        run=1,
        attempt=1,
        model="gpt-4o",
        final=True,
        status="ok",
        reason=None,
        started_at=1_790_000_000.25,
        latency_s=0.5,
        input_tokens=100,
        cached_tokens=0,
        output_tokens=20,
        reasoning_tokens=0,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=0,
        usage_status="measured",
        cost_pusd=450_000_000,
        total_cost_pusd=450_000_000,
        provider_request_id="req-1",
        finish="stop",
        http_status=200,
        error_kind="",
        error_code="",
        model_echo="gpt-4o-2024-08-06",
        repeats=0,
        batch="",
        shared_by=1,
        answer=f"answer {number}",
    )
    return attempt._replace(**changes)


def a_job_file(folder: Path, **sections: str) -> Path:
    """Write a job file that reads in.parquet and writes out; *sections* replace or add whole TOML sections."""
    parts = {
        "input": f'path = "{folder / "in.parquet"}"\nid = "id"',
        "prompt": 'column = "prompt"\nmax_output_tokens = 64',
        "output": f'path = "{folder / "out"}"',
        **sections,
    }
    text = 'name = "test"\n' + "".join(f"[{name.replace('__', '.')}]\n{body}\n" for name, body in parts.items())
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path
