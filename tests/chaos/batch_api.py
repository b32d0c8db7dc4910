"""A loopback server that plays OpenAI's files and batches, Anthropic's message batches, and the chat beside them.

It runs in a thread of the test, so that the test can look into it and hook every step: `hooks[event]` is called when a
request has come (`upload`, `create`, `poll`, `content`, `cancel`, `list`) and, as `made`, between a batch and its answer.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Lines = list[dict[str, Any]]
_MARK = re.compile(r"mark=([\w-]+);")


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """Return a completion that says the prompt's mark back; 20 tokens in and 10 out."""
    mark = _MARK.search(body["messages"][-1]["content"])
    return {
        "id": "c1",
        "model": body["model"],
        "choices": [{"index": 0, "message": {"content": f"mark={mark and mark[1]}; done"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    }


def message_to(params: dict[str, Any]) -> dict[str, Any]:
    """Return a message of Anthropic's that says the prompt's mark back; 20 tokens in and 10 out."""
    mark = _MARK.search(json.dumps(params["messages"]))
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [{"type": "text", "text": f"mark={mark and mark[1]}; done"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 20, "output_tokens": 10},
    }


class BatchApi:
    """What the server has and how it behaves; change it before or while a job runs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []  # bodies of chats
        self.hooks: dict[str, Callable[[], None]] = {}
        self.refuse: dict[str, list[int]] = {}  # event -> statuses to give instead, one a request
        self.polls_to_end = 1  # looks at a batch until it has ended
        self.ends_as = "completed"
        self.output: Callable[[Lines], Lines] = lambda lines: lines  # what becomes of the good lines
        self.errors: Callable[[Lines], Lines] = lambda lines: []  # lines of the error file, from all good lines
        self.problems: list[dict[str, Any]] = []  # of a batch that failed
        self.base_url = ""

    def marks(self) -> list[str]:
        """Return the marks of the rows that were asked one by one, in order."""
        return sorted(found[1] for body in self.asked if (found := _MARK.search(json.dumps(body))))

    def _event(self, name: str) -> web.Response | None:
        if name in self.hooks:
            self.hooks[name]()
        statuses = self.refuse.get(name, [])
        if statuses:
            return web.json_response({"error": {"message": f"{name} refused"}}, status=statuses.pop(0))
        return None

    # ---------------------------------------------------------------------------------------------------------- OpenAI

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (refused := self._event("upload")) is not None:
            return refused
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read()
        return web.json_response({"id": name})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if (refused := self._event("create")) is not None:
            return refused
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        batch = {
            "id": f"batch-{len(self.batches)}",
            "status": "validating",
            "metadata": asked["metadata"],
            "created_at": int(time.time()),
            "request_counts": {"total": len(lines)},
            "_lines": lines,
            "_polls": 0,
        }
        self.batches[batch["id"]] = batch
        self._event("made")
        return web.json_response(shown(batch))

    async def listing(self, request: web.Request) -> web.Response:
        if (refused := self._event("list")) is not None:
            return refused
        return web.json_response({"data": [shown(batch) for batch in reversed(self.batches.values())]})

    async def poll(self, request: web.Request) -> web.Response:
        if (refused := self._event("poll")) is not None:
            return refused
        batch = self.batches[request.match_info["id"]]
        batch["_polls"] += 1
        if batch["status"] == "cancelling":
            self._end(batch, "cancelled")
        elif batch["_polls"] >= self.polls_to_end:
            self._end(batch, self.ends_as)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return web.json_response(shown(batch))

    async def cancel(self, request: web.Request) -> web.Response:
        self._event("cancel")
        batch = self.batches[request.match_info["id"]]
        batch["status"] = "cancelling"
        return web.json_response(shown(batch))

    def _end(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        if status == "failed":
            batch["errors"] = {"data": self.problems}
            return
        good = [
            {
                "id": "r",
                "custom_id": line["custom_id"],
                "response": {"status_code": 200, "request_id": "q", "body": answer_to(line["body"])},
                "error": None,
            }
            for line in batch["_lines"]
        ]
        for key, lines in (("output_file_id", self.output(good)), ("error_file_id", self.errors(good))):
            if lines:
                name = f"file-{key}-{batch['id']}"
                self.files[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
                batch[key] = name

    async def content(self, request: web.Request) -> web.Response:
        if (refused := self._event("content")) is not None:
            return refused
        file = self.files.get(request.match_info["id"])
        return web.Response(body=file) if file is not None else web.json_response({}, status=404)

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        return web.json_response(answer_to(body))

    # ------------------------------------------------------------------------------------------------------- Anthropic

    async def create_messages(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if (refused := self._event("create")) is not None:
            return refused
        batch = {
            "id": f"msgbatch-{len(self.batches)}",
            "processing_status": "in_progress",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_counts": {"processing": len(asked["requests"])},
            "_lines": asked["requests"],
            "_polls": 0,
        }
        self.batches[batch["id"]] = batch
        self._event("made")
        return web.json_response(shown(batch))

    async def poll_messages(self, request: web.Request) -> web.Response:
        if (refused := self._event("poll")) is not None:
            return refused
        batch = self.batches[request.match_info["id"]]
        batch["_polls"] += 1
        if batch["_polls"] >= self.polls_to_end:
            batch["processing_status"] = "ended"
            batch["request_counts"] = {"succeeded": len(batch["_lines"])}
        return web.json_response(shown(batch))

    async def message_results(self, request: web.Request) -> web.Response:
        self._event("content")
        lines = [
            {"custom_id": line["custom_id"], "result": {"type": "succeeded", "message": message_to(line["params"])}}
            for line in self.batches[request.match_info["id"]]["_lines"]
        ]
        return web.Response(body="".join(json.dumps(line) + "\n" for line in self.output(lines)).encode())


def shown(batch: dict[str, Any]) -> dict[str, Any]:
    """Return what a client sees of *batch*."""
    return {key: value for key, value in batch.items() if not key.startswith("_")}


@contextmanager
def serve_batches() -> Iterator[BatchApi]:
    """Serve on a free port until the end of the block."""
    api = BatchApi()
    routes = [
        web.post("/v1/files", api.upload),
        web.get("/v1/files/{id}/content", api.content),
        web.post("/v1/batches", api.create),
        web.get("/v1/batches", api.listing),
        web.get("/v1/batches/{id}", api.poll),
        web.post("/v1/batches/{id}/cancel", api.cancel),
        web.post("/v1/chat/completions", api.chat),
        web.post("/v1/messages/batches", api.create_messages),
        web.get("/v1/messages/batches", api.listing),
        web.get("/v1/messages/batches/{id}", api.poll_messages),
        web.get("/v1/messages/batches/{id}/results", api.message_results),
    ]
    with serve_routes(routes) as api.base_url:
        yield api


@contextmanager
def serve_routes(routes: list[web.RouteDef]) -> Iterator[str]:
    """Serve *routes* from a thread, and give the base URL with /v1."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), [""]
    app = web.Application(client_max_size=1 << 30)
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
