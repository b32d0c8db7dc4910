"""A chat-completions server on loopback that answers at once, or with latency, or within limits.

It is meant to cost less than any client: one asyncio protocol on uvloop, bodies by content length only. The answer
echoes the mark `[#123]` of a prompt, so that a client can prove whose answer it has. `GET /stats` returns counters,
`POST /reset` zeroes them and fills the buckets.

    python -m benchmarks.server --latency-ms 500 --rpm 3000 --tpm 240000 --bucket-s 1

prints the base URL and serves until its standard input ends.
"""

import argparse
import asyncio
import json
import math
import re
import sys
import time
from http import HTTPStatus
from typing import Any, cast

import uvloop

CHARS_PER_TOKEN = 4
OUTPUT_TOKENS = 60
WARM_S = 2.0  # after the first request; what comes later is counted once more, as `steady`
_MODEL = re.compile(rb'"model":\s*"([^"\\]*)"')
_MARK = re.compile(rb"\[#\d+\]")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_ANSWER = (
    b'{"id":"chatcmpl-%016x","object":"chat.completion","created":1790000000,"model":"%b","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%b The request was handled by a local test server, and this sentence '
    b'stands in for an answer of ordinary length, so that reading it costs what reading a short answer costs.",'
    b'"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
    b'"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,'
    b'"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_44709d6fcb"}'
)
_REFUSAL = (
    b'{"error":{"message":"Rate limit reached for %b: please try again in %dms.","type":"%b","param":null,'
    b'"code":"rate_limit_exceeded"}}'
)


class Bucket:
    """A token bucket: *per_min* units a minute, of which *depth_s* seconds' worth may be taken at once."""

    def __init__(self, per_min: float, depth_s: float) -> None:
        self.rate = per_min / 60
        self.depth = max(1.0, self.rate * depth_s)
        self.level = self.depth
        self.at = time.monotonic()

    def wait_s(self, amount: float) -> float:
        """Return how long *amount* is not there yet; more than the bucket holds waits for a full one."""
        now = time.monotonic()
        self.level = min(self.depth, self.level + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (min(amount, self.depth) - self.level) / self.rate)


class Quota:
    """Requests and tokens a minute of one model."""

    def __init__(self, rpm: float, tpm: float, depth_s: float) -> None:
        self.requests = Bucket(rpm, depth_s) if rpm else None
        self.tokens = Bucket(tpm, depth_s) if tpm else None

    def take(self, tokens: int) -> tuple[float, bytes]:
        """Take one request of *tokens* tokens, or return the seconds to wait and what is short."""
        for_request = self.requests.wait_s(1) if self.requests else 0.0
        for_tokens = self.tokens.wait_s(tokens) if self.tokens else 0.0
        if for_request or for_tokens:
            return max(for_request, for_tokens), b"tokens" if for_tokens > for_request else b"requests"
        if self.requests:
            self.requests.level -= 1
        if self.tokens:
            self.tokens.level -= tokens
        return 0.0, b""

    def headers(self) -> bytes:
        """Return the limits as a provider tells them."""
        told = b""
        for name, bucket in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if bucket:
                reset_ms = math.ceil((bucket.depth - bucket.level) / bucket.rate * 1000)
                told += b"x-ratelimit-limit-%b: %d\r\n" % (name, round(bucket.rate * 60))
                told += b"x-ratelimit-remaining-%b: %d\r\n" % (name, max(0, int(bucket.level)))
                told += b"x-ratelimit-reset-%b: %dms\r\n" % (name, reset_ms)
        return told


class Service:
    """What all connections share: options, quotas by model, counters."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.limited = bool(options.rpm or options.tpm)
        self.latency_s = options.latency_ms / 1000
        self.refusal_s = options.refusal_ms / 1000
        self.connections = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.quotas: dict[bytes, Quota] = {}
        self.requests = self.answered = self.refused = self.in_flight = self.most_in_flight = self.tokens = 0
        self.first_at = self.last_at = 0.0
        self.steady = {"answered": 0, "refused": 0, "tokens": 0}

    def stats(self) -> dict[str, Any]:
        """Return what was counted since the start or the last reset; `span_s` is from first request to last answer."""
        names = ("requests", "answered", "refused", "most_in_flight", "tokens", "connections")
        span_s = max(0.0, self.last_at - self.first_at)
        steady = {**self.steady, "span_s": max(0.0, span_s - WARM_S)}
        return {name: getattr(self, name) for name in names} | {"span_s": span_s, "steady": steady}

    def count_steady(self, **counts: int) -> None:
        """Count what comes when the client has warmed up."""
        if time.monotonic() - self.first_at >= WARM_S:
            for name, count in counts.items():
                self.steady[name] += count

    def complete(self, body: bytes) -> tuple[bytes, float]:
        """Return the response to a chat completion, and after how many seconds to send it."""
        found = _MODEL.search(body)
        model = found[1] if found else b"none"
        prompt_tokens = len(body) // CHARS_PER_TOKEN
        total = prompt_tokens + OUTPUT_TOKENS
        self.first_at = self.first_at or time.monotonic()
        self.requests += 1
        limits = b""
        if self.limited:
            options = self.options
            quota = self.quotas.get(model) or self.quotas.setdefault(
                model, Quota(options.rpm, options.tpm, options.bucket_s)
            )
            wait_s, short = quota.take(total)
            limits = quota.headers()
            if wait_s:
                self.refused += 1
                self.count_steady(refused=1)
                told = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (math.ceil(wait_s), math.ceil(wait_s * 1000))
                refusal = _REFUSAL % (model, math.ceil(wait_s * 1000), short)
                return respond(HTTPStatus.TOO_MANY_REQUESTS, refusal, limits + told), self.refusal_s
        self.answered += 1
        self.tokens += total
        self.count_steady(answered=1, tokens=total)
        marked = _MARK.search(body)
        answer = _ANSWER % (
            self.requests, model, marked[0] if marked else b"", prompt_tokens, OUTPUT_TOKENS, total
        )  # fmt: skip
        return respond(HTTPStatus.OK, answer, limits), self.latency_s


def respond(status: HTTPStatus, body: bytes, headers: bytes = b"") -> bytes:
    """Return a whole HTTP response."""
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status, status.phrase.encode(), len(body), headers, body,
    )  # fmt: skip


class Connection(asyncio.Protocol):
    """One client connection, with one request at a time."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self.transport = cast(asyncio.Transport, transport)
        self.service.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self.buffer = data = self.buffer + data if self.buffer else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, end)
            end += 4
            whole = end + (int(length[1]) if length else 0)
            if len(data) < whole:
                return
            self.handle(data[: data.find(b"\r")], data[end:whole])
            self.buffer = data = data[whole:]

    def handle(self, line: bytes, body: bytes) -> None:
        """Answer one request, now or later."""
        service = self.service
        if b"/chat/completions" in line:
            response, delay_s = service.complete(body)
            service.in_flight += 1
            service.most_in_flight = max(service.most_in_flight, service.in_flight)
            if delay_s:
                asyncio.get_running_loop().call_later(delay_s, self.send, response)
            else:
                self.send(response)
        elif line.startswith(b"GET /stats"):
            self.transport.write(respond(HTTPStatus.OK, json.dumps(service.stats()).encode()))
        elif line.startswith(b"POST /reset"):
            service.reset()
            self.transport.write(respond(HTTPStatus.OK, b"{}"))
        else:
            self.transport.write(respond(HTTPStatus.NOT_FOUND, b'{"error":{"message":"no such path"}}'))

    def send(self, response: bytes) -> None:
        """Send the answer, if anybody still waits for it."""
        self.service.in_flight -= 1
        self.service.last_at = time.monotonic()
        if not self.transport.is_closing():
            self.transport.write(response)


async def serve(options: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    service = Service(options)
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", options.port, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--refusal-ms", type=float, default=0, help="latency of an answer 429")
    parser.add_argument("--rpm", type=float, default=0, help="requests a minute for each model; 0: no limit")
    parser.add_argument("--tpm", type=float, default=0, help="tokens a minute for each model; 0: no limit")
    parser.add_argument("--bucket-s", type=float, default=1, help="how many seconds' worth may come at once")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
