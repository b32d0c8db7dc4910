"""The only module that opens a connection: a body goes out, a whole answer comes back, or a `CallError`."""

import resource
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from pipeline.deadlines import Deadlines
from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.records import HttpRequest, HttpResponse

MAX_BODY_BYTES: Final = 16 << 20  # unpacked; a gzip bomb is cut off here
_TOO_LARGE: Final = f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB"
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_CONNECT_S: Final = 10.0
_FILE_TIMEOUT: Final = aiohttp.ClientTimeout(total=3600, sock_connect=_CONNECT_S, sock_read=300)
_SPARE_FILES: Final = 100  # descriptors kept for the ledger, the spool and the log


@asynccontextmanager
async def open_connections(most: int) -> AsyncIterator[aiohttp.TCPConnector]:
    """Open a pool of at most so many connections for the length of a run."""
    connections = aiohttp.TCPConnector(limit=most, ttl_dns_cache=300)
    async with connections:
        yield connections


def connection_limit(wanted: int) -> int:
    """Return how many connections may be open at once: *wanted*, or fewer where the file limit does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted + _SPARE_FILES > soft:
        soft = min(wanted + _SPARE_FILES, hard) if hard != resource.RLIM_INFINITY else wanted + _SPARE_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - _SPARE_FILES))


def check_base_url(where: str, base_url: str) -> URL:
    """Return *base_url* as a URL.

    Raises:
        JobError: unless it is https, or http to this machine; or when it points into the link-local network.
    """
    try:
        url = URL(base_url.rstrip("/"))
        (url.host or "").encode("idna")  # as the look-up of its address will
    except ValueError as error:
        raise JobError(f"{where}: {base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise JobError(f"{where}: {base_url!r} is not an http(s) URL, as in https://api.openai.com/v1")
    if url.user or url.password or url.query_string:
        raise JobError(f"{where}: base_url must hold no user, password or query; keys come from key_env")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise JobError(f"{where}: {base_url!r} would send prompts and key in the clear; use https")
    if _is_link_local(url.host):
        raise JobError(f"{where}: {base_url!r} is a link-local address, where machine credentials are served")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_link_local(host: str) -> bool:
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False


class Endpoint:
    """One provider's base URL with its headers. Make it inside the event loop; it lasts as long as its connections."""

    def __init__(
        self, connections: aiohttp.TCPConnector, base_url: URL, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._base = str(base_url)
        self._urls: dict[str, URL] = {}
        self._deadlines = Deadlines(timeout_s)
        # Each endpoint has a session of its own, which alone holds the key, in its headers; an aiohttp error that
        # carries them never leaves this module. Proxies and .netrc of the environment are ignored: a key goes to the
        # host it was given for, and nowhere else.
        self._session = aiohttp.ClientSession(
            connector=connections,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT_S, timeout_s)),
            # Unpacked here, where no more is unpacked than may be kept.
            headers={"Accept-Encoding": "gzip", **headers},
            auto_decompress=False,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* and return the whole answer, whatever its status.

        Raises:
            CallError: TRANSPORT or TIMEOUT when no whole answer came, BAD_BODY when it is too large.
        """
        with _as_call_errors():
            return await self._deadlines.keep(self._exchange(request))

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        response = await self._session.request(
            request.method,
            self._urls.get(request.path) or self._url(request.path),
            data=request.body,
            allow_redirects=False,
        )
        try:
            return await _whole(response)
        finally:
            response.release()  # which closes the connection where the answer did not end

    async def send_file(self, path: str, file: Path, content_type: str) -> HttpResponse:
        """POST the content of *file*, however large, and return the whole answer. Raises CallError like `send`."""
        headers = {"content-type": content_type}
        with _as_call_errors(), file.open("rb") as body:
            async with self._session.post(
                URL(self._base + path), data=body, headers=headers, timeout=_FILE_TIMEOUT, allow_redirects=False
            ) as response:
                return await _whole(response)

    async def download(self, request: HttpRequest, file: Path) -> HttpResponse:
        """Write the answer to *file*, as it comes, and return it without its body; one with an error status as `send`.

        Raises:
            CallError: like `send`.
        """
        with _as_call_errors():
            async with self._session.get(
                URL(self._base + request.path),
                # A size nobody bounds is not unpacked: it comes as it is.
                headers={"Accept-Encoding": "identity"},
                timeout=_FILE_TIMEOUT,
                allow_redirects=False,
            ) as response:
                if response.status != HTTPStatus.OK:
                    return await _whole(response)
                with file.open("wb") as target:
                    async for part in response.content.iter_any():
                        target.write(part)
                return HttpResponse(response.status, response.headers, b"")

    def _url(self, path: str) -> URL:
        url = self._urls[path] = URL(self._base + path)
        return url


@contextmanager
def _as_call_errors() -> Iterator[None]:
    """Turn what a connection can die of into CallError."""
    try:
        yield
    except TimeoutError:
        raise CallError(ErrorKind.TIMEOUT, "no whole answer in time", maybe_paid=True) from None
    except aiohttp.ClientConnectorError as error:
        raise CallError(ErrorKind.TRANSPORT, f"no connection: {error.os_error}") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise CallError(ErrorKind.CONFIG, "the URL can't be used") from None
    except (aiohttp.ClientError, ConnectionError) as error:
        # Its text may hold the URL and the headers, so only its type is told.
        raise CallError(ErrorKind.TRANSPORT, type(error).__name__, maybe_paid=True) from None


async def _whole(response: aiohttp.ClientResponse) -> HttpResponse:
    body = await _read(response.content)
    if body and response.headers.get("Content-Encoding", "").lower() in _PACKED:
        body = _unpacked(body)
    return HttpResponse(response.status, response.headers, body)


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = await content.readany()
    if content.at_eof():
        return body
    parts, size = [body], len(body)
    while not content.at_eof():
        part = await content.readany()
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _bad_body(_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    try:
        plain = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise _bad_body("the answer can't be unpacked") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _bad_body(_TOO_LARGE)
    if not unpacker.eof or unpacker.unused_data:
        raise _bad_body("the answer can't be unpacked")
    return plain


def _bad_body(problem: str) -> CallError:
    return CallError(ErrorKind.BAD_BODY, problem, status=HTTPStatus.OK, maybe_paid=True)
