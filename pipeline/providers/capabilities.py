"""What a model takes and what it must be spared: the `options` of its entry, one table for all dialects."""

from typing import Any, Literal

import msgspec

from pipeline.errors import JobError
from pipeline.records import Model


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of a model. A dialect reads those that mean something in it; docs/providers.md says which."""

    max_tokens_field: str = "max_tokens"  # OpenAI's newer models want max_completion_tokens
    temperature: bool = True  # False: the model refuses the parameter
    # How the form of an answer is asked for. None: a schema in the dialect's own field, choices only checked.
    # True: choices too, as an object with a label; "bare": choices as a string; "tool": by a tool that must be called.
    # "object": as JSON of any form, with the schema in the prompt. False: in the prompt alone.
    json_schema: bool | Literal["bare", "object", "tool"] | None = None
    strict_schema: bool | None = None  # None: where the schema has the form that OpenAI demands of strict ones
    system_role: Literal["system", "developer", "user"] = "system"  # "user": before the first message of the user
    few_shot: Literal["turns", "text"] = "turns"  # "text": all turns in one message, for models that follow no dialogue
    api_version: str = "2024-10-21"  # of Azure; "v1" is its API without versions
    body: dict[str, Any] = {}  # further fields of the request; tables are merged

    @property
    def schema_in_prompt(self) -> bool:
        """Tell whether a schema is told in the prompt, as no field of the request holds it."""
        return self.json_schema is False or self.json_schema == "object"


def load_options(model: Model, ours: frozenset[str]) -> Options:
    """Return the options of *model*; `body` must not set a field of *ours*.

    Raises:
        JobError: for an unknown option, a wrong type or such a field.
    """
    try:
        options = msgspec.convert(dict(model.options), Options)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise JobError(f"models.{model.name}.options: {error} (known: {known})") from error
    taken = sorted(ours & options.body.keys())
    if taken:
        raise JobError(f"models.{model.name}.options.body: {', '.join(taken)} can't be set here")
    return options


def merged(fields: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* with *body* on top, table by table."""
    both = fields | body
    for name in fields.keys() & body.keys():
        if isinstance(fields[name], dict) and isinstance(body[name], dict):
            both[name] = merged(fields[name], body[name])
    return both
