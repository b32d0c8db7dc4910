"""Whether an answer can be believed: allowed labels, valid JSON, and the words of a model that doubts or declines."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec

from pipeline.records import Answer, Finish, Parameters, Task

_LONGEST_REASON = 200
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
    problem = _mismatch(value, schema)
    return None if problem is None else Weakness("schema", problem, worthless=True)


def _mismatch(value: Any, schema: str) -> str | None:
    """Return where and how *value* fails *schema* first, None where it holds."""
    try:
        error = next(iter(_validator(schema).iter_errors(value)), None)
    except ValueError as error_of_value:  # nested too deeply
        return f"can't be checked: {error_of_value}"
    if error is None:
        return None
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return _cut(f"answer{''.join(steps)}: {error.message}", _LONGEST_REASON)


@lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema_rs.Validator:
    # No reference is fetched, and a pattern is matched in linear time, whatever text a model sends.
    return jsonschema_rs.validator_for(
        msgspec.json.decode(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse a JSON Schema that answers can't be checked against.

    Raises:
        ValueError: saying why.
    """
    try:
        _validator(msgspec.json.encode(schema).decode())
    except ValueError as error:
        raise ValueError(f"is no JSON Schema: {_cut(str(error).partition(chr(10))[0], _LONGEST_REASON)}") from None


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
    return repr(_cut(text, 40))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
