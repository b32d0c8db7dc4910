"""Whether an answer can be believed: allowed labels, valid JSON, and the words of a model that doubts or declines."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from pipeline.records import Answer, Finish, Parameters, Task

_AROUND_LABEL = " \t\r\n\"'`*.“”‘’«»「」"
_DECLINES = re.compile(
    r"\W*(?:(?:i['’]m|i am) (?:really |very )?sorry,? (?:but )?)?"
    r"(?:i (?:can['’]?t|cannot|can not|won['’]t|am unable to|am not able to) "
    r"(?:assist|help|provide|comply|fulfill|do that|answer|engage|create|write|generate)"
    r"|i['’]m (?:unable|not able) to (?:assist|help|provide|comply|fulfill|answer|engage|create|write|generate)"
    r"|as an ai(?: language model)?,)",
    re.IGNORECASE,
)
# From should_escalate of the article "Multi-Model AI Routing: Cut Your API Costs by 90%".
_UNCERTAIN = ("might be wrong", "not entirely sure", "could be", "possibly")


class Weakness(NamedTuple):
    """Why an answer is weak. A `worthless` one can't be used; any other is worth asking a stronger model, no more."""

    code: str  # finish reason, label, json, schema, declined, placeholder or uncertain
    reason: str
    worthless: bool


def tidy(answer: Answer, parameters: Parameters) -> Answer:
    """Return *answer* as the job wants it: the label as the job spells it, JSON without a Markdown fence round it.

    An answer that was cut short after a whole label is whole, where no other label goes on from there. Free text, and
    what does not fit, is returned as it is.
    """
    if parameters.choices:
        label = find_label(answer.text, parameters.choices)
        if label is None:
            return answer
        cut = answer.finish is Finish.TRUNCATED
        if cut and sum(choice.casefold().startswith(label.casefold()) for choice in parameters.choices) == 1:
            answer = answer._replace(finish=Finish.OK)
        return answer._replace(text=label)
    return answer if parameters.schema is None else answer._replace(text=_without_fence(answer.text))


def weakness(answer: Answer, *, task: str, parameters: Parameters) -> Weakness | None:
    """Return why *answer*, tidy or not, is weak, None where nothing speaks against it.

    With choices or a schema only the form counts and a wrong form is worthless. Free text is searched for words of
    refusal, of unfinished code (*task* code) and of doubt (*task* reasoning), as in the article.
    """
    if answer.finish is not Finish.OK:
        return Weakness(str(answer.finish), f"the answer ended {answer.finish}", worthless=True)
    if parameters.choices:
        return _label_weakness(answer.text, parameters.choices)
    if parameters.schema is not None:
        return _json_weakness(_without_fence(answer.text), parameters.schema)
    return _text_weakness(answer.text, task)


def find_label(text: str, choices: tuple[str, ...]) -> str | None:
    """Return the one of *choices* that *text* means, None where it is none of them or could be several.

    Case, white space, quotes, stars and full stops around it do not matter, and `{"label": ...}` counts as its value.
    """
    if text in choices:
        return text
    if text.lstrip().startswith("{"):
        text = _label_in_json(text)
    bare = text.strip(_AROUND_LABEL)
    return bare if bare in choices else _folded(choices).get(bare.casefold())


@lru_cache(maxsize=64)
def _folded(choices: tuple[str, ...]) -> Mapping[str, str]:
    """Return folded label -> label, without those that fold to the same."""
    folded = [choice.strip(_AROUND_LABEL).casefold() for choice in choices]
    times = Counter(folded)
    return {key: choice for key, choice in zip(folded, choices, strict=True) if times[key] == 1}


def _label_in_json(text: str) -> str:
    try:
        return msgspec.json.decode(text, type=dict[str, str]).get("label", text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _without_fence(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    fenced = first.lower() in {"```", "```json"} and rest.endswith("```")
    return rest.removesuffix("```").strip() if fenced else text


def _label_weakness(text: str, choices: tuple[str, ...]) -> Weakness | None:
    if find_label(text, choices) is not None:
        return None
    return Weakness("label", f"{_excerpt(text)} is not one of the {len(choices)} choices", worthless=True)


def _json_weakness(text: str, schema: str) -> Weakness | None:
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        return Weakness("json", f"not JSON: {error}", worthless=True)
    problem = next(_mismatches(value, "answer", schema=_schema(schema)), None)
    return None if problem is None else Weakness("schema", problem, worthless=True)


def _text_weakness(text: str, task: str) -> Weakness | None:
    if _DECLINES.match(text):
        return Weakness("declined", f"the model declines: {_excerpt(text)}", worthless=False)
    if task == Task.CODE and ("TODO" in text or "placeholder" in text.lower()):
        return Weakness("placeholder", "the code has a TODO or a placeholder", worthless=False)
    if task == Task.REASONING:
        lower = text.lower()
        for marker in _UNCERTAIN:
            if marker in lower:
                return Weakness("uncertain", f"the answer says {marker!r}", worthless=False)
    return None


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


class _Schema(msgspec.Struct, rename={"extra": "additionalProperties", "types": "type"}):
    """The part of JSON Schema that is checked: types, enum, required, properties, additionalProperties, items."""

    types: str | list[str] = []
    enum: list[Any] | None = None
    required: list[str] = []
    properties: dict[str, "_Schema | bool"] = {}
    items: "_Schema | bool" = True
    extra: "_Schema | bool" = True


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@lru_cache(maxsize=64)
def _schema(text: str) -> _Schema | bool:
    """Parse a schema. One that this subset can't read checks nothing beyond valid JSON."""
    try:
        return msgspec.json.decode(text, type=_Schema | bool)
    except msgspec.DecodeError:
        return True


def _mismatches(value: Any, path: str, *, schema: _Schema | bool) -> Iterator[str]:
    """Yield where *value* does not match *schema*, as sentences that begin with *path*."""
    if isinstance(schema, bool):
        if not schema:
            yield f"{path} is not allowed"
        return
    names = [schema.types] if isinstance(schema.types, str) else schema.types
    if names and not any(_is_a(value, name) for name in names):
        yield f"{path} is not {' or '.join(names)}"
    if schema.enum is not None and not any(type(one) is type(value) and one == value for one in schema.enum):
        yield f"{path} is not in its enum"
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _mismatches(item, f"{path}[{place}]", schema=schema.items)
    if isinstance(value, dict):
        yield from (f"{path}.{key} is missing" for key in schema.required if key not in value)
        for key, item in value.items():
            yield from _mismatches(item, f"{path}.{key}", schema=schema.properties.get(key, schema.extra))


def _is_a(value: Any, name: str) -> bool:
    """Tell whether *value* has the JSON type *name*; 2.0 is an integer and true is no number."""
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, ()))
