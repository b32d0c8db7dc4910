"""lm-deluge: all prompts in one call of `process_prompts_async`, its own retries, told of the limits."""

import os
from collections.abc import Sequence

from lm_deluge import LLMClient
from lm_deluge.models import register_model

from benchmarks.peers.running import Task, run
from benchmarks.prompt import MAX_OUTPUT_TOKENS, MODEL

_NO_LIMIT = 10**9


async def ask(task: Task) -> Sequence[str | None]:
    """Ask with one call for all rows."""
    os.environ["BENCH_API_KEY"] = "none"
    register_model(id=MODEL, name=MODEL, api_base=task.url, api_key_env_var="BENCH_API_KEY")
    client = LLMClient(
        MODEL,
        max_concurrent_requests=task.concurrency,
        max_requests_per_minute=task.requests_per_min or _NO_LIMIT,
        max_tokens_per_minute=task.tokens_per_min or _NO_LIMIT,
        max_new_tokens=MAX_OUTPUT_TOKENS,
        temperature=0.0,
    )
    return await client.process_prompts_async(list(task.prompts), return_completions_only=True, show_progress=False)


if __name__ == "__main__":
    run(ask)
