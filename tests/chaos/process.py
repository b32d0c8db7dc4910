"""The chaos server as a process of its own: it and its log outlive a client that is killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from .log import Exchange, read_log

_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 20.0
_STOP_S: Final = 10.0


class ServerProcess(NamedTuple):
    """A server that runs."""

    base_url: str
    log_path: Path
    pid: int

    def exchanges(self) -> list[Exchange]:
        """Return every request so far, in order of arrival."""
        return read_log(self.log_path)


@contextmanager
def server_process(folder: Path, script: Mapping[str, Any]) -> Iterator[ServerProcess]:
    """Run a server with *script* (data) in a process; `script.json`, `port` and `server.jsonl` are put into *folder*.

    Raises:
        ValueError: when it does not come up, with what it said.
    """
    script_path, log_path, port_path = folder / "script.json", folder / "server.jsonl", folder / "port"
    script_path.write_text(json.dumps(script))
    port_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.chaos.server"]
    command += ["--port-file", str(port_path), "--log", str(log_path), "--script", str(script_path)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = _wait_for_port(process, port_path)
            yield ServerProcess(f"http://127.0.0.1:{port}/v1", log_path, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_port(process: subprocess.Popen[str], port_path: Path) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if port_path.exists():
            return int(port_path.read_text())
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    raise ValueError(f"the chaos server did not start: {process.communicate()[1]}")
