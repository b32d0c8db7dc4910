"""The question after an answer of a wrong form."""

import json
from typing import Any

import pytest

from pipeline.records import Parameters
from pipeline.repair import repair
from tests.builders import a_request

SCHEMA = Parameters(64, schema='{"type": "object"}')
CHOICES = Parameters(64, choices=("yes", "no"))


def turns(request: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(request.messages)
    return messages


def test_a_repair_shows_the_answer_and_what_is_wrong_with_it() -> None:
    """The first question, the answer and the complaint are turns of one dialogue, under the id of the row."""
    request = a_request(user="u", system="s", image="https://example.org/a.png", input_tokens=10)

    again = repair(request, "maybe", "'maybe' is not one of the 2 choices", CHOICES)

    told = "That answer can't be used: 'maybe' is not one of the 2 choices. Answer again with exactly one of these and nothing else: yes, no."
    assert turns(again) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "maybe"},
        {"role": "user", "content": told},
    ]
    assert (again.request_id, again.image) == (request.request_id, request.image)
    assert again.input_tokens == 10 + len("maybe" + told) // 3


def test_ready_messages_go_on() -> None:
    """A list of messages of the user's gets two more."""
    ready = [{"role": "user", "content": [{"type": "text", "text": "u"}]}]

    again = repair(a_request(messages=json.dumps(ready)), "{}", "answer.a is missing", SCHEMA)

    assert turns(again)[:2] == [*ready, {"role": "assistant", "content": "{}"}]
    assert turns(again)[2]["content"].endswith("Answer again with JSON alone that matches the schema.")


@pytest.mark.parametrize("text", ["x" * 100_000, "a\ud800b"])
def test_any_answer_can_be_shown(text: str) -> None:
    """A runaway answer is shown in part, and an odd one does not break the question."""
    again = repair(a_request(user="u"), text.encode("utf-8", "replace").decode(), "p", SCHEMA)

    assert len(turns(again)[1]["content"]) <= 4000
