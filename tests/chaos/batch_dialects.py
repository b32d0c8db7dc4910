"""How each provider's batch API looks, for the server of `batch_api`. Shapes as their references and packages have them."""

import json
import time
from typing import Any

from aiohttp import BodyPartReader, web

from tests.chaos.batch_api import BatchApi, Dialect, answer_to, as_lines, said

Batch = dict[str, Any]
_MISTRAL_STATES = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}


class OpenAI:
    """OpenAI's files and batches."""

    name = "openai"
    adapter = "openai"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return answer_to(body)

    def routes(self, api: BatchApi) -> list[web.RouteDef]:
        async def create(request: web.Request) -> web.Response:
            asked = await request.json()
            api.event("create")
            assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
            lines = [json.loads(line) for line in api.files[asked["input_file_id"]].splitlines()]
            assert {(line["method"], line["url"]) for line in lines} == {("POST", asked["endpoint"])}
            return web.json_response(shown(api.make(lines, asked["metadata"]["rowroute_intent"])))

        async def listing(_request: web.Request) -> web.Response:
            api.event("list")
            return web.json_response({"data": [shown(batch) for batch in reversed(api.batches.values())]})

        def shown(batch: Batch) -> Batch:
            failed = batch["status"] == "failed"
            return {
                "id": batch["id"],
                "status": batch["status"],
                "metadata": {"rowroute_intent": batch["mark"]},
                "created_at": batch["created_at"],
                "request_counts": {"total": len(batch["lines"])},
                "output_file_id": batch["files"].get("output"),
                "error_file_id": batch["files"].get("error"),
                "errors": {"data": api.problems} if failed else None,
            }

        return [*_of_forms(api), *_made_at("/v1/batches", create, listing), *_batches(api, "/v1/batches/{id}", shown)]


class Mistral:
    """Mistral's files and batch jobs: pages with numbers, one model a job, errors without lines."""

    name = "mistral"
    adapter = "openai"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return answer_to(body)

    def routes(self, api: BatchApi) -> list[web.RouteDef]:
        async def create(request: web.Request) -> web.Response:
            asked = await request.json()
            api.event("create")
            assert (asked["endpoint"], asked["timeout_hours"]) == ("/v1/chat/completions", 24)
            lines = [json.loads(line) for name in asked["input_files"] for line in api.files[name].splitlines()]
            assert {line["body"]["model"] for line in lines} == {asked["model"]}
            return web.json_response(shown(api.make(lines, asked["metadata"]["rowroute_intent"])))

        async def listing(request: web.Request) -> web.Response:
            api.event("list")
            assert request.query["order_by"] == "-created"
            page, size = int(request.query["page"]), int(request.query["page_size"])
            batches = [shown(batch) for batch in reversed(api.batches.values())]
            return web.json_response({"data": batches[page * size :][:size], "total": len(batches), "object": "list"})

        def shown(batch: Batch) -> Batch:
            return {
                "id": batch["id"],
                "object": "batch",
                "input_files": ["file-0"],
                "endpoint": "/v1/chat/completions",
                "model": "m",
                "metadata": {"rowroute_intent": batch["mark"]},
                "status": _MISTRAL_STATES[batch["status"]],
                "created_at": batch["created_at"],
                "total_requests": len(batch["lines"]),
                "completed_requests": 0,
                "succeeded_requests": 0,
                "failed_requests": 0,
                "output_file": batch["files"].get("output"),
                "error_file": batch["files"].get("error"),
                "errors": [{"message": problem["message"], "count": 1} for problem in api.problems],
            }

        path = "/v1/batch/jobs"
        return [*_of_forms(api), *_made_at(path, create, listing), *_batches(api, path + "/{id}", shown)]


class Anthropic:
    """Anthropic's message batches: no files, no mark, one place for all results."""

    name = "anthropic"
    adapter = "anthropic"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": said(body)}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 20, "output_tokens": 10},
        }

    def routes(self, api: BatchApi) -> list[web.RouteDef]:
        async def create(request: web.Request) -> web.Response:
            asked = await request.json()
            api.event("create")
            lines = [{"custom_id": line["custom_id"], "body": line["params"]} for line in asked["requests"]]
            return web.json_response(shown(api.make(lines, "")))

        async def listing(_request: web.Request) -> web.Response:
            api.event("list")
            return web.json_response({"data": [shown(batch) for batch in reversed(api.batches.values())]})

        async def results(request: web.Request) -> web.Response:
            api.event("content")
            files = api.batches[request.match_info["id"]]["files"]
            lines = [json.loads(line) for name in files.values() for line in api.files[name].splitlines()]
            return web.Response(body=as_lines([_message_line(line) for line in lines]))

        def shown(batch: Batch) -> Batch:
            going = batch["status"] in ("validating", "in_progress")
            return {
                "id": batch["id"],
                "processing_status": "in_progress" if going else "ended",
                "created_at": _iso(batch),
                "request_counts": {"processing" if going else "succeeded": len(batch["lines"])},
            }

        path = "/v1/messages/batches"
        return [
            web.post(path, create),
            web.get(path, listing),
            web.get(path + "/{id}/results", results),
            *_batches(api, path + "/{id}", shown),
            web.post("/v1/messages", api.chat),
        ]


def _message_line(line: Batch) -> Batch:
    response = line["response"]
    if response and response["status_code"] == 200:
        return {"custom_id": line["custom_id"], "result": {"type": "succeeded", "message": response["body"]}}
    if response and response["status_code"]:
        word = "invalid_request_error" if response["status_code"] == 400 else "overloaded_error"
        error = {"type": "error", "error": {"type": word, "message": "no"}}
        return {"custom_id": line["custom_id"], "result": {"type": "errored", "error": error}}
    return {"custom_id": line["custom_id"], "result": {"type": "expired"}}


class Gemini:
    """Gemini's files and batches: an upload with a tree of its own, names as ids, one file of results."""

    name = "gemini"
    adapter = "gemini"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "candidates": [{"content": {"parts": [{"text": said(body)}], "role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 10, "totalTokenCount": 30},
            "modelVersion": "m",
        }

    def routes(self, api: BatchApi) -> list[web.RouteDef]:
        async def upload(request: web.Request) -> web.Response:
            assert request.headers["x-goog-upload-protocol"] == "multipart"
            assert request.content_type == "multipart/related"
            parts = await request.multipart()
            about, file = [await part.read() async for part in parts if isinstance(part, BodyPartReader)]
            assert json.loads(about)["file"]["mimeType"] == "application/jsonl"
            api.event("upload")
            return web.json_response({"file": {"name": f"files/{api.keep(bytes(file))}", "state": "ACTIVE"}})

        async def create(request: web.Request) -> web.Response:
            batch = (await request.json())["batch"]
            api.event("create")
            entries = api.files[batch["inputConfig"]["fileName"].removeprefix("files/")].splitlines()
            lines = [{"custom_id": line["key"], "body": line["request"]} for line in map(json.loads, entries)]
            return web.json_response(shown(api.make(lines, batch["displayName"])))

        async def listing(request: web.Request) -> web.Response:
            """Return one batch a page, the oldest first: no order is promised."""
            api.event("list")
            start = int(request.query.get("pageToken", 0))
            batches = [shown(batch) for batch in api.batches.values()]
            more = {"nextPageToken": str(start + 1)} if start + 1 < len(batches) else {}
            return web.json_response({"operations": batches[start : start + 1], **more})

        async def content(request: web.Request) -> web.Response:
            assert request.query["alt"] == "media"
            return api.content(request.match_info["id"])

        def shown(batch: Batch) -> Batch:
            state = {
                "validating": "PENDING",
                "in_progress": "RUNNING",
                "completed": "SUCCEEDED",
                "cancelling": "RUNNING",
            }
            word = state.get(batch["status"], batch["status"].upper())
            about = {"displayName": batch["mark"], "state": f"BATCH_STATE_{word}", "createTime": _iso(batch)}
            shape: Batch = {"name": f"batches/{batch['id']}", "metadata": about}
            if batch["status"] == "failed":
                shape |= {"done": True, "error": {"code": 3, "message": api.problems[0]["message"]}}
            if batch["files"]:
                if "results" not in batch["files"]:
                    parts = [api.files.pop(name) for name in batch["files"].values()]
                    lines = [json.loads(line) for part in parts for line in part.splitlines()]
                    batch["files"] = {"results": api.keep(as_lines([_gemini_line(line) for line in lines]))}
                file = {"responsesFile": f"files/{batch['files']['results']}"}
                shape |= {"done": True, "response": file}
                about["output"] = file
            return shape

        return [
            web.post("/upload/v1/files", upload),
            web.get("/v1/files/{id}:download", content),
            web.delete("/v1/files/{id}", deleting(api)),
            web.post("/v1/models/m:batchGenerateContent", create),
            web.post("/v1/models/m:generateContent", api.chat),
            web.get("/v1/batches", listing),
            *_batches(api, "/v1/batches/{id}", shown, cancel=":cancel", cancelled={}),
        ]


def _gemini_line(line: Batch) -> Batch:
    response = line["response"]
    if response and response["status_code"] == 200:
        return {"key": line["custom_id"], "response": response["body"]}
    if response and response["status_code"]:
        code = {400: 3, 503: 14}[response["status_code"]]
        return {"key": line["custom_id"], "error": {"code": code, "message": "no"}}
    return {"key": line["custom_id"]}


DIALECTS: dict[str, Dialect] = {each.name: each for each in (OpenAI(), Anthropic(), Gemini(), Mistral())}


def _iso(batch: Batch) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(batch["created_at"]))


def upload_form(api: BatchApi) -> Any:
    """Return what takes a file as a form."""

    async def upload(request: web.Request) -> web.Response:
        form = await request.post()
        api.event("upload")
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        return web.json_response({"id": api.keep(file.file.read())})

    return upload


def deleting(api: BatchApi) -> Any:
    """Return what deletes a file or a batch."""

    async def delete(request: web.Request) -> web.Response:
        return api.delete(request.match_info["id"])

    return delete


def _of_forms(api: BatchApi) -> list[web.RouteDef]:
    """Return the routes of files that come as forms, and of chats."""
    return [
        web.post("/v1/files", upload_form(api)),
        *_files(api),
        web.post("/v1/chat/completions", api.chat),
    ]


def _made_at(path: str, create: Any, listing: Any) -> list[web.RouteDef]:
    return [web.post(path, create), web.get(path, listing)]


def _files(api: BatchApi) -> list[web.RouteDef]:
    async def content(request: web.Request) -> web.Response:
        return api.content(request.match_info["id"])

    return [web.get("/v1/files/{id}/content", content), web.delete("/v1/files/{id}", deleting(api))]


def _batches(
    api: BatchApi, path: str, shown: Any, *, cancel: str = "/cancel", cancelled: Batch | None = None
) -> list[web.RouteDef]:
    async def poll(request: web.Request) -> web.Response:
        api.event("poll")
        return web.json_response(shown(api.look(request.match_info["id"])))

    async def stop(request: web.Request) -> web.Response:
        api.event("cancel")
        batch = api.cancel(request.match_info["id"])
        return web.json_response(shown(batch) if cancelled is None else cancelled)

    return [web.get(path, poll), web.post(path + cancel, stop), web.delete(path, deleting(api))]
