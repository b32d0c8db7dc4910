"""Several rows in one request: JSON with ids in, JSON with the same ids out, the bill shared to the last pico-USD.

What the rows have in common (the system message, the beginning of the template) is sent once. An answer counts only
when it is a JSON array with exactly the ids that were sent, each once.
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.catalogue import cost_pusd
from pipeline.providers.bodies import without_surrogates
from pipeline.records import Price, Request, Usage

_TASK = (
    'Below is a JSON array of objects with "id" and "input". {frame}Treat each input on its own, as if it were the '
    "only one. Answer with a JSON array and nothing else: for each input one object "
    '{{"id": the id of the input, "answer": your answer to this input, as text}}.'
)
_FRAME = """The task is the text between the lines of dashes, where {input} stands for one input:
-----
%s{input}%s
-----
"""
_ID_BYTES = 3

# Tokens that packing adds, by the estimate of `tokens`: the texts above once a request, and for each row an id with the
# keys, quotes and brackets around it, once in and once out.
PACK_TOKENS = 90
ITEM_TOKENS = 15
_LEAST_GAIN = Decimal("0.05")
_MAX_OUTPUT_TOKENS = 16_000  # current models write about as much; some refuse to be asked for more
_OPENS, _CLOSES = re.compile(r"\{[{%#]"), re.compile(r"[}%#]\}")


class Packing(NamedTuple):
    """How a job packs: so many rows a request, and the text before and after what differs between messages."""

    rows: int
    head: str = ""
    tail: str = ""

    def max_output_tokens(self, alone: int) -> int:
        """Return what a whole pack may write, where a row may write *alone*."""
        return min(self.rows * (alone + ITEM_TOKENS), max(_MAX_OUTPUT_TOKENS, alone))

    def takes(self, request: Request) -> bool:
        """Tell whether *request* is a message of the template, which can go into a pack."""
        plain = request.messages is None and request.image is None
        own = len(request.user) >= len(self.head) + len(self.tail)
        return plain and own and request.user.startswith(self.head) and request.user.endswith(self.tail)


def packing_of(rows: int, template: str | None) -> Packing:
    """Return how *rows* a request are packed, whose messages *template* makes; None: each is a ready text."""
    if template is None or not _OPENS.search(template):
        return Packing(rows)
    opens, closes = _OPENS.search(template), list(_CLOSES.finditer(template))
    if opens is None or not closes:
        return Packing(rows)
    # Jinja drops one line break at the end of a template.
    return Packing(rows, template[: opens.start()], template[closes[-1].end() :].removesuffix("\n"))


class NotUsableError(ValueError):
    """Raised for an answer that is not exactly one answer for each id; the message says what is wrong."""


def pack_ids(requests: Sequence[Request]) -> list[str]:
    """Return an id for each of *requests*: a letter first, so that no numbering can look like one."""
    length = _ID_BYTES
    while True:
        ids = [f"k{request.request_id[:length].hex()}" for request in requests]
        if len(set(ids)) == len(ids):
            return ids
        length += 1


def pack(requests: Sequence[Request], packing: Packing) -> Request:
    """Return one request that asks all of *requests*, which `takes` allows and which share their system message."""
    head, tail = packing.head, packing.tail
    items = [
        {"id": key, "input": request.user[len(head) : len(request.user) - len(tail)]}
        for key, request in zip(pack_ids(requests), requests, strict=True)
    ]
    frame = _FRAME % (head, tail) if head or tail else ""
    task = _TASK.format(frame=frame)
    first = requests[0]
    return first._replace(
        user=f"{task}\n\n{json.dumps(items, ensure_ascii=False)}",
        # A little too much: what the rows share is counted with each of them.
        input_tokens=sum(request.input_tokens + ITEM_TOKENS for request in requests) + PACK_TOKENS,
    )


def unpack(reply: str, requests: Sequence[Request]) -> list[str]:
    """Return the answer to each of *requests*, in their order.

    Raises:
        NotUsableError: unless *reply* is a JSON array, which may be fenced, of objects with an id and an answer each,
            whose ids are those of the *requests*, each once.
    """
    answers: dict[str, str] = {}
    for item in _items(reply):
        key, answer = item.get("id"), item.get("answer")
        if not isinstance(key, str) or item.keys() != {"id", "answer"} or answer is None:
            raise NotUsableError("an object is not an id with an answer")
        if key in answers:
            raise NotUsableError("an id comes twice")
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        answers[key] = without_surrogates(text)
    ids = pack_ids(requests)
    if answers.keys() != set(ids):
        missing = len(set(ids) - answers.keys())
        raise NotUsableError(
            f"{missing} of {len(ids)} ids are missing, {len(answers.keys() - set(ids))} were never sent"
        )
    return [answers[key] for key in ids]


def _items(text: str) -> list[dict[str, Any]]:
    body = text.strip()
    if body.startswith("```") and body.endswith("```") and "\n" in body:
        body = body[body.index("\n") : -3]
    try:
        items = json.loads(body, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotUsableError("is not JSON alone") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotUsableError("is not an array of objects")
    return items


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """Return *total* in whole parts in proportion to *weights*, which add up to it exactly (largest remainder)."""
    weights = weights if any(weights) else [1] * len(weights)
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(total * weights[place] % whole), place))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


def shared_usage(usage: Usage, inputs: Sequence[int], outputs: Sequence[int]) -> list[Usage]:
    """Return *usage* in parts: each class of input by *inputs*, output and reasoning by *outputs*; the parts add up."""
    classes = [shared(count, inputs) for count in (usage.input, *usage[2:5])]
    written, thought = shared(usage.output, outputs), shared(usage.reasoning, outputs)
    fresh, cached, write_5m, write_1h = classes
    return [Usage(*part) for part in zip(fresh, written, cached, write_5m, write_1h, thought, strict=True)]


def shared_cost(cost: int, usages: Sequence[Usage], price: Price) -> list[int]:
    """Return *cost* in pico-USD in parts in proportion to what *usages* cost at *price*; the parts add up exactly."""
    return shared(cost, [cost_pusd(usage, price) for usage in usages])


class Estimate(NamedTuple):
    """Tokens of the rows of a group that have one price: sent one by one, of which shared, and rows a request."""

    rows: int
    input: int
    output: int
    shared: int  # of `input`: what is the same in each row
    packed: int

    @property
    def requests(self) -> int:
        """Return how many requests there are when packed."""
        return -(-self.rows // self.packed)

    def tokens(self) -> tuple[int, int]:
        """Return input and output tokens when packed."""
        if not self.rows:
            return 0, 0
        once = self.shared // self.rows + PACK_TOKENS
        own = self.input - self.shared + self.rows * ITEM_TOKENS
        return own + self.requests * once, self.output + self.rows * ITEM_TOKENS


def pays(alone_usd: Decimal, packed_usd: Decimal) -> bool:
    """Tell whether packing saves at least 5%, below which a single pack that must be asked again eats it up."""
    return packed_usd <= alone_usd * (1 - _LEAST_GAIN)
