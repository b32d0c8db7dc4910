"""What the scripts of all peers share: the command line, the prompts, the check of every answer, what it cost.

    python -m benchmarks.peers.openai_sdk URL --rows 2000 --concurrency 100

prints one line of JSON: rows, those that were lost, and wall and CPU seconds of the work without start and imports.
Only the standard library is imported here.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from benchmarks.prompt import mark, prompt

_PATIENCE_S = 600.0


class Task(NamedTuple):
    """What a peer is asked to do; a limit of 0 is none."""

    url: str  # ends in /v1
    prompts: Sequence[str]
    concurrency: int
    requests_per_min: int
    tokens_per_min: int


Ask = Callable[[Task], Awaitable[Sequence[str | None]]]


def run(ask: Ask) -> None:
    """Let *ask* answer all prompts, None for one that it gave up, and print what that cost.

    Raises:
        SystemExit: when an answer is not that of its prompt, when there are fewer than prompts, none at all, or no end.
    """
    task = _task()
    cpu_before, began = _cpu_s(), time.perf_counter()
    try:
        answers = asyncio.run(_within(ask(task)))
    except TimeoutError:
        raise SystemExit(f"no end within {_PATIENCE_S:.0f} s") from None
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_before
    lost = count_lost(answers, len(task.prompts))
    print(json.dumps({"rows": len(answers), "lost": lost, "loop_wall_s": wall_s, "loop_cpu_s": cpu_s}), flush=True)


def count_lost(answers: Sequence[str | None], rows: int) -> int:
    """Return how many of the *rows* prompts have no answer.

    Raises:
        SystemExit: when an answer is not that of its prompt, when there are fewer than *rows*, or none at all.
    """
    if len(answers) != rows:
        raise SystemExit(f"{len(answers)} answers for {rows} rows")
    for number, answer in enumerate(answers):
        if answer is not None and not answer.startswith(mark(number)):
            raise SystemExit(f"the answer to {mark(number)} is that of another row: {answer[:80]}")
    lost = sum(answer is None for answer in answers)
    if lost == rows:
        raise SystemExit("no row got an answer")
    return lost


async def ask_each(task: Task, ask: Callable[[str], Awaitable[str | None]], lost: type[Exception]) -> list[str | None]:
    """Ask the prompts one by one with as many workers as *task* says; one that ends in an error *lost* is None."""
    answers: list[str | None] = [None] * len(task.prompts)
    rest = iter(enumerate(task.prompts))

    async def work() -> None:
        for number, text in rest:
            try:
                answers[number] = await ask(text)
            except lost:
                continue

    await asyncio.gather(*(work() for _ in range(task.concurrency)))
    return answers


async def _within(answers: Awaitable[Sequence[str | None]]) -> Sequence[str | None]:
    async with asyncio.timeout(_PATIENCE_S):
        return await answers


def _task() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="ends in /v1")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--requests-per-min", type=int, default=0, help="what the peer is told of; 0: nothing")
    parser.add_argument("--tokens-per-min", type=int, default=0)
    options = parser.parse_args()
    prompts = [prompt(number) for number in range(options.rows)]
    return Task(options.url, prompts, options.concurrency, options.requests_per_min, options.tokens_per_min)


def _cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
