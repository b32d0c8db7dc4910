"""The question after an answer of a wrong form: the same one, with that answer and what is wrong with it."""

from typing import Any

import msgspec

from pipeline.records import Parameters, Request

_LONGEST_ANSWER_CHARS = 4000  # enough to see a mistake in; all of a runaway answer would only cost more
_BYTES_PER_TOKEN = 3


def repair(request: Request, answer: str, problem: str, parameters: Parameters) -> Request:
    """Return *request* with *answer* as the model's turn and one more of the user's, which tells the *problem*.

    A picture goes along, after the last turn. The id stays: it is still the same row that is asked.
    """
    turns: list[dict[str, Any]] = []
    if request.messages is not None:
        turns = msgspec.json.decode(request.messages)
    else:
        if request.system is not None:
            turns.append({"role": "system", "content": request.system})
        turns.append({"role": "user", "content": request.user})
    shown, told = answer[:_LONGEST_ANSWER_CHARS], _told(problem, parameters)
    turns += [{"role": "assistant", "content": shown}, {"role": "user", "content": told}]
    more = len((shown + told).encode("utf-8", "replace")) // _BYTES_PER_TOKEN
    messages = msgspec.json.encode(turns).decode()
    return request._replace(messages=messages, input_tokens=request.input_tokens + more)


def _told(problem: str, parameters: Parameters) -> str:
    if parameters.choices:
        form = f"exactly one of these and nothing else: {', '.join(parameters.choices)}"
    else:
        form = "JSON alone that matches the schema"
    return f"That answer can't be used: {problem}. Answer again with {form}."
