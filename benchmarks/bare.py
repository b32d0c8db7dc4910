"""The baseline: what asking costs with aiohttp and nothing else. asyncio, json, no file, no ledger, no limits.

    python -m benchmarks.bare URL --rows 20000 --concurrency 100

prints one line of JSON with the CPU-seconds of the loop alone, start and imports left out. With `--fast` the loop is
uvloop's, and msgspec encodes requests and decodes answers into types: the least that aiohttp can be brought to.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Iterator

import aiohttp
import msgspec
import uvloop

from benchmarks.prompt import MAX_OUTPUT_TOKENS, MODEL, mark, prompt


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage


async def ask_all(url: str, rows: int, concurrency: int, *, fast: bool) -> int:
    """Ask *rows* prompts with *concurrency* workers; return how many got their own answer."""
    work = _work_fast if fast else _work
    numbers = iter(range(rows))
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        workers = [work(session, f"{url}/chat/completions", numbers) for _ in range(concurrency)]
        return sum(await asyncio.gather(*workers))


async def _work(session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> int:
    answered = 0
    for number in numbers:
        async with session.post(url, json=_payload(number)) as response:
            completion = json.loads(await response.read())
        text = completion["choices"][0]["message"]["content"] if response.status == 200 else ""
        answered += text.startswith(mark(number)) and completion["usage"]["completion_tokens"] > 0
    return answered


async def _work_fast(session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> int:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(_Completion)
    headers = {"Content-Type": "application/json"}
    answered = 0
    for number in numbers:
        async with session.post(url, data=encoder.encode(_payload(number)), headers=headers) as response:
            completion = decoder.decode(await response.read())
        answered += completion.choices[0].message.content.startswith(mark(number))
    return answered


def _payload(number: int) -> dict[str, object]:
    message = {"role": "user", "content": prompt(number)}
    return {"model": MODEL, "messages": [message], "max_tokens": MAX_OUTPUT_TOKENS, "temperature": 0}


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
    parser.add_argument("--fast", action="store_true", help="uvloop and msgspec")
    options = parser.parse_args()
    run = uvloop.run if options.fast else asyncio.run
    cpu_before, began = cpu_s(), time.perf_counter()
    answered = run(ask_all(options.url, options.rows, options.concurrency, fast=options.fast))
    if answered != options.rows:
        raise SystemExit(f"{answered} of {options.rows} rows got their answer")
    loop_cpu_s, wall_s = cpu_s() - cpu_before, time.perf_counter() - began
    cost = loop_cpu_s / answered * 1000
    print(json.dumps({"rows": answered, "wall_s": wall_s, "loop_cpu_s": loop_cpu_s, "cpu_s_per_1000_rows": cost}))


if __name__ == "__main__":
    main()
