"""The transport: whole answers, or an error that tells nothing secret."""

import asyncio
import gzip
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from aiohttp import web
from yarl import URL

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.records import HttpRequest
from pipeline.transport import MAX_BODY_BYTES, Endpoint, check_base_url, check_headers, open_connections

KEY = "sk-CANARY-transport"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(handler: Handler, *, timeout_s: float = 5) -> AsyncIterator[Endpoint]:
    """Serve *handler* at /x on loopback, with an endpoint that has a key."""
    app = web.Application()
    app.router.add_post("/x", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with open_connections(10) as connections:
            yield Endpoint(connections, URL(f"http://{host}:{port}"), {"Authorization": f"Bearer {KEY}"}, timeout_s)
    finally:
        await runner.cleanup()


async def failure(handler: Handler, *, timeout_s: float = 5) -> CallError:
    """Return what sending to *handler* raises."""
    async with endpoint(handler, timeout_s=timeout_s) as one:
        with pytest.raises(CallError) as caught:
            await one.send(HttpRequest("/x", b"{}"))
    assert KEY not in f"{caught.value!r} {caught.value}"
    return caught.value


@pytest.mark.anyio
async def test_an_answer_comes_back_whole() -> None:
    """Status, headers by lower-case name and the decompressed body come back; the key went out in its header."""

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        body = gzip.compress(await request.read() * 1000)
        return web.Response(status=418, body=body, headers={"Content-Encoding": "gzip", "X-Request-Id": "7"})

    async with endpoint(handler) as one:
        response = await one.send(HttpRequest("/x", b"abc"))
    assert (response.status, response.headers["x-request-id"], response.body) == (418, "7", b"abc" * 1000)


@pytest.mark.anyio
async def test_a_redirect_is_not_followed() -> None:
    """A 307 comes back as it is: the prompt and the key go nowhere else."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/x"})

    async with endpoint(handler) as one:
        assert (await one.send(HttpRequest("/x", b"{}"))).status == 307
    assert seen == ["/x"]


@pytest.mark.anyio
async def test_a_bomb_is_cut_off() -> None:
    """A small body that unpacks to more than the limit is refused while it is read."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(bytes(MAX_BODY_BYTES + 1)), headers={"Content-Encoding": "gzip"})

    assert (await failure(handler)).kind is ErrorKind.BAD_BODY


@pytest.mark.anyio
@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: b"no" + data, lambda data: data + b"more"])
async def test_a_packed_body_that_is_damaged_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    """A gzip body that is cut, is none, or has something behind it is no answer."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=spoil(gzip.compress(b"{}" * 1000)), headers={"Content-Encoding": "gzip"})

    error = await failure(handler)
    assert (error.kind, error.message) == (ErrorKind.BAD_BODY, "the answer can't be unpacked")


@pytest.mark.anyio
async def test_a_silent_provider_is_left_in_time() -> None:
    """An answer that does not come within the time is a timeout that may have been paid."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\n")
            await anyio.sleep(0.02)

    error = await failure(handler, timeout_s=0.1)
    assert (error.kind, error.maybe_paid) == (ErrorKind.TIMEOUT, True)


@pytest.mark.anyio
async def test_a_cut_connection_may_have_been_paid() -> None:
    """A connection that dies in the middle is a transport failure that may have been paid."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    error = await failure(handler)
    assert (error.kind, error.maybe_paid) == (ErrorKind.TRANSPORT, True)


@pytest.mark.anyio
async def test_nobody_there_is_not_paid() -> None:
    """A refused connection is a transport failure that nobody paid for."""
    async with open_connections(10) as connections:
        with pytest.raises(CallError) as caught:
            await Endpoint(connections, URL("http://127.0.0.1:1"), {}, 5).send(HttpRequest("/x", b"{}"))
    assert (caught.value.kind, caught.value.maybe_paid) == (ErrorKind.TRANSPORT, False)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"


@asynccontextmanager
async def talking(talk: Talk, *, timeout_s: float = 5) -> AsyncIterator[Endpoint]:
    """Let *talk* serve every connection, byte by byte, with an endpoint for it."""

    serving = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        async with open_connections(2) as connections:
            port = server.sockets[0].getsockname()[1]
            yield Endpoint(connections, URL(f"http://127.0.0.1:{port}/v1"), {"accept": "a/b", "X-Team": "r"}, timeout_s)
        server.close()
        await asyncio.gather(*serving)


async def next_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the lines before the body, and the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


@pytest.mark.anyio
async def test_a_request_goes_out_as_it_should() -> None:
    """The lines before the body are those of HTTP/1.1, with every header once and the path encoded."""
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await next_request(reader)
            heads.append((head, body))
            writer.write(OK + b"x")

    async with talking(talk) as one:
        await one.send(HttpRequest("/models/a b:ask?x=1", '{"é": 1}'.encode()))
        await one.send(HttpRequest("/y", b"", "POST"))
        await one.send(HttpRequest("/z", b"", "GET"))
    fields = (
        rb"Host: 127\.0\.0\.1:\d+\r\nAccept: a/b\r\nAccept-Encoding: gzip\r\nUser-Agent: rowroute/\S+\r\nX-Team: r\r\n"
    )
    for (head, body), line, length, sent in zip(
        heads,
        [rb"POST /v1/models/a%20b:ask\?x=1", b"POST /v1/y", b"GET /v1/z"],
        [b"Content-Length: 9\r\n", b"Content-Length: 0\r\n", b""],
        ['{"é": 1}'.encode(), b"", b""],
        strict=True,
    ):
        assert re.fullmatch(line + rb" HTTP/1\.1\r\n" + fields + length + b"\r\n", head, re.IGNORECASE), head
        assert body == sent


@pytest.mark.anyio
async def test_what_nobody_asked_for_is_no_answer() -> None:
    """A second answer on a connection, at once or later, is never taken for the answer to the next request."""
    late = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await next_request(reader)
            writer.write(OK + body)
            if body == b"1":
                writer.write(OK + b"!")
            if body == b"2":
                await asyncio.sleep(0.05)
                writer.write(OK + b"!")
                await writer.drain()
                late.set()

    async with talking(talk) as one:
        assert (await one.send(HttpRequest("/x", b"1"))).body == b"1"
        assert (await one.send(HttpRequest("/x", b"2"))).body == b"2"
        await late.wait()
        await asyncio.sleep(0.05)
        assert (await one.send(HttpRequest("/x", b"3"))).body == b"3"


@pytest.mark.anyio
async def test_the_answer_to_a_request_that_was_given_up_is_nobodys() -> None:
    """After a timeout or a cancellation the answer that still comes is not taken for the next one's."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await next_request(reader)
            await asyncio.sleep(0.2 if body in b"12" else 0)
            writer.write(OK + body)

    async with talking(talk, timeout_s=0.1) as one:
        with pytest.raises(CallError) as caught:
            await one.send(HttpRequest("/x", b"1"))
        assert caught.value.kind is ErrorKind.TIMEOUT
        with anyio.move_on_after(0.05):
            await one.send(HttpRequest("/x", b"2"))
        await asyncio.sleep(0.2)
        assert [(await one.send(HttpRequest("/x", body))).body for body in (b"3", b"4")] == [b"3", b"4"]


@pytest.mark.anyio
async def test_an_interim_answer_is_not_the_answer() -> None:
    """100 Continue and 103 Early Hints are passed over."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await next_request(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"x")

    async with talking(talk) as one:
        assert [(await one.send(HttpRequest("/x", b"{}"))).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 99],
    ids=["ssh", "length", "zeros"],
)
async def test_another_protocol_is_an_error(said: bytes) -> None:
    """A server that speaks no HTTP, before or after it is asked, is a failure and does not hold the run up."""

    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async def when_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(said)
        await reader.read()

    for talk in (at_once, when_asked):
        async with talking(talk, timeout_s=2) as one:
            with pytest.raises(CallError) as caught:
                await one.send(HttpRequest("/x", b"{}"))
            assert caught.value.kind is ErrorKind.TRANSPORT


@pytest.mark.anyio
async def test_a_large_body_goes_out_whole() -> None:
    """A body larger than any buffer arrives as it was."""
    body = bytes(range(256)) * (40 << 10)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, got = await next_request(reader)
        await asyncio.sleep(0.05)
        writer.write(OK + (b"y" if got == body else b"n"))
        await writer.drain()

    async with talking(talk) as one:
        assert (await one.send(HttpRequest("/x", body))).body == b"y"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"X-Team": "a\r\nAuthorization: b"}, "X-Team has a line break"),
        ({"X Team": "a"}, "'X Team' is no name"),
        ({"content-length": "3"}, "content-length is set by rowroute"),
    ],
)
def test_headers_that_can_not_be_sent_are_refused(headers: dict[str, str], told: str) -> None:
    """A header of the job that would change the request itself is refused, and its value is not told."""
    with pytest.raises(JobError, match=told) as caught:
        check_headers("providers.p.headers", headers)
    assert "Authorization" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.org/v1", "in the clear"),
        ("ftp://example.org", "is not an http"),
        ("example.org", "is not an http"),
        ("https://user:secret@example.org", "no user, password or query"),
        ("https://example.org/?key=1", "no user, password or query"),
        ("https://169.254.169.254/latest", "link-local"),
        ("https://exa mple.org:x", "not a"),
        ("https://a..b/v1", "is not a URL"),
        ("https://xn--a.example/v1", "is not a URL"),
    ],
)
def test_a_base_url_that_would_leak_is_refused(url: str, told: str) -> None:
    """Plain http to another machine, credentials in the URL and link-local addresses are refused with the reason."""
    with pytest.raises(JobError, match=told):
        check_base_url("providers.x", url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1/", "http://localhost/v1", "http://[::1]:9/v1", "https://a.example/v1"]
)
def test_a_base_url_may_be_https_or_this_machine(url: str) -> None:
    """https anywhere and http on this machine are taken, without the last slash."""
    assert not str(check_base_url("providers.x", url)).endswith("/")


def test_connections_fit_the_file_limit() -> None:
    """However many are wanted, no more are opened than the hard file limit allows."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 256));"
        "from pipeline.transport import connection_limit; print(connection_limit(50), connection_limit(2000))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "156"]
