"""One provider: a body goes out, a whole answer comes back, or a `CallError`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from pipeline import __version__
from pipeline.errors import CallError, ErrorKind
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transport.deadlines import Deadlines
from pipeline.transport.exchange import Exchange
from pipeline.transport.reading import whole

_USER_AGENT: Final = f"rowroute/{__version__}"
_CONNECT_S: Final = 10.0
_FILE_TIMEOUT: Final = aiohttp.ClientTimeout(total=3600, sock_connect=_CONNECT_S, sock_read=300)


class Endpoint:
    """One provider's base URL with its headers. Make it inside the event loop; it lasts as long as its connections."""

    def __init__(
        self, connections: aiohttp.TCPConnector, base_url: URL, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._base = str(base_url)
        self._deadlines = Deadlines(timeout_s)
        connect_s = min(_CONNECT_S, timeout_s)
        # The key lives in these headers only; an aiohttp error that carries them never leaves this module.
        fields = CIMultiDict({"Accept": "*/*", "Accept-Encoding": "gzip", "User-Agent": _USER_AGENT})
        fields.update(headers)
        self._exchange = Exchange(connections, self._base, fields, connect_s)
        # For files, which are too large to be held in memory. Proxies and .netrc of the environment are ignored: a key
        # goes to the host it was given for, and nowhere else.
        self._session = aiohttp.ClientSession(
            connector=connections,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            headers=fields,
            auto_decompress=False,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* and return the whole answer, whatever its status.

        Raises:
            CallError: TRANSPORT or TIMEOUT when no whole answer came, BAD_BODY when it is too large.
        """
        with _as_call_errors():
            return await self._deadlines.keep(self._exchange(request.method, request.path, request.body))

    async def send_file(self, path: str, file: Path, content_type: str) -> HttpResponse:
        """POST the content of *file*, however large, and return the whole answer. Raises CallError like `send`."""
        headers = {"content-type": content_type}
        with _as_call_errors(), file.open("rb") as body:
            async with self._session.post(
                URL(self._base + path), data=body, headers=headers, timeout=_FILE_TIMEOUT, allow_redirects=False
            ) as response:
                return await whole(response.status, response.headers, response.content)

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
                    return await whole(response.status, response.headers, response.content)
                with file.open("wb") as target:
                    async for part in response.content.iter_any():
                        target.write(part)
                return HttpResponse(response.status, response.headers, b"")


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
    except (aiohttp.ClientError, HttpProcessingError, ConnectionError) as error:
        # Its text may hold the URL and the headers, so only its type is told.
        raise CallError(ErrorKind.TRANSPORT, type(error).__name__, maybe_paid=True) from None
