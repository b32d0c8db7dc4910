"""A request as a system text and turns, for dialects that keep the two apart, and its pictures."""

import mimetypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from pipeline.providers.capabilities import Options
from pipeline.records import Request

_SYSTEM_ROLES = ("system", "developer")
_USUAL_IMAGE = "image/jpeg"


class Turn(NamedTuple):
    """What one side says: a text, or parts in the form of OpenAI's."""

    role: str  # user or assistant
    content: str | list[dict[str, Any]]


class Dialogue(NamedTuple):
    """A system text, empty where there is none, and at least one turn."""

    system: str
    turns: list[Turn]


class Image(NamedTuple):
    """A picture: its address, or its content in base64."""

    url: str
    media_type: str
    data: str | None


def dialogue(request: Request, options: Options, instruction: str) -> Dialogue:
    """Return *request* with *instruction* as the last words of its system text, in the form that *options* ask for."""
    system, turns = _ready(request.messages) if request.messages is not None else _plain(request)
    if request.image is not None:
        last = turns[-1]
        image = {"type": "image_url", "image_url": {"url": request.image}}
        turns[-1] = last._replace(content=[*parts_of(last.content), image])
    if options.few_shot == "text":
        turns = [_folded(turns)]
    system = _joined([system, instruction])
    if options.system_role == "user" and system:
        first = turns[0]
        if isinstance(first.content, str):
            turns[0] = first._replace(content=_joined([system, first.content]))
        else:
            turns[0] = first._replace(content=[{"type": "text", "text": system}, *first.content])
        system = ""
    return Dialogue(system, turns)


def parts_of(content: Any) -> list[dict[str, Any]]:
    """Return a message's content as parts; what is neither text nor parts is left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def text_of(content: Any) -> str:
    """Return the texts of a message's content, one after the other."""
    return content if isinstance(content, str) else "".join(_texts(content))


def image_of(part: dict[str, Any]) -> Image | None:
    """Return the picture that a part in OpenAI's form holds, None where it holds none."""
    if part.get("type") != "image_url":
        return None
    found = part.get("image_url")
    url = found.get("url") if isinstance(found, dict) else found
    if not isinstance(url, str):
        return None
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return Image(url, head.removeprefix("data:").removesuffix(";base64"), data)
    return Image(url, mimetypes.guess_type(url.partition("?")[0])[0] or _USUAL_IMAGE, None)


def _plain(request: Request) -> tuple[str, list[Turn]]:
    return request.system or "", [Turn("user", request.user)]


def _ready(messages: str) -> tuple[str, list[Turn]]:
    """Split ready messages. A system text may stand anywhere and counts from the beginning."""
    ready = msgspec.json.decode(messages, type=list[dict[str, Any]])
    systems = [text_of(one.get("content")) for one in ready if one.get("role") in _SYSTEM_ROLES]
    turns = [_turn(one) for one in ready if one.get("role") not in _SYSTEM_ROLES]
    return _joined(systems), turns or [Turn("user", "")]


def _turn(message: dict[str, Any]) -> Turn:
    content = message.get("content")
    role = "assistant" if message.get("role") == "assistant" else "user"
    return Turn(role, content if isinstance(content, str) else parts_of(content))


def _folded(turns: list[Turn]) -> Turn:
    """Return a dialogue as one text, its last answer open. Pictures can only be in the last turn, and stay there."""
    last = turns[-1]
    if len(turns) == 1:
        return last
    labels = {"user": "Input", "assistant": "Output"}
    text = "\n\n".join(f"{labels[turn.role]}: {text_of(turn.content)}" for turn in turns) + "\n\nOutput:"
    images = [part for part in parts_of(last.content) if part.get("type") != "text"]
    return Turn("user", [{"type": "text", "text": text}, *images] if images else text)


def _texts(content: Any) -> Iterator[str]:
    for part in parts_of(content):
        text = part.get("text")
        if isinstance(text, str):
            yield text


def _joined(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)
