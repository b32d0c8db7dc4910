"""JSON fields: the share of fields that are right."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from pipeline.scorers.contract import Score, quoted

_FENCE = re.compile(r"\A```[a-zA-Z]*\n(.*)\n```\Z", re.DOTALL)
_Path = tuple[str | int, ...]


def score(answer: str, reference: Any) -> Score:
    """Return the share of fields on which *answer* and *reference* agree, of all fields that either has.

    A field is a leaf, at whatever depth. A missing field counts as wrong, and so does one too many; null is absent.
    Numbers compare by value, texts without white space at their ends. A code fence around the answer is taken off.
    The reference is JSON text or a value (a struct or list column).
    """
    right = _fields(_parsed_reference(reference))
    try:
        found = _fields(_parsed(_FENCE.sub(r"\1", answer.strip())))
    except (ValueError, RecursionError):
        return Score(0.0, "the answer is not JSON")
    paths = right.keys() | found.keys()
    wrong = sorted(_name(path) for path in paths if right.get(path) != found.get(path))
    if not wrong:
        return Score(1.0, f"all {len(paths)} fields are right")
    return Score(1 - len(wrong) / len(paths), f"{len(wrong)} of {len(paths)} fields differ: {', '.join(wrong[:5])}")


def _parsed_reference(reference: Any) -> Any:
    try:
        return _parsed(reference) if isinstance(reference, str) else reference
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the reference {quoted(str(reference))} is not JSON") from error


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _fields(value: Any) -> dict[_Path, tuple[str, Any]]:
    return dict(_leaves(value, ()))


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, tuple[str, Any]]]:
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _leaves(item, (*path, key))
        case list() if value:
            for index, item in enumerate(value):
                yield from _leaves(item, (*path, index))
        case None:
            return
        case bool():
            yield path, ("boolean", value)  # in Python, true would equal 1
        case int() | float() | Decimal():
            yield path, ("number", Decimal(str(value)))
        case _:
            yield path, ("text", str(value).strip())


def _name(path: _Path) -> str:
    return quoted(".".join(map(str, path)) or "(all)")[1:-1]
