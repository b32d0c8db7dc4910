"""The transport: whole answers, or an error that tells nothing secret."""

import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web
from yarl import URL

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.records import HttpRequest
from pipeline.transport import MAX_BODY_BYTES, Endpoint, check_base_url, open_connections

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
