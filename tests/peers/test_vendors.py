"""What is sent and what is read, held against the types of the vendors' own packages. Nothing goes over the wire."""

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers import find_adapter
from pipeline.records import Model, Parameters
from tests.builders import a_request
from tests.peers.servers import PLACE

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
ADAPTERS = ("openai", "azure", "openai-responses", "anthropic", "anthropic-2026-10-21", "gemini")
SHOTS = json.dumps(
    [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "c"}]},
    ]
)
ROWS: dict[str, dict[str, Any]] = {
    "plain": {"user": "u"},
    "system": {"user": "u", "system": "s"},
    "url": {"user": "u", "image": "https://example.org/a.png"},
    "data": {"user": "u", "image": "data:image/png;base64,AAAA"},
    "turns": {"messages": SHOTS},
}
FREE = Parameters(64, 0.5)
SCHEMA = '{"type":"object","properties":{"b":{"type":"string"}},"required":["b"],"additionalProperties":false}'
FORMS = {"free": FREE, "schema": FREE._replace(schema=SCHEMA), "choices": FREE._replace(choices=("x", "y"))}
# Kept as they are sent, though the vendor's own types know neither the finish reasons nor the parts of others.
OTHERS = ("deepseek_", "glm_", "gateway_", "mistral_")


Case = tuple[str, str, str, Any]  # adapter, request or answer, name, body


def requests() -> Iterator[Case]:
    """Yield every kind of row in every form, for each way to ask for a form."""
    for name, form in itertools.product(ADAPTERS, (None, True, "bare", "object", False, "tool")):
        if form == "tool" and not name.startswith("anthropic"):
            continue
        model = Model("m", "p", 1000, (), options={"json_schema": form})
        for (row, fields), (wanted, parameters) in itertools.product(ROWS.items(), FORMS.items()):
            sent = find_adapter(name).encode(a_request(**fields), model, parameters)
            yield name, "request", f"{form} {row} {wanted}", json.loads(sent.body)


def answers() -> Iterator[Case]:
    """Yield the golden bodies that are read as answers of the vendor."""
    for path in sorted(GOLDEN.glob("*/*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        if "answer" in case["expected"] and isinstance(case["body"], dict) and not path.stem.startswith(OTHERS):
            yield path.parent.name, "answer", path.stem, case["body"]


def test_requests_and_golden_answers_are_what_the_vendors_types_allow() -> None:
    """What we send, and what the tests take for answers, is what the vendors' own packages have types for."""
    python = PLACE / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip(
            "the vendors' packages are not installed: `make peers` could not reach their registry, or was not run"
        )
    cases = [*requests(), *answers()]

    done = subprocess.run(
        [str(python), str(HERE / "vendor_types.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-1000:]
    assert json.loads(done.stdout) == []
    assert len(cases) > 500
