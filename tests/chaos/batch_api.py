"""A loopback server that plays the batch API of a provider, and its chat beside it.

It runs in a thread of the test, so that the test can look into it and hook every step: `hooks[event]` is called when a
request has come (`upload`, `create`, `poll`, `content`, `cancel`, `list`, `delete`) and, as `made`, between a batch and
its answer. What a test changes of states and lines is in OpenAI's words; a dialect puts it into its own.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from aiohttp import web

Lines = list[dict[str, Any]]
_MARK = re.compile(r"mark=([\w-]+);")


def said(body: dict[str, Any]) -> str:
    """Return what every answer says: the mark of the prompt."""
    mark = _MARK.search(json.dumps(body, ensure_ascii=False))
    return f"mark={mark and mark[1]}; done"


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """Return a completion that says the prompt's mark back; 20 tokens in and 10 out."""
    return {
        "id": "c1",
        "model": body["model"],
        "choices": [{"index": 0, "message": {"content": said(body)}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    }


class Dialect(Protocol):
    """How one provider's API looks."""

    name: str
    adapter: str  # of the requests that its batches are made of

    def routes(self, api: "BatchApi") -> list[web.RouteDef]:
        """Return its paths, below the base URL's /v1, with what answers them."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request."""


class BatchApi:
    """What the server has and how it behaves; change it before or while a job runs."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []  # bodies of chats
        self.hooks: dict[str, Callable[[], object]] = {}
        self.refuse: dict[str, list[int]] = {}  # event -> statuses to give instead, one a request
        self.polls_to_end = 1  # looks at a batch until it has ended
        self.ends_as = "completed"
        self.output: Callable[[Lines], Lines] = lambda lines: lines  # what becomes of the good lines
        self.errors: Callable[[Lines], Lines] = lambda lines: []  # lines of the error file, from all good lines
        self.problems: list[dict[str, Any]] = []  # of a batch that failed
        self.fails_with_files = False
        self.base_url = ""

    def event(self, name: str) -> None:
        """Note a step. Raises what the test wants it to be refused with."""
        if name in self.hooks:
            self.hooks[name]()
        if statuses := self.refuse.get(name, []):
            raise RefusedError(name, statuses.pop(0))

    def keep(self, content: bytes) -> str:
        """Keep a file that came up and return its name."""
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def make(self, lines: Lines, mark: str) -> dict[str, Any]:
        """Make a batch of *lines*, which have a custom_id and a body."""
        batch: dict[str, Any] = {
            "id": f"batch-{len(self.batches)}",
            "status": "validating",
            "mark": mark,
            "created_at": int(time.time()),
        }
        self.batches[batch["id"]] = batch | {"lines": lines, "polls": 0, "files": {}}
        self.event("made")
        return self.batches[batch["id"]]

    def look(self, name: str) -> dict[str, Any]:
        """Return the batch, which comes a step further by it."""
        batch = self.batches[name]
        batch["polls"] += 1
        if batch["status"] == "cancelling":
            self._end(batch, "cancelled")
        elif batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if batch["polls"] >= self.polls_to_end:
                self._end(batch, self.ends_as)
        return batch

    def cancel(self, name: str) -> dict[str, Any]:
        """Begin to stop the batch."""
        self.batches[name]["status"] = "cancelling"
        return self.batches[name]

    def _end(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        if status == "failed" and not self.fails_with_files:
            return
        good = [
            {
                "id": "r",
                "custom_id": line["custom_id"],
                "response": {"status_code": 200, "request_id": "q", "body": self.dialect.answer(line["body"])},
                "error": None,
            }
            for line in batch["lines"]
        ]
        for kind, lines in (("output", self.output(good)), ("error", self.errors(good))):
            if lines:
                batch["files"][kind] = self.keep(as_lines(lines))

    async def chat(self, request: web.Request) -> web.Response:
        """Answer a request that comes by itself."""
        body = await request.json()
        self.asked.append(body)
        return web.json_response(self.dialect.answer(body))

    def content(self, name: str) -> web.Response:
        """Return a file."""
        self.event("content")
        return web.Response(body=self.files[name]) if name in self.files else web.json_response({}, status=404)

    def delete(self, name: str) -> web.Response:
        """Delete a file or a batch."""
        self.event("delete")
        known = self.files.pop(name, None) is not None or self.batches.pop(name, None) is not None
        return web.json_response({"id": name, "deleted": True} if known else {}, status=200 if known else 404)


class RefusedError(Exception):
    """A step is to be answered with an error status."""

    def __init__(self, event: str, status: int) -> None:
        super().__init__(event)
        self.answer = web.json_response({"error": {"message": f"{event} refused"}}, status=status)


def as_lines(values: Lines) -> bytes:
    """Return *values* as a file of JSON lines."""
    return "".join(json.dumps(value) + "\n" for value in values).encode()


@web.middleware
async def _refusing(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        return refused.answer


@contextmanager
def serve_batches(dialect: Dialect) -> Iterator[BatchApi]:
    """Serve on a free port until the end of the block."""
    api = BatchApi(dialect)
    with serve_routes(dialect.routes(api)) as api.base_url:
        yield api


@contextmanager
def serve_routes(routes: list[web.RouteDef]) -> Iterator[str]:
    """Serve *routes* from a thread, and give the base URL with /v1."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), [""]
    app = web.Application(client_max_size=1 << 30, middlewares=[_refusing])
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address[0] = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
