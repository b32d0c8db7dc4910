"""What the model says: the good answer, which names the row it belongs to, and every odd one a provider has sent."""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from .wire import Ask, Reply

Completion = dict[str, Any]

HUGE_BODY_BYTES: Final = 50 << 20
BOMB_BYTES: Final = 256 << 20
_BLOCK: Final = b" " * (1 << 20)
_CREATED: Final = 1_790_000_000


def good_answer(ask: Ask) -> str:
    """Return the answer to a prompt: its row's mark and a checksum of its text, so that a swapped answer is seen."""
    return f"Answer for mark={ask.mark}; check {zlib.crc32(ask.user.encode('utf-8', 'replace')):08x}."


def usage_of(ask: Ask, text: str) -> tuple[int, int, int]:
    """Return input, cached input and output tokens: 4 characters each, and 8 tokens for the format."""
    return 8 + len(ask.user) // 4, 0, 1 + len(text) // 4


def completion(ask: Ask, text: str | None = None, *, finish: str | None = "stop", **message: Any) -> Completion:
    """Return a chat completion that says *text*, the good answer if not given."""
    said = good_answer(ask) if text is None else text
    tokens_in, _, tokens_out = usage_of(ask, said)
    choice = {"index": 0, "message": {"role": "assistant", "content": said} | message, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{ask.n}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": ask.model,
        "choices": [choice],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


def say(ask: Ask, text: str | None = None) -> Reply:
    """Return a plain reply that says *text*, the good answer if not given."""
    said = good_answer(ask) if text is None else text
    return Reply(200, msgspec.json.encode(completion(ask, said)), text=said, usage=usage_of(ask, said))


def _complete(data: Completion, **usage: Any) -> Reply:
    """Return *data* as a reply, its usage overlaid with *usage*."""
    data["usage"] |= usage
    content = data["choices"][0]["message"]["content"] if data["choices"] else None
    return Reply(200, msgspec.json.encode(data), text=content, usage=_sound(data["usage"]))


def _sound(usage: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return input, cached input and output tokens where they make sense."""
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    counts = (usage["prompt_tokens"], cached, usage["completion_tokens"])
    sound = all(type(count) is int and count >= 0 for count in counts) and counts[1] <= counts[0]
    return counts if sound else None


def _without_usage(ask: Ask, **replacement: Any) -> Reply:
    data = completion(ask)
    del data["usage"]
    return Reply(200, msgspec.json.encode(data | replacement), text=good_answer(ask))


def _raw(body: bytes, content_type: str = "application/json") -> Callable[[Ask], Reply]:
    return lambda _: Reply(200, body, content_type)


def _finished(finish: str | None, **message: Any) -> Callable[[Ask], Reply]:
    return lambda ask: _complete(completion(ask, finish=finish, **message))


def _content(content: str | None, **message: Any) -> Callable[[Ask], Reply]:
    return lambda ask: _complete(completion(ask, content=content, **message))


def _usage(**usage: Any) -> Callable[[Ask], Reply]:
    return lambda ask: _complete(completion(ask), **usage)


def _no_choices(ask: Ask) -> Reply:
    return _complete(completion(ask) | {"choices": []})


def _cut_short(ask: Ask) -> Reply:
    data = completion(ask, "The beginning of", finish="length")
    return _complete(data)


def _cached(ask: Ask) -> Reply:
    data = completion(ask)
    half = data["usage"]["prompt_tokens"] // 2
    return _complete(data, prompt_tokens_details={"cached_tokens": half})


def _cached_over_prompt(ask: Ask) -> Reply:
    data = completion(ask)
    return _complete(data, prompt_tokens_details={"cached_tokens": data["usage"]["prompt_tokens"] + 1})


def _shuffled_choices(ask: Ask) -> Reply:
    data = completion(ask)
    good = data["choices"][0]
    others = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"Not for mark=other-{index};"},
            "finish_reason": "stop",
        }
        for index in (2, 1)
    ]
    data["choices"] = [others[0], good, others[1]]
    return _complete(data)._replace(text=good["message"]["content"])


def _other_row(ask: Ask) -> Reply:
    return say(ask, good_answer(ask._replace(mark=f"not-{ask.mark}")))


def _duplicate_keys(ask: Ask) -> Reply:
    reply = say(ask)
    twice = b'"choices":[{"index":0,"message":{"content":"no"}}],"choices":'
    return reply._replace(body=reply.body.replace(b'"choices":', twice, 1))


def _surrogate(ask: Ask) -> Reply:
    reply = say(ask)
    text = good_answer(ask).replace("Answer for", "Answer \ufffd for")
    return reply._replace(body=reply.body.replace(b"Answer for", b"Answer \\ud800 for", 1), text=text)


def _nested(ask: Ask) -> Reply:
    return _complete(completion(ask) | {"extra": msgspec.Raw(b"[" * 5000 + b"]" * 5000)})


def _huge_int(ask: Ask) -> Reply:
    return _usage(prompt_tokens=msgspec.Raw(b"9" * 5000))(ask)


def _tool_call(ask: Ask) -> Reply:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return _complete(completion(ask, finish="tool_calls", content=None, tool_calls=[call]))


def _error_object(ask: Ask) -> Reply:
    return Reply(
        200, msgspec.json.encode({"error": {"message": "Upstream error", "type": "server_error", "code": 502}})
    )


def _quota_object(ask: Ask) -> Reply:
    return Reply(200, msgspec.json.encode({"error": {"message": "No credit", "code": "insufficient_quota"}}))


def _bad_utf8(ask: Ask) -> Reply:
    return Reply(200, say(ask).body.replace(b"Answer", b"Answ\xff\xfe", 1))


ODD_ANSWERS: Final[Mapping[str, Callable[[Ask], Reply]]] = {
    "good": say,
    # bodies that are no completion
    "html": _raw(b"<!doctype html><title>Login</title><p>Please sign in.</p>", "text/html; charset=utf-8"),
    "empty": _raw(b""),
    "null": _raw(b"null"),
    "list": _raw(b'[{"choices":[]}]'),
    "string": _raw(b'"ok"'),
    "truncated_json": lambda ask: Reply(200, say(ask).body[:-40]),
    "bad_utf8": _bad_utf8,
    "wrong_type": lambda ask: say(ask)._replace(content_type="text/plain"),  # good
    "error_object": _error_object,
    "quota_object": _quota_object,
    "duplicate_keys": _duplicate_keys,
    "deep_nesting": _nested,
    "surrogate": _surrogate,
    # completions that say nothing
    "no_choices": _no_choices,
    "content_null": _content(None),
    "content_empty": _content(""),
    "content_blank": _content(" \n\t "),
    "reasoning_only": _content(None, reasoning_content="First I think about it."),
    # ends that are no good end
    "content_filter": _finished("content_filter", content=None),
    "refusal": _finished("stop", content=None, refusal="I can't help with that."),
    "sensitive": _finished("sensitive", content=""),
    "cut_short": _cut_short,
    "finish_unknown": _finished("banana"),
    "finish_null": _finished(None),
    "finish_error": _finished("error"),
    "insufficient_system_resource": _finished("insufficient_system_resource"),
    "network_error": _finished("network_error"),
    "tool_call": _tool_call,
    # usage
    "usage_missing": _without_usage,
    "usage_null": lambda ask: _without_usage(ask, usage=None),
    "usage_negative": _usage(completion_tokens=-5),
    "usage_nan": _usage(prompt_tokens=msgspec.Raw(b"NaN")),
    "usage_infinite": _usage(prompt_tokens=msgspec.Raw(b"1e999")),
    "usage_string": _usage(prompt_tokens="12"),
    "usage_bool": _usage(completion_tokens=True),
    "usage_float": _usage(completion_tokens=12.5),
    "usage_huge_int": _huge_int,
    "usage_cached": _cached,  # good: half of the prompt came from a cache
    "usage_cached_over_prompt": _cached_over_prompt,
    # identity
    "alias_model": lambda ask: _complete(completion(ask) | {"model": f"{ask.model}-2026-08-06"}),  # good
    "other_family": lambda ask: _complete(completion(ask) | {"model": "tiny-chat-1b"}),
    "other_row": _other_row,  # the answer to another row: only the checker can see it
    "shuffled_choices": _shuffled_choices,  # good: three choices, that of index 0 in the middle
}


@functools.cache
def gzip_bomb(size: int) -> bytes:
    """Return a gzip stream of *size* blanks, about a thousandth as large."""
    packer = zlib.compressobj(9, wbits=31)
    blocks, rest = divmod(size, len(_BLOCK))
    parts = [packer.compress(_BLOCK) for _ in range(blocks)]
    return b"".join([*parts, packer.compress(_BLOCK[:rest]), packer.flush()])


SIZED_ANSWERS: Final[Mapping[str, Callable[[Ask, int], Reply]]] = {
    "huge_body": lambda ask, size: say(ask, "x" * size),
    "gzip_bomb": lambda _, size: Reply(200, gzip_bomb(size), headers=(("content-encoding", "gzip"),)),
}
SIZES: Final = {"huge_body": HUGE_BODY_BYTES, "gzip_bomb": BOMB_BYTES}
