"""The fields of a JSON answer as columns with types, as far as the schema of the job says them."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

_INT64 = 2**63


class AnswerColumn(NamedTuple):
    """A property of the answer and the column it goes to."""

    key: str
    field: pa.Field
    read: Callable[[Any], Any]  # a value of the property -> a value of the column, None where it has none


def answer_columns(schema: Mapping[str, Any] | None, prefix: str, taken: Iterable[str]) -> list[AnswerColumn]:
    """Return a column for each property at the root of *schema*, in its order.

    It is named *prefix* and the property, or *prefix*, `answer_` and the property where that is *taken*. Text, whole
    numbers, numbers, truth values and lists of one of them have their own types; all else is JSON text.
    """
    names = set(taken)
    properties = schema.get("properties", {}) if schema else {}
    columns = []
    for key, inner in properties.items():
        name = f"{prefix}answer_{key}" if f"{prefix}{key}" in names else f"{prefix}{key}"
        kind, read = _kind(inner)
        columns.append(AnswerColumn(key, pa.field(name, kind), read))
    return columns


def read_columns(columns: list[AnswerColumn], answers: Iterable[str | None]) -> list[pa.Array]:
    """Return the arrays of *columns* for *answers*; a row without an answer, or with a bad one, has nulls."""
    if not columns:
        return []
    objects = [_object(answer) for answer in answers]
    return [
        pa.array(
            [column.read(found[column.key]) if column.key in found else None for found in objects], column.field.type
        )
        for column in columns
    ]


def _object(answer: str | None) -> dict[str, Any]:
    try:
        value = None if answer is None else msgspec.json.decode(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _kind(schema: Any) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """Return the Arrow type of values that match *schema*, and how to read them."""
    names = _type_names(schema)
    if names == {"array"}:
        inner, read = _kind(schema.get("items"))
        if read is not _as_json and not pa.types.is_list(inner):
            return pa.list_(inner), lambda value: [read(one) for one in value] if isinstance(value, list) else None
    return _KINDS.get(frozenset(names), _JSON)


def _type_names(schema: Any) -> set[str]:
    """Return the JSON types that *schema* allows, but for null; empty where it does not say."""
    if not isinstance(schema, dict):
        return set()
    if "type" in schema:
        told = schema["type"]
        return {told} - {"null"} if isinstance(told, str) else set(told) - {"null"}
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return {_name_of(value) for value in values} - {"null"}
    options: list[Any] = schema.get("anyOf") or schema.get("oneOf") or []
    found = [_type_names(option) for option in options if option != {"type": "null"}]
    return set().union(*found) if all(found) else set()


def _name_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names.get(type(value), "object")


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _as_integer(value: Any) -> int | None:
    """Return a whole number, 2.0 included; None for what 64 bits can't hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if -_INT64 <= value < _INT64 else None


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _as_truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


_JSON: tuple[pa.DataType, Callable[[Any], Any]] = (pa.string(), _as_json)
_KINDS: dict[frozenset[str], tuple[pa.DataType, Callable[[Any], Any]]] = {
    frozenset({"string"}): (pa.string(), _as_text),
    frozenset({"integer"}): (pa.int64(), _as_integer),
    frozenset({"number"}): (pa.float64(), _as_number),
    frozenset({"integer", "number"}): (pa.float64(), _as_number),
    frozenset({"boolean"}): (pa.bool_(), _as_truth),
}
