"""flexllm: all prompts in one call of `chat_batch`, its own retries, told of the limit of requests."""

from collections.abc import Sequence

from flexllm import LLMClient

from benchmarks.peers.running import Task, run
from benchmarks.prompt import MAX_OUTPUT_TOKENS, MODEL

_NO_LIMIT = 10**9


async def ask(task: Task) -> Sequence[str | None]:
    """Ask with one call for all rows."""
    client = LLMClient(
        base_url=task.url, model=MODEL, api_key="none", concurrency_limit=task.concurrency,
        max_qps=task.requests_per_min // 60 or _NO_LIMIT,
    )  # fmt: skip
    async with client:
        results = await client.chat_batch(
            [[{"role": "user", "content": text}] for text in task.prompts],
            show_progress=False, max_tokens=MAX_OUTPUT_TOKENS, temperature=0,
        )  # fmt: skip
    return [result.content for result in results]


if __name__ == "__main__":
    run(ask)
