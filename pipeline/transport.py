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
from multidict import CIMultiDict
from yarl import URL

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.records import HttpRequest, HttpResponse

MAX_BODY_BYTES: Final = 16 << 20  # unpacked; a gzip bomb is cut off here
_TOO_LARGE: Final = f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB"
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_CONNECT_S: Final = 10.0
_FILE_TIMEOUT: Final = aiohttp.ClientTimeout(total=3600, sock_connect=_CONNECT_S, sock_read=300)
_SPARE_FILES: Final = 100  # descriptors kept for the ledger, the spool and the log


@asynccontextmanager
async def open_session(max_connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Open one connection pool for the length of a run."""
    connector = aiohttp.TCPConnector(limit=max_connections, ttl_dns_cache=300)
    # Proxies and .netrc of the environment are ignored: a key goes to the host it was given for, and nowhere else.
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # Unpacked here, where no more is unpacked than may be kept.
        headers={"Accept-Encoding": "gzip"},
        auto_decompress=False,
    ) as session:
        yield session


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
    """One provider's base URL with its headers."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: URL, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._session = session
        self._base = str(base_url)
        self._urls: dict[str, URL] = {}
        # The key lives in these headers only; an aiohttp error that carries them never leaves this module.
        self._headers = CIMultiDict(headers)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(_CONNECT_S, timeout_s))

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* and return the whole answer, whatever its status.

        Raises:
            CallError: TRANSPORT or TIMEOUT when no whole answer came, BAD_BODY when it is too large.
        """
        url = self._urls.get(request.path) or self._url(request.path)
        with _as_call_errors():
            async with self._session.request(
                request.method,
                url,
                data=request.body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return await _whole(response)

    async def send_file(self, path: str, file: Path, headers: Mapping[str, str], *, root: str = "") -> HttpResponse:
        """POST the content of *file*, however large, and return the whole answer.

        *root* goes before the path of the base URL: uploads have a tree of their own at some providers.

        Raises:
            CallError: like `send`.
        """
        url = URL(self._base + path)
        sent = CIMultiDict(self._headers)
        sent.update(headers)
        with _as_call_errors(), file.open("rb") as body:
            async with self._session.post(
                url.with_path(root + url.path) if root else url,
                data=body,
                headers=sent,
                timeout=_FILE_TIMEOUT,
                allow_redirects=False,
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
                headers={**self._headers, "Accept-Encoding": "identity"},
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
