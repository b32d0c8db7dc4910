"""The baseline: what asking costs with aiohttp and nothing else. asyncio, json, no file, no ledger, no limits.

    python -m benchmarks.bare URL --rows 20000 --concurrency 100

prints one line of JSON with the CPU-seconds of the loop alone, start and imports left out.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Iterator

import aiohttp

PROMPT_CHARS = 500
_TEXT = "Say in one sentence what the river market report brings to the quiet village. " * 8


async def ask_all(url: str, rows: int, concurrency: int) -> int:
    """Ask *rows* prompts with *concurrency* workers; return how many got their own answer."""
    numbers = iter(range(rows))
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        workers = [_work(session, f"{url}/chat/completions", numbers) for _ in range(concurrency)]
        return sum(await asyncio.gather(*workers))


async def _work(session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> int:
    answered = 0
    for number in numbers:
        mark = f"[#{number}]"
        message = {"role": "user", "content": f"{mark} {_TEXT}"[:PROMPT_CHARS]}
        payload = {"model": "bench", "messages": [message], "max_tokens": 64, "temperature": 0}
        async with session.post(url, json=payload) as response:
            completion = json.loads(await response.read())
        text = completion["choices"][0]["message"]["content"] if response.status == 200 else ""
        answered += text.startswith(mark) and completion["usage"]["completion_tokens"] > 0
    return answered


def cpu_s() -> float:
    """Return the CPU-seconds of this process so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the loop and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="ends in /v1")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=100)
    options = parser.parse_args()
    cpu_before, began = cpu_s(), time.perf_counter()
    answered = asyncio.run(ask_all(options.url, options.rows, options.concurrency))
    if answered != options.rows:
        raise SystemExit(f"{answered} of {options.rows} rows got their answer")
    loop_cpu_s, wall_s = cpu_s() - cpu_before, time.perf_counter() - began
    cost = loop_cpu_s / answered * 1000
    print(json.dumps({"rows": answered, "wall_s": wall_s, "loop_cpu_s": loop_cpu_s, "cpu_s_per_1000_rows": cost}))


if __name__ == "__main__":
    main()
