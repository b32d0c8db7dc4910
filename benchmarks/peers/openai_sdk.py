"""The openai SDK: one AsyncOpenAI for all, as many connections as workers, its own retries.

`OPENAI_TRANSPORT=aiohttp` takes the SDK's other transport, the extra `openai[aiohttp]`.
"""

import os
from collections.abc import Sequence

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient, OpenAIError

from benchmarks.peers.running import Task, ask_each, run
from benchmarks.prompt import MAX_OUTPUT_TOKENS, MODEL


async def ask(task: Task) -> Sequence[str | None]:
    """Ask with one call a row."""
    limits = httpx2.Limits(max_connections=task.concurrency, max_keepalive_connections=task.concurrency)
    transport = DefaultAioHttpClient if os.environ.get("OPENAI_TRANSPORT") == "aiohttp" else DefaultAsyncHttpxClient
    client = AsyncOpenAI(base_url=task.url, api_key="none", http_client=transport(limits=limits))

    async def one(text: str) -> str | None:
        completion = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=MAX_OUTPUT_TOKENS, temperature=0
        )
        return completion.choices[0].message.content

    async with client:
        return await ask_each(task, one, OpenAIError)


if __name__ == "__main__":
    run(ask)
