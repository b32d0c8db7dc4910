"""litellm: `acompletion` for each row, its own retries."""

import os
from collections.abc import Sequence

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise its import loads a price list from the network

import litellm
from openai import OpenAIError

from benchmarks.peers.running import Task, ask_each, run
from benchmarks.prompt import MAX_OUTPUT_TOKENS, MODEL


async def ask(task: Task) -> Sequence[str | None]:
    """Ask with one call a row."""
    litellm.suppress_debug_info = True

    async def one(text: str) -> str | None:
        completion = await litellm.acompletion(
            model=f"openai/{MODEL}", api_base=task.url, api_key="none",
            messages=[{"role": "user", "content": text}], max_tokens=MAX_OUTPUT_TOKENS, temperature=0,
        )  # fmt: skip
        return completion.choices[0].message.content

    return await ask_each(task, one, OpenAIError)


if __name__ == "__main__":
    run(ask)
