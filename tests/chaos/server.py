"""A loopback server that speaks the OpenAI chat dialect and misbehaves by script.

In a test::

    async with serve({"rules": [{"when": {"nth": [1]}, "do": {"status": 503}}]}) as server:
        ...  # server.base_url, server.log.exchanges()

As a process, whose log outlives the client (see `process.py`)::

    python -m tests.chaos.server --port-file F --log FILE.jsonl --script S.json
"""

import argparse
import asyncio
import functools
import itertools
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from .faults import WHOLE, Fault, Outgoing, Wire, perform
from .log import open_log
from .provider import Provider, Turn
from .script import Script, load_script
from .wire import BadRequestError, render_head, take_request

_GOOD: Final = Script()


class _Connection(asyncio.Protocol):
    """One client: its requests are answered one after the other."""

    _numbers = itertools.count(1)

    def __init__(self, provider: Provider, group: asyncio.TaskGroup, connections: "set[_Connection]") -> None:
        self._provider = provider
        self._group = group
        self._connections = connections
        self._number = next(self._numbers)
        self._buffer = bytearray()
        self._busy: asyncio.Task[str] | None = None
        self._cut_off_by = "gone"  # the client, until we stop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        self._wire = Wire(self._transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._busy is not None:
            self._busy.cancel()

    def pause_writing(self) -> None:
        self._wire.pause()

    def resume_writing(self) -> None:
        self._wire.resume()

    def stop(self) -> None:
        """End the connection and whatever is under way on it."""
        self._cut_off_by = "stopped"
        if self._busy is not None:
            self._busy.cancel()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._answer_next()

    def _answer_next(self) -> None:
        try:
            while self._busy is None and not self._transport.is_closing() and (request := take_request(self._buffer)):
                self._answer(self._provider.take(request, self._number))
        except BadRequestError:
            self._wire.write(render_head(400, [("content-length", "0"), ("connection", "close")]))
            self._transport.close()

    def _answer(self, turn: Turn) -> None:
        self._wire.sent_bytes = self._wire.status = 0
        if turn.latency_s == 0 and turn.do.fault is Fault.NONE and turn.do.body is None:
            out = _outgoing(turn)
            self._wire.status = out.status
            self._wire.write(out.plain_head() + out.body)
            self._provider.finish(turn, self._wire, "whole")
            return
        self._busy = self._group.create_task(self._perform(turn))
        self._busy.add_done_callback(functools.partial(self._performed, turn))

    async def _perform(self, turn: Turn) -> str:
        await asyncio.sleep(turn.latency_s)
        await perform(turn.do.fault, self._wire, _outgoing(turn))
        return "whole" if turn.do.fault in WHOLE else "partial"

    def _performed(self, turn: Turn, task: asyncio.Task[str]) -> None:
        # Not in the task: one that is cancelled before its first step would leave no line in the log.
        self._busy = None
        if task.cancelled():
            self._provider.finish(turn, self._wire, self._cut_off_by)
        elif task.exception() is None:
            self._provider.finish(turn, self._wire, task.result())
            self._answer_next()


def _outgoing(turn: Turn) -> Outgoing:
    reply = turn.reply
    headers = (("content-type", reply.content_type), ("x-request-id", f"req-{turn.n}"), *reply.headers, *turn.headers)
    return Outgoing(reply.status, headers, reply.body, turn.do.step_s, turn.do.duration_s)


class ChaosServer:
    """A running server."""

    def __init__(self, port: int, provider: Provider) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.log = provider.log
        self._provider = provider

    def play(self, script: Script | Mapping[str, Any] | Path) -> None:
        """Follow another script from now on; counts of requests and marks go on."""
        self._provider.play(load_script(script))


@asynccontextmanager
async def serve(
    script: Script | Mapping[str, Any] | Path = _GOOD, *, log_path: Path | None = None
) -> AsyncIterator[ChaosServer]:
    """Serve *script* on a free loopback port; the log is kept in memory unless *log_path* is given.

    Raises:
        ValueError: when the script is wrong.
    """
    connections: set[_Connection] = set()
    with open_log(log_path) as log:
        provider = Provider(load_script(script), log)
        async with asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(
                lambda: _Connection(provider, group, connections), "127.0.0.1", 0, backlog=4096
            )
            try:
                yield ChaosServer(listener.sockets[0].getsockname()[1], provider)
            finally:
                listener.close()
                for connection in list(connections):
                    connection.stop()


async def _run(script: Path, log_path: Path, port_path: Path) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(script, log_path=log_path) as server:
        partial = port_path.with_suffix(".partial")
        partial.write_text(str(server.port))
        partial.replace(port_path)  # whoever waits for the file finds the whole number in it
        await stop.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server that misbehaves by script.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port, once it listens")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, appended")
    parser.add_argument("--script", type=Path, required=True, help="JSON, see tests/chaos/script.py")
    arguments = parser.parse_args()
    uvloop.run(_run(arguments.script, arguments.log, arguments.port_file))


if __name__ == "__main__":
    main()
