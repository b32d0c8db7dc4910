"""Servers that others wrote, started on a free port of this machine and stopped again."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# Where `make peers` puts what it installs.
PLACE = Path(os.environ.get("ROWROUTE_PEERS", Path(__file__).parents[2] / ".peers"))
_START_S = 20.0
_POLL_S = 0.05


@contextmanager
def llmock(folder: Path, *options: str) -> Iterator[str]:
    """Serve PyPI's llmock; yield its address. It answers with what it was asked."""
    program = PLACE / "venv" / "bin" / "llmock"
    if not program.exists():
        pytest.skip("llmock is not installed: `make peers` could not reach its registry, or was not run")
    port = _free_port()
    command = [str(program), "serve", "--host", "127.0.0.1", "--port", str(port), "--response-style", "echo"]
    with _running([*command, "--log-level", "warning", *options], folder / "llmock.log", port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def aimock(folder: Path, *options: str) -> Iterator[str]:
    """Serve npm's aimock, which answers every prompt with its fixture; yield its address."""
    script = PLACE / "npm" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    node = shutil.which("node")
    if node is None or not script.exists():
        pytest.skip(
            "aimock is not installed: `make peers` found no npm or could not reach its registry, or was not run"
        )
    fixtures = Path(__file__).parent / "fixtures.json"
    port = _free_port()
    command = [node, str(script), "--port", str(port), "--fixtures", str(fixtures), "--log-level", "warn"]
    with _running([*command, *options], folder / "aimock.log", port):
        yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], log: Path, port: int) -> Iterator[None]:
    """Run *command* for the length of the block, which begins when it listens at *port*."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _await_port(port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return
    raise AssertionError(f"no server at port {port}: {log.read_text(errors='replace')[-500:]}")
