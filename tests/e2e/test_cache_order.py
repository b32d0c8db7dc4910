"""Requests that begin alike follow each other where a provider caches beginnings; the summary says what that saved."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from pipeline.cli.texts import report_text
from pipeline.run import RunOptions, run_job
from tests.chaos.batch_api import serve_routes
from tests.e2e.command import Job, make_job

BEGINNINGS = [f"{name}: " + f"These are the rules of {name}, in all their length. " * 200 for name in ("a", "b", "c")]
ROWS = 30
IN, CACHED, OUT = Decimal("0.15"), Decimal("0.05"), Decimal("0.60")


class OneCache:
    """A provider that keeps the beginning of the last prompt only, and bills 2,000 tokens of the next one as cached."""

    def __init__(self) -> None:
        self.last = ""
        self.hits = 0

    async def chat(self, request: web.Request) -> web.Response:
        text = (await request.json())["messages"][-1]["content"]
        hit = text[:500] == self.last
        self.last, self.hits = text[:500], self.hits + hit
        usage: dict[str, Any] = {
            "prompt_tokens": 2500,
            "completion_tokens": 10,
            "total_tokens": 2510,
            "prompt_tokens_details": {"cached_tokens": 2000 if hit else 0},
        }
        choice = {"index": 0, "message": {"content": text[-6:]}, "finish_reason": "stop"}
        return web.json_response({"model": "m", "choices": [choice], "usage": usage})


def a_job(folder: Path, base_url: str, *, cached: bool) -> Job:
    """Return a job of rows whose three long beginnings take turns, asked one at a time."""
    prompts = [f"{BEGINNINGS[number % 3]}row {number:02}" for number in range(ROWS)]
    table = pa.table({"id": [str(number) for number in range(ROWS)], "prompt": prompts})
    job = make_job(folder, base_url, rows=table, provider="")
    text = job.file.read_text().replace("concurrency = 64", "concurrency = 1")
    if cached:
        text = text.replace("output_usd_per_mtok", f'cached_input_usd_per_mtok = "{CACHED}"\noutput_usd_per_mtok')
    job.file.write_text(text)
    return job


@pytest.mark.parametrize(("cached", "hits"), [(True, ROWS - 3), (False, 0)])
def test_rows_that_begin_alike_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool, hits: int
) -> None:
    """Where cached input is cheaper, all but the first row of each beginning hit the cache, and the saving is exact."""
    monkeypatch.setenv("CHAOS_API_KEY", "sk-x")
    api = OneCache()
    with serve_routes([web.post("/v1/chat/completions", api.chat)]) as base_url:
        job = a_job(tmp_path, base_url, cached=cached)
        report = run_job(RunOptions(job.file))
    assert report.exit_code == 0
    assert job.outputs()["llm_answer"].to_pylist() == [f"row {number:02}" for number in range(ROWS)]
    assert api.hits == hits
    cache = report.summary["cache"]
    assert (cache["input_tokens"], cache["cached_tokens"]) == (2500 * ROWS, 2000 * hits)
    assert cache["hit_rate"] == 2000 * hits / (2500 * ROWS)
    assert Decimal(cache["saved_usd"]) == 2000 * hits * (IN - CACHED) / 1_000_000
    spent = (2500 * ROWS * IN + 10 * ROWS * OUT) / 1_000_000 - Decimal(cache["saved_usd"])
    assert Decimal(report.summary["spent_usd"]) == spent
    told = "72.0% of the input came from a cache and saved 0.0054 USD"
    assert (told in report_text(report.summary)) == cached
