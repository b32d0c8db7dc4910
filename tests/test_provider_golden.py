"""Bodies as providers send them, in tests/golden, one folder a dialect: each gives what is written beside it."""

import json
from pathlib import Path

import pytest

from pipeline.errors import CallError
from pipeline.providers import find_adapter
from pipeline.records import HttpResponse

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*/*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_bodies_decode_as_written_beside_them(path: Path) -> None:
    """Every body in the shape of a provider's gives exactly the answer or the error that stands beside it."""
    case = json.loads(path.read_text(encoding="utf-8"))
    adapter = find_adapter(path.parent.name)
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    response = HttpResponse(case["status"], case["headers"], body.encode())

    if "error" in case["expected"]:
        with pytest.raises(CallError) as caught:
            adapter.decode(response)
        error = caught.value
        assert {key: getattr(error, key) for key in case["expected"]["error"]} == case["expected"]["error"]
        assert "CANARY" not in str(error)
    else:
        answer = adapter.decode(response)._asdict()
        answer["usage"] = answer["usage"] and answer["usage"]._asdict()
        assert answer == case["expected"]["answer"]


def test_every_dialect_has_golden_bodies() -> None:
    """No folder of tests/golden is empty, and none is missing but that of the second version of a dialect."""
    assert {path.parent.name for path in CASES} == {"anthropic", "azure", "gemini", "openai", "openai-responses"}
