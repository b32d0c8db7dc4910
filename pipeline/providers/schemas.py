"""The form of an answer: choices as a schema, a schema as a sentence of the prompt, and what may be called strict."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pipeline.providers.capabilities import Options
from pipeline.records import Parameters


def wanted_schema(parameters: Parameters, options: Options) -> Any | None:
    """Return the schema that the request is to hold, None where it holds none."""
    if options.schema_in_prompt:
        return None
    if parameters.schema is not None:
        return msgspec.json.decode(parameters.schema)
    if not parameters.choices or options.json_schema is None:
        return None
    label = {"type": "string", "enum": list(parameters.choices)}
    if options.json_schema == "bare":
        return label
    return {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}


def named_schema(schema: Any, options: Options) -> dict[str, Any]:
    """Return *schema* as OpenAI's APIs take it."""
    strict = (
        is_strict(schema) or options.json_schema == "bare" if options.strict_schema is None else options.strict_schema
    )
    return {"name": "answer", "schema": schema, "strict": strict}


def instruction(parameters: Parameters, options: Options) -> str:
    """Return what the prompt is to say of the form of the answer, empty where nothing."""
    if parameters.schema is None or not options.schema_in_prompt:
        return ""
    return (
        f"Answer with JSON alone, no explanation and no Markdown. It must match this JSON schema:\n{parameters.schema}"
    )


def is_strict(schema: Any) -> bool:
    """Tell whether *schema* has the form that OpenAI demands of strict ones.

    That is an object at the root, and every object with all of its properties required and no others allowed; see
    "Supported schemas" in OpenAI's guide to structured outputs.
    """
    return isinstance(schema, dict) and schema.get("type") == "object" and all(map(_is_closed, _objects(schema)))


def _is_closed(schema: dict[str, Any]) -> bool:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    return schema.get("additionalProperties") is False and set(properties) == set(map(str, required))


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of an object within *schema*."""
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if "properties" in schema or kind == "object" or (isinstance(kind, list) and "object" in kind):
        yield schema
    for name in ("properties", "$defs", "definitions"):
        inner = schema.get(name)
        yield from _of_all(list(inner.values()) if isinstance(inner, dict) else [])
    yield from _objects(schema.get("items"))
    for name in ("anyOf", "oneOf", "allOf"):
        inner = schema.get(name)
        yield from _of_all(inner if isinstance(inner, list) else [])


def _of_all(schemas: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for schema in schemas:
        yield from _objects(schema)
