"""The chaos server does what its script says, byte by byte."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.answers import ODD_ANSWERS, good_answer
from tests.chaos.faults import Fault
from tests.chaos.log import Exchange, digest, read_log
from tests.chaos.pacing import Gate
from tests.chaos.process import server_process
from tests.chaos.refusals import ERRORS
from tests.chaos.retry_after import WaitForm
from tests.chaos.scenarios import mixed_faults, outage, rules, storm
from tests.chaos.script import Bucket, Director, Script, load_script
from tests.chaos.server import ChaosServer, serve
from tests.chaos.wire import Ask

pytestmark = pytest.mark.anyio


class Seen(NamedTuple):
    """A reply as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> Any:
        return self.json["choices"][0]["message"]["content"]


class Client:
    """Asks a server in one connection pool."""

    def __init__(self, session: aiohttp.ClientSession, server: ChaosServer) -> None:
        self.session = session
        self.server = server

    async def ask(self, mark: str = "row-1", *, key: str = "sk-1", model: str = "m", max_tokens: int = 10) -> Seen:
        return await self.send(a_body(mark, model=model, max_tokens=max_tokens), key=key)

    async def send(self, body: bytes, *, key: str = "sk-1", path: str = "/chat/completions") -> Seen:
        async with self.session.post(
            self.server.base_url + path,
            data=body,
            headers={"authorization": f"Bearer {key}"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=5),
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Seen(response.status, headers, await response.read())


def a_body(mark: str = "row-1", *, model: str = "m", max_tokens: int = 10) -> bytes:
    content = f"mark={mark}; Say something."
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": model, "messages": messages, "max_tokens": max_tokens}).encode()


def an_ask(n: int = 1, *, attempt: int = 1, mark: str | None = None) -> Ask:
    mark = f"row-{n}" if mark is None else mark
    return Ask(n, attempt, mark, "m", "sk-1", f"mark={mark}; Say something.", 10)


def a_request(mark: str = "row-1") -> bytes:
    body = a_body(mark)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def playing(script: dict[str, Any]) -> AsyncIterator[Client]:
    async with serve(script) as server, aiohttp.ClientSession() as session:
        yield Client(session, server)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until *holds*, five seconds at most."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to hold")


async def until_done(server: ChaosServer, requests: int = 1) -> list[Exchange]:
    """Wait until the replies to so many *requests* are over."""
    await eventually(lambda: sum(exchange.completion is not None for exchange in server.log.exchanges()) >= requests)
    return server.log.exchanges()


async def raw(server: ChaosServer, *, patience_s: float = 2.0) -> tuple[bytes, str]:
    """Send one request on a bare socket; return what came, and how it ended: end, reset or silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(a_request())
    received = b""
    try:
        async with asyncio.timeout(patience_s):
            while data := await reader.read(1 << 16):
                received += data
        return received, "end"
    except ConnectionResetError:
        return received, "reset"
    except TimeoutError:
        return received, "silence"
    finally:
        writer.close()


# Good answers


async def test_a_good_answer_names_its_row_and_is_the_same_every_time():
    """The same prompt gets the same answer, which holds its mark; another prompt gets another one."""
    async with playing({}) as client:
        first, again, other = await client.ask("row-000123"), await client.ask("row-000123"), await client.ask("row-2")
    assert first.text == again.text == good_answer(an_ask(mark="row-000123"))
    assert "mark=row-000123;" in first.text
    assert other.text != first.text
    usage = first.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert first.json["model"] == "m"


async def test_a_script_may_give_the_answer():
    """`text` is the answer, with the row's mark put in."""
    async with playing(rules(({}, {"text": "yes {mark}"}))) as client:
        assert (await client.ask("row-7")).text == "yes row-7"


async def test_requests_sent_at_once_on_one_connection_are_answered_in_order():
    """A second request on a connection waits for the reply to the first."""
    async with serve(rules(({"nth": [1]}, {"latency_s": 0.05}))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(a_request("row-1") + a_request("row-2"))
        received = b""
        while received.count(b"check") < 2:
            received += await reader.read(1 << 16)
        writer.close()
    assert received.index(b"mark=row-1;") < received.index(b"mark=row-2;")


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [(b"{", "/chat/completions", 400), (b"\xff", "/chat/completions", 400), (b"{}", "/embeddings", 404)],
    ids=["torn", "no-utf8", "other-path"],
)
async def test_what_is_no_chat_request_is_refused(body: bytes, path: str, status: int):
    """A body that is no completion request gets 400, another path 404."""
    async with playing({}) as client:
        assert (await client.send(body, path=path)).status == status


async def test_bytes_that_are_no_request_are_refused():
    """A request without a known length ends the connection with 400."""
    async with serve() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GARBAGE\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


# Error bodies and odd answers

_CODES = [
    ("rate", 429, "rate_limit_exceeded"),
    ("insufficient_quota", 429, "insufficient_quota"),
    ("unauthorized", 401, "invalid_api_key"),
    ("context_length", 400, "context_length_exceeded"),
    ("content_policy", 400, "content_policy_violation"),
    ("model_not_found", 404, "model_not_found"),
    ("glm_auth", 401, "1000"),
    ("glm_balance", 429, "1113"),
    ("glm_blocked", 400, "1301"),
    ("glm_rate", 429, "1302"),
    ("glm_overload", 429, "1305"),
    ("glm_window", 429, "1308"),
    ("glm_too_long", 400, "1261"),
]


@pytest.mark.parametrize(("body", "status", "code"), _CODES, ids=[body for body, _, _ in _CODES])
async def test_an_error_has_the_code_of_its_provider(body: str, status: int, code: str):
    """The status and `error.code` are those of the provider."""
    async with playing(rules(({}, {"body": body}))) as client:
        seen = await client.ask()
    assert (seen.status, seen.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ("deepseek_balance", 402, "Insufficient Balance"),
        ("overloaded", 529, "overloaded_error"),
        ("anthropic_spend", 429, "enforced_spend_limit_reached"),
        ("anthropic_billing", 402, "billing_error"),
        ("gemini_rate", 429, "PerMinute"),
        ("gemini_daily", 429, "PerDay"),
        ("mistral_billing", 402, "payment_required"),
        ("bad_gateway", 502, "<html>"),
        ("forbidden", 403, "request_forbidden"),
        ("unavailable", 503, "overloaded"),
        ("server_error", 500, "server_error"),
    ],
)
async def test_an_error_has_the_shape_of_its_provider(body: str, status: int, part: str):
    """The status and the telling part of the body are those of the provider."""
    async with playing(rules(({}, {"body": body}))) as client:
        seen = await client.ask()
    assert seen.status == status
    assert part in seen.body.decode()


@pytest.mark.parametrize("status", [301, 400, 401, 418, 429, 500, 503, 529, 599])
async def test_a_bare_status_gets_a_body_that_fits(status: int):
    """A status alone is enough: an error body comes with it, none with a redirect."""
    async with playing(rules(({}, {"status": status}))) as client:
        seen = await client.ask()
    assert seen.status == status
    assert (seen.body == b"") == (status < 400)
    assert status < 400 or "error" in seen.json


async def test_a_redirect_names_another_host():
    """A redirect carries its Location and nothing else happens."""
    where = "http://127.0.0.2:9/v1/chat/completions"
    async with playing(rules(({}, {"status": 307, "headers": {"location": where}}))) as client:
        seen = await client.ask()
    assert (seen.status, seen.headers["location"]) == (307, where)


def _choice(seen: Seen) -> Any:
    return seen.json["choices"][0]


def _usage(seen: Seen) -> Any:
    return seen.json["usage"]


def _raises(error: type[Exception], act: Callable[[], object]) -> bool:
    try:
        act()
    except error:
        return True
    return False


_ODD: dict[str, Callable[[Seen], bool]] = {
    "html": lambda seen: seen.headers["content-type"].startswith("text/html") and seen.body.startswith(b"<!doctype"),
    "empty": lambda seen: seen.body == b"",
    "null": lambda seen: seen.json is None,
    "list": lambda seen: isinstance(seen.json, list),
    "string": lambda seen: isinstance(seen.json, str),
    "truncated_json": lambda seen: seen.body.startswith(b"{") and _raises(json.JSONDecodeError, lambda: seen.json),
    "bad_utf8": lambda seen: _raises(UnicodeDecodeError, seen.body.decode),
    "wrong_type": lambda seen: seen.headers["content-type"] == "text/plain" and "row-1" in seen.text,
    "error_object": lambda seen: "choices" not in seen.json and seen.json["error"]["code"] == 502,
    "quota_object": lambda seen: seen.json["error"]["code"] == "insufficient_quota",
    "duplicate_keys": lambda seen: seen.body.count(b'"choices"') == 2 and "row-1" in seen.text,
    "deep_nesting": lambda seen: _raises(RecursionError, lambda: seen.json),
    "surrogate": lambda seen: b"\\ud800" in seen.body and "\ud800" in seen.text,
    "no_choices": lambda seen: seen.json["choices"] == [],
    "content_null": lambda seen: seen.text is None,
    "content_empty": lambda seen: seen.text == "",
    "content_blank": lambda seen: seen.text != "" and not seen.text.strip(),
    "reasoning_only": lambda seen: seen.text is None and _choice(seen)["message"]["reasoning_content"],
    "content_filter": lambda seen: _choice(seen)["finish_reason"] == "content_filter",
    "refusal": lambda seen: seen.text is None and _choice(seen)["message"]["refusal"],
    "sensitive": lambda seen: _choice(seen)["finish_reason"] == "sensitive",
    "cut_short": lambda seen: _choice(seen)["finish_reason"] == "length" and seen.text,
    "finish_unknown": lambda seen: _choice(seen)["finish_reason"] == "banana",
    "finish_null": lambda seen: _choice(seen)["finish_reason"] is None,
    "finish_error": lambda seen: _choice(seen)["finish_reason"] == "error",
    "insufficient_system_resource": lambda seen: _choice(seen)["finish_reason"] == "insufficient_system_resource",
    "network_error": lambda seen: _choice(seen)["finish_reason"] == "network_error",
    "tool_call": lambda seen: seen.text is None and _choice(seen)["message"]["tool_calls"],
    "usage_missing": lambda seen: "usage" not in seen.json and "row-1" in seen.text,
    "usage_null": lambda seen: _usage(seen) is None,
    "usage_negative": lambda seen: _usage(seen)["completion_tokens"] < 0,
    "usage_nan": lambda seen: b'"prompt_tokens":NaN' in seen.body,
    "usage_infinite": lambda seen: b'"prompt_tokens":1e999' in seen.body,
    "usage_string": lambda seen: _usage(seen)["prompt_tokens"] == "12",
    "usage_bool": lambda seen: _usage(seen)["completion_tokens"] is True,
    "usage_float": lambda seen: _usage(seen)["completion_tokens"] == 12.5,
    "usage_huge_int": lambda seen: b"9" * 5000 in seen.body and _raises(ValueError, lambda: seen.json),
    "usage_cached": lambda seen: (
        0 < _usage(seen)["prompt_tokens_details"]["cached_tokens"] < _usage(seen)["prompt_tokens"]
    ),
    "usage_cached_over_prompt": lambda seen: (
        _usage(seen)["prompt_tokens_details"]["cached_tokens"] > _usage(seen)["prompt_tokens"]
    ),
    "alias_model": lambda seen: seen.json["model"] == "m-2026-08-06",
    "other_family": lambda seen: seen.json["model"] == "tiny-chat-1b",
    "other_row": lambda seen: "mark=not-row-1;" in seen.text,
    "shuffled_choices": lambda seen: (
        [choice["index"] for choice in seen.json["choices"]] == [2, 0, 1]
        and "row-1" in seen.json["choices"][1]["message"]["content"]
    ),
    "good": lambda seen: "row-1" in seen.text,
}


@pytest.mark.parametrize("body", ODD_ANSWERS)
async def test_an_odd_answer_is_as_odd_as_its_name(body: str):
    """Each odd 200 has the oddity it is named for."""
    async with playing(rules(({}, {"body": body}))) as client:
        seen = await client.ask()
    assert seen.status == 200
    assert _ODD[body](seen)


async def test_a_huge_body_is_as_large_as_asked():
    """A body of any size is sent whole, no faster than the client reads."""
    async with playing(rules(({}, {"body": "huge_body", "size_bytes": 5 << 20}))) as client:
        assert len((await client.ask()).text) == 5 << 20


async def test_a_gzip_bomb_is_small_on_the_wire():
    """The bomb is a good gzip stream, some thousand times larger when unpacked."""
    async with serve(rules(({}, {"body": "gzip_bomb", "size_bytes": 8 << 20}))) as server:
        received, _ = await raw(server, patience_s=0.3)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert len(body) < 32 << 10
    assert len(gzip.decompress(body)) == 8 << 20


# Faults on the wire

_GOOD_BODY = b"mark=row-1; check"


def _short_of_its_length(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return 0 < len(body) < length


# fault -> how the socket ends, and whether what came is as it should be
_ON_THE_WIRE: dict[Fault, tuple[str, Callable[[bytes], bool]]] = {
    Fault.NONE: ("silence", lambda data: _GOOD_BODY in data),
    Fault.RESET: ("reset", lambda data: data == b""),
    Fault.CLOSE: ("end", lambda data: data == b""),
    Fault.HANG: ("silence", lambda data: data == b""),
    Fault.CUT_HEAD: ("end", lambda data: data.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" not in data),
    Fault.HANG_HEAD: ("silence", lambda data: data.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" not in data),
    Fault.SLOW_HEAD: ("silence", lambda data: _GOOD_BODY in data),
    Fault.BAD_STATUS_LINE: ("end", lambda data: data.startswith(b"HTTP/one banana\r\n")),
    Fault.LONG_HEADER: ("silence", lambda data: b"x" * (32 << 10) in data and _GOOD_BODY in data),
    Fault.RESET_BODY: ("reset", _short_of_its_length),
    Fault.CUT_BODY: ("end", _short_of_its_length),
    Fault.CUT_CHUNK: ("end", lambda data: b"chunked" in data and not data.endswith(b"\r\n")),
    Fault.HANG_BODY: ("silence", _short_of_its_length),
    Fault.SLOW_BODY: ("silence", lambda data: _GOOD_BODY in data),
    Fault.KEEP_ALIVE: ("silence", lambda data: data.count(b"1\r\n\n\r\n") == 5 and _GOOD_BODY in data),
    Fault.EXTRA_BYTES: ("end", lambda data: data.endswith(b"}\r\nleft over")),
    Fault.CHUNKED: ("silence", lambda data: data.endswith(b"\r\n0\r\n\r\n")),
    Fault.NO_LENGTH: ("end", lambda data: _GOOD_BODY in data and b"content-length" not in data),
    Fault.GZIP: ("silence", lambda data: _GOOD_BODY in gzip.decompress(data.partition(b"\r\n\r\n")[2])),
    Fault.BAD_GZIP: ("silence", lambda data: b"content-encoding: gzip" in data and b"not gzip" in data),
    Fault.UNKNOWN_ENCODING: ("silence", lambda data: b"content-encoding: x-banana" in data),
}


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_looks_on_a_socket_as_its_name_says(fault: Fault):
    """Each fault sends the bytes it is to send, and ends the connection in the way it is to."""
    ends, fits = _ON_THE_WIRE[fault]
    script = rules(({}, {"fault": fault, "step_s": 0.0002 if "slow" in fault else 0.01, "duration_s": 0.05}))
    async with serve(script) as server:
        received, end = await raw(server, patience_s=1.0 if "slow" in fault else 0.2)
    assert (end, fits(received)) == (ends, True), received[-300:]


# What aiohttp makes of each fault; None: it sees the good answer.
_TO_AIOHTTP = [
    (Fault.RESET, aiohttp.ClientConnectionError),
    (Fault.CLOSE, aiohttp.ServerDisconnectedError),
    (Fault.HANG, TimeoutError),
    (Fault.CUT_HEAD, aiohttp.ServerDisconnectedError),
    (Fault.HANG_HEAD, TimeoutError),
    (Fault.BAD_STATUS_LINE, aiohttp.ClientResponseError),
    (Fault.LONG_HEADER, aiohttp.ClientResponseError),
    (Fault.RESET_BODY, aiohttp.ClientError),
    (Fault.CUT_BODY, aiohttp.ClientPayloadError),
    (Fault.CUT_CHUNK, aiohttp.ClientPayloadError),
    (Fault.HANG_BODY, TimeoutError),
    (Fault.BAD_GZIP, aiohttp.ClientPayloadError),
    (Fault.SLOW_HEAD, None),
    (Fault.SLOW_BODY, None),
    (Fault.KEEP_ALIVE, None),
    (Fault.CHUNKED, None),
    (Fault.NO_LENGTH, None),
    (Fault.GZIP, None),
]


@pytest.mark.parametrize(("fault", "error"), _TO_AIOHTTP, ids=[fault for fault, _ in _TO_AIOHTTP])
async def test_a_fault_reaches_aiohttp(fault: Fault, error: type[Exception] | None):
    """Each fault raises in an HTTP client what real ones raise, and the harmless ones give the good answer."""
    script = rules(({}, {"fault": fault, "step_s": 0.001, "duration_s": 0.02}))
    async with serve(script) as server, aiohttp.ClientSession() as session:
        url, timeout = server.base_url + "/chat/completions", aiohttp.ClientTimeout(total=0.3 if error else 3)

        async def ask() -> bytes:
            async with session.post(url, data=a_body(), timeout=timeout) as response:
                return await response.read()

        if error is not None:
            with pytest.raises(error):
                await ask()
        else:
            assert json.loads(await ask())["choices"][0]["message"]["content"] == good_answer(an_ask())


async def test_a_slow_reply_outlasts_a_total_timeout():
    """A byte now and then keeps a connection busy for as long as the script says."""
    async with serve(rules(({}, {"fault": "slow_body", "step_s": 0.05}))) as server:
        received, end = await raw(server, patience_s=0.4)
    assert end == "silence"
    assert 3 <= len(received.partition(b"\r\n\r\n")[2]) <= 12


async def test_latency_lies_in_its_range():
    """A range of latencies is kept to, and differs from row to row."""
    async with playing(rules(({}, {"latency_s": [0.02, 0.06]}))) as client:
        for number in range(4):
            await client.ask(f"row-{number}")
        took = [exchange.completion.t - exchange.arrival.t for exchange in await until_done(client.server, 4)]
    assert all(0.019 <= seconds < 0.5 for seconds in took)
    assert len({round(seconds, 4) for seconds in took}) > 1


# Asking for patience


def _date_gap_s(headers: dict[str, str]) -> float:
    return (parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])).total_seconds()


def _clock_gap_s(headers: dict[str, str]) -> float:
    return abs((parsedate_to_datetime(headers["date"]) - datetime.now(UTC)).total_seconds())


_FORMS: dict[WaitForm, Callable[[dict[str, str]], bool]] = {
    WaitForm.SECONDS: lambda headers: headers["retry-after"] == "90",
    WaitForm.MS: lambda headers: headers["retry-after-ms"] == "90000" and "retry-after" not in headers,
    WaitForm.BOTH: lambda headers: (headers["retry-after-ms"], headers["retry-after"]) == ("90000", "95"),
    WaitForm.DATE: lambda headers: _date_gap_s(headers) == 90 and _clock_gap_s(headers) < 5,
    WaitForm.SKEWED_DATE: lambda headers: _date_gap_s(headers) == 90 and _clock_gap_s(headers) > 80_000,
    WaitForm.PAST_DATE: lambda headers: _date_gap_s(headers) < 0,
    WaitForm.NEGATIVE: lambda headers: headers["retry-after"] == "-90",
    WaitForm.GARBAGE: lambda headers: headers["retry-after"] == "soon",
    WaitForm.NAN: lambda headers: headers["retry-after"] == "nan",
    WaitForm.INFINITE: lambda headers: headers["retry-after"] == "inf",
    WaitForm.EMPTY: lambda headers: headers["retry-after"] == "",
}


@pytest.mark.parametrize("form", WaitForm)
async def test_retry_after_comes_in_every_form(form: WaitForm):
    """Each form of Retry-After is written as its name says."""
    async with playing(rules(({}, {"status": 429, "retry_after": {"form": form, "wait_s": 90}}))) as client:
        assert _FORMS[form]((await client.ask()).headers)


@pytest.mark.parametrize(("wait_s", "text"), [(1, "1"), (0.25, "0.25"), (3600, "3600")])
async def test_a_number_asks_for_so_many_seconds(wait_s: float, text: str):
    """A plain number in the script is Retry-After in seconds."""
    async with playing(rules(({}, {"status": 429, "retry_after": wait_s}))) as client:
        assert (await client.ask()).headers["retry-after"] == text


# Rules


@pytest.mark.parametrize(
    ("when", "hits"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"nth": [2, 5]}, [2, 5]),
        ({"every": 3}, [3, 6]),
        ({"first": 2}, [1, 2]),
        ({"after": 4}, [5, 6]),
        ({"first": 4, "every": 2}, [2, 4]),
        ({"times": 2}, [1, 2]),
        ({"every": 2, "times": 1}, [2]),
        ({"mark": "row-[12]"}, [1, 2]),
        ({"mark": "row"}, []),
        ({"model": "m"}, [1, 2, 3, 4, 5, 6]),
        ({"model": "other"}, []),
        ({"key": "sk-2"}, []),
        ({"attempt": [2]}, []),
        ({"share": 0.0}, []),
        ({"share": 1.0}, [1, 2, 3, 4, 5, 6]),
        ({"after_s": 1.0}, [3, 4, 5, 6]),
        ({"before_s": 1.0}, [1, 2]),
    ],
    ids=str,
)
async def test_a_rule_acts_when_all_its_conditions_hold(when: dict[str, Any], hits: list[int]):
    """Of six rows that come half a second apart, a rule takes those its conditions name."""
    director = Director(load_script(rules((when, {"status": 500}))))
    chosen = [n for n in range(1, 7) if director.choose(an_ask(n), (n - 1) * 0.5).rule == 0]
    assert chosen == hits


async def test_the_first_rule_that_holds_decides():
    """Rules are tried in order."""
    async with playing(rules(({"nth": [1]}, {"status": 500}), ({}, {"status": 503}))) as client:
        assert [(await client.ask()).status for _ in range(2)] == [500, 503]


async def test_a_row_can_fail_on_its_first_attempt_only():
    """`attempt` counts how often a mark was seen."""
    async with playing(rules(({"attempt": [1]}, {"status": 500}))) as client:
        statuses = [(await client.ask(mark)).status for mark in ("row-1", "row-2", "row-1", "row-2")]
    assert statuses == [500, 500, 200, 200]


async def test_a_key_can_be_refused():
    """A rule may look at the key, as a provider does."""
    async with playing(rules(({"key": "sk-bad"}, {"status": 401}))) as client:
        assert [(await client.ask(key=key)).status for key in ("sk-bad", "sk-good")] == [401, 200]


async def test_headers_change_from_reply_to_reply():
    """Of several values of a header each reply takes the next one, and the last one stays."""
    script = rules(({}, {"headers": {"x-ratelimit-limit-requests": ["10000", "100"]}}))
    async with playing(script) as client:
        limits = [(await client.ask()).headers["x-ratelimit-limit-requests"] for _ in range(3)]
    assert limits == ["10000", "100", "100"]


async def test_another_script_can_be_played():
    """A server can change its script while it runs."""
    async with playing(rules(({}, {"status": 401}))) as client:
        refused = (await client.ask()).status
        client.server.play({})
        assert (refused, (await client.ask()).status) == (401, 200)


@given(seed=st.integers(0, 2**32), order=st.permutations(range(1, 21)))
def test_a_share_does_not_depend_on_the_order_of_arrival(seed: int, order: list[int]):
    """Which rows a share takes is set by the seed and the rows alone."""
    script = Script(seed=seed, rules=load_script(rules(({"share": 0.4}, {"status": 500}))).rules)

    def taken(rows: list[int]) -> set[int]:
        director = Director(script)
        return {
            row for n, row in enumerate(rows, start=1) if director.choose(an_ask(n, mark=f"row-{row}"), 0).rule == 0
        }

    assert taken(order) == taken(sorted(order))


def test_the_mixed_faults_have_their_shares():
    """5% 429, 3% 500, 1% no choices, 1% HTML, 0.5% reset and 0.5% hang come to about that."""
    director = Director(load_script(mixed_faults(seed=3)))
    counts = Counter(director.choose(an_ask(n), 0).rule for n in range(1, 10_001))
    for rule, share in enumerate([0.05, 0.03, 0.01, 0.01, 0.005, 0.005]):
        assert 0.6 * share < counts[rule] / 10_000 < 1.4 * share
    assert counts[-1] > 8_800


def test_a_storm_and_an_outage_end():
    """The storm refuses everything until its time is over, the outage everything between its times."""
    stormy = Director(load_script(storm(5, requests_per_min=600)))
    assert [stormy.choose(an_ask(), at).rule for at in (0, 4.9, 5)] == [0, 0, -1]
    broken = Director(load_script(outage(1, 2)))
    assert [broken.choose(an_ask(), at).rule for at in (0, 1, 1.9, 2)] == [-1, 0, 0, -1]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ({"rules": [{"when": {"nht": [1]}, "do": {}}]}, "nht"),
        ({"rules": [{"do": {"body": "bananas"}}]}, "no body 'bananas'"),
        ({"rules": [{"do": {"fault": "bananas"}}]}, "bananas"),
        ({"rules": [{"do": {"status": 99}}]}, "status must be between 200 and 599"),
        ({"rules": [{"when": {"mark": "("}, "do": {}}]}, "not a regular expression"),
        ({"rules": [{"when": {"share": 5}, "do": {}}]}, "share must be between 0 and 1"),
        ({"rules": [{"when": {}}]}, "do"),
        ({"bukets": []}, "bukets"),
        ({"buckets": [{"when": {"times": 3}}]}, "share and times can't be set"),
    ],
    ids=["condition", "body", "fault", "status", "pattern", "share", "no-action", "key", "bucket"],
)
async def test_a_wrong_script_is_refused(script: dict[str, Any], says: str):
    """A mistake in a script is an error that names it, not a fault that never happens."""
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        load_script(script)


# Buckets


@given(
    per_min=st.floats(30, 6000),
    window_s=st.sampled_from([0.1, 1.0, 60.0]),
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_a_bucket_never_lets_more_through_than_its_depth_and_rate(per_min: float, window_s: float, gaps: list[float]):
    """Between any two moments no more requests pass than one bucketful and what flowed in."""
    gate = Gate(Bucket(requests_per_min=per_min, window_s=window_s))
    passed, now = [], 0.0
    for gap in gaps:
        now += gap
        if gate.admit(an_ask(), now, 1) is None:
            passed.append(now)
    depth = max(1.0, per_min * window_s / 60)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= depth + (passed[last] - start) * per_min / 60 + 1e-6


async def test_a_rate_is_enforced_in_slices():
    """600 a minute in buckets of 0.1 s is one at a time; after the Retry-After the next one passes."""
    async with playing({"buckets": [{"requests_per_min": 600, "window_s": 0.1}]}) as client:
        replies = [await client.ask(f"row-{number}") for number in range(3)]
        await asyncio.sleep(float(replies[-1].headers["retry-after"]) + 0.005)
        later = await client.ask()
    assert [reply.status for reply in replies] == [200, 429, 429]
    assert 0 < float(replies[1].headers["retry-after"]) <= 0.1
    assert later.status == 200
    assert [exchange.completion.rule for exchange in client.server.log.exchanges()] == [-1, -2, -2, -1]


async def test_tokens_are_enforced():
    """Prompt and allowed output count against tokens per minute, and the refusal says that it was tokens."""
    async with playing({"buckets": [{"tokens_per_min": 600, "window_s": 10}]}) as client:
        replies = [await client.ask(max_tokens=70), await client.ask(max_tokens=70)]
    assert [reply.status for reply in replies] == [200, 429]
    assert replies[1].json["error"]["type"] == "tokens"


async def test_limits_are_told_and_fall():
    """A bucket that advertises tells limit, what is left and when it is full again; a later one takes its place."""
    script = {
        "buckets": [
            {"when": {"first": 2}, "requests_per_min": 600, "window_s": 1, "advertise": True},
            {"when": {"after": 2}, "requests_per_min": 60, "window_s": 1, "advertise": True},
        ]
    }
    async with playing(script) as client:
        headers = [(await client.ask()).headers for _ in range(3)]
    assert [each["x-ratelimit-limit-requests"] for each in headers] == ["600", "600", "60"]
    assert [each["x-ratelimit-remaining-requests"] for each in headers] == ["9", "8", "0"]
    assert headers[0]["x-ratelimit-reset-requests"].endswith("s")


# The log


async def test_the_log_tells_each_request_and_its_reply():
    """Arrival and completion hold what a checker needs, and the key only as a digest."""
    async with playing(rules(({"nth": [2]}, {"body": "server_error"}))) as client:
        await client.ask("row-9", key="sk-secret-key", max_tokens=33)
        await client.ask("row-9")
        good, bad = client.server.log.exchanges()
    assert (good.arrival.mark, good.arrival.attempt, good.arrival.max_tokens) == ("row-9", 1, 33)
    assert (good.completion.status, good.completion.outcome, good.completion.rule) == (200, "whole", -1)
    assert good.completion.answer == digest(good_answer(an_ask(mark="row-9")))
    assert good.completion.usage is not None
    assert good.completion.t >= good.arrival.t
    assert (bad.arrival.attempt, bad.completion.status, bad.completion.answer, bad.completion.rule) == (2, 500, None, 0)
    assert "sk-secret-key" not in repr(good)
    assert good.arrival.key == digest("sk-secret-key")


@pytest.mark.parametrize(
    ("fault", "outcome", "status"),
    [("hang", "gone", 0), ("hang_body", "gone", 200), ("reset", "partial", 0), ("cut_body", "partial", 200)],
)
async def test_the_log_tells_how_a_reply_ended(fault: str, outcome: str, status: int):
    """A client that leaves and a reply that is cut by script are told apart."""
    async with serve(rules(({}, {"fault": fault}))) as server:
        await raw(server, patience_s=0.1)
        (exchange,) = await until_done(server)
    assert (exchange.completion.outcome, exchange.completion.status) == (outcome, status)


async def test_a_client_that_leaves_at_once_is_logged():
    """However quickly a client goes, a request that came whole has both its lines."""
    async with serve(rules(({}, {"latency_s": 0.2}))) as server:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(a_request())
            writer.close()
        exchanges = await until_done(server, 20)
    assert {exchange.completion.outcome for exchange in exchanges} == {"gone"}


async def test_a_stopped_server_completes_its_log():
    """Replies that are under way when the server stops get their line as well."""
    async with serve(rules(({}, {"fault": "hang"}))) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(a_request())
        await eventually(lambda: bool(server.log.exchanges()))
    assert [exchange.completion.outcome for exchange in server.log.exchanges()] == ["stopped"]
    writer.close()


_CLIENT = """
import asyncio, sys
async def ask(port, number):
    body = b'{"model":"m","messages":[{"role":"user","content":"mark=row-%d;"}]}' % number
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
        await reader.readuntil(b"}}")
async def main(port):
    await asyncio.gather(*(ask(port, number) for number in range(8)))
asyncio.run(main(int(sys.argv[1])))
"""


def test_the_log_outlives_a_killed_client(tmp_path: Path):
    """After a kill -9 of the client every request it sent has both its lines in the file."""
    with server_process(tmp_path, {"default": {"latency_s": 0.01}}) as server:
        port = server.base_url.split(":")[2].split("/")[0]
        with subprocess.Popen([sys.executable, "-c", _CLIENT, port]) as client:
            deadline = time.monotonic() + 10
            while len(server.exchanges()) < 40 and time.monotonic() < deadline:
                time.sleep(0.01)
            client.send_signal(signal.SIGKILL)
    exchanges = read_log(tmp_path / "server.jsonl")
    assert len(exchanges) >= 40
    assert all(exchange.completion is not None for exchange in exchanges)
    assert {exchange.completion.outcome for exchange in exchanges} <= {"whole", "gone", "stopped"}


async def test_a_log_goes_on_when_the_server_is_started_again(tmp_path: Path):
    """Two servers after each other on one file give one log, with every reply at its own request."""
    path = tmp_path / "server.jsonl"
    for mark, status in (("row-1", 500), ("row-2", 200)):
        script = rules(({"mark": "row-1"}, {"status": 500}))
        async with serve(script, log_path=path) as server, aiohttp.ClientSession() as session:
            assert (await Client(session, server).ask(mark)).status == status
    told = [(exchange.arrival.mark, exchange.completion.status) for exchange in read_log(path)]
    assert told == [("row-1", 500), ("row-2", 200)]


async def test_a_line_cut_short_is_left_out(tmp_path: Path):
    """A log whose last line is torn, as while it is written, reads up to there."""
    path = tmp_path / "server.jsonl"
    async with serve(log_path=path) as server, aiohttp.ClientSession() as session:
        await Client(session, server).ask()
    path.write_bytes(path.read_bytes()[:-10])
    (exchange,) = read_log(path)
    assert exchange.completion is None


def test_a_server_that_can_not_start_says_why(tmp_path: Path):
    """A wrong script ends the process at once, with the mistake in what is raised."""
    with pytest.raises(ValueError, match="bukets"), server_process(tmp_path, {"bukets": []}):
        pass


async def test_a_plain_request_is_cheap(tmp_path: Path):
    """The server spends less than a 5,000th of a second of CPU on a request without a fault."""
    requests, connections = 4_000, 16

    async def ask(port: int, first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, requests, connections):
            writer.write(a_request(f"row-{number}"))
            await reader.readuntil(b"}}")
        writer.close()

    with server_process(tmp_path, {}) as server:
        before = _cpu_s(server.pid)
        port = int(server.base_url.split(":")[2].split("/")[0])
        async with asyncio.TaskGroup() as group:
            for first in range(connections):
                group.create_task(ask(port, first))
        spent = _cpu_s(server.pid) - before
        assert len(server.exchanges()) == requests
    assert spent / requests < 1 / 5_000


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_every_error_body_is_reachable_and_no_two_are_alike():
    """Each named error is a distinct pair of status and body."""
    assert len({(reply.status, reply.body) for reply in ERRORS.values()}) == len(ERRORS)
    assert all(400 <= reply.status < 600 for reply in ERRORS.values())
