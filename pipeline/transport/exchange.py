"""One request and its answer over a connection of aiohttp's pool, without the objects that a session makes for each.

What a session does for a request costs 60 microseconds, this 20 (decision 0004). The pool, TLS, the look-up of names
and the parser of answers are aiohttp's; only the lines before the body are written here.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from pipeline.records import HttpResponse
from pipeline.transport.reading import whole


class Exchange:
    """Sends requests below *base*, all with the same *headers*, which `check_headers` has seen.

    Make it inside the event loop.
    """

    def __init__(
        self, connections: aiohttp.TCPConnector, base: str, headers: Mapping[str, str], connect_s: float
    ) -> None:
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        # Where the connections of all requests go to.
        self._target = aiohttp.ClientRequest("GET", URL(base), loop=asyncio.get_running_loop())
        self._base = base
        fields = CIMultiDict({"Host": self._target.headers["Host"]})
        fields.update(headers)
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
        self._head = lru_cache(maxsize=64)(self._new_head)  # a job has one path a model

    async def __call__(self, method: str, path: str, body: bytes) -> HttpResponse:
        """Send *body* to *path* and return the whole answer, whatever its status.

        Raises:
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, ConnectionError, TimeoutError: when none came.
            CallError: BAD_BODY when it is too large.
        """
        length = b"Content-Length: %d\r\n\r\n" % len(body) if body or method == "POST" else b"\r\n"
        connection, protocol = await self._connect()
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            assert protocol.transport is not None
            protocol.transport.writelines((self._head(method, path), length, body))
            message, content = await protocol.read()
            while message.code < HTTPStatus.OK and message.code != HTTPStatus.SWITCHING_PROTOCOLS:
                message, content = await protocol.read()  # 1xx: the answer is still to come
            response = await whole(message.code, message.headers, content)
        except BaseException:
            # What is still to come on this connection must not be taken for the answer to another request.
            connection.close()
            raise
        connection.release()
        return response

    async def _connect(self) -> tuple[Connection, ResponseHandler]:
        """Return a connection on which nothing has come that nobody asked for."""
        for _ in range(self._connections.limit + 1):  # each that is kept may be spoilt, and a new one too
            connection = await self._connections.connect(self._target, [], self._timeout)
            protocol = connection.protocol
            if protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection, protocol
            connection.close()
        raise aiohttp.ClientConnectionResetError("answers before it is asked")

    def _new_head(self, method: str, path: str) -> bytes:
        return f"{method} {URL(self._base + path).raw_path_qs} HTTP/1.1\r\n".encode("ascii") + self._fields
