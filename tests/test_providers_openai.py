"""The OpenAI dialect: golden bodies of those who speak it, and every rule of its requests, usage, errors and waits."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CallError, ErrorKind, JobError
from pipeline.providers.failures import retry_after_s
from pipeline.providers.openai import OpenAIAdapter
from pipeline.records import Answer, Finish, HttpResponse, Model, Parameters, Usage, UsageStatus
from tests.builders import a_request

ADAPTER = OpenAIAdapter()
PARAMETERS = Parameters(max_output_tokens=64, temperature=0.0)
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def a_model(**options: Any) -> Model:
    return Model("m", "p", 128_000, (), options=options)


def a_completion(content: Any = "yes", finish: Any = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"id": "c1", "model": "m-2026", "choices": [choice], "usage": USAGE} | fields


def decode(body: Any, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ADAPTER.decode(
        HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)
    )


def refused(body: Any, status: int = 200, **headers: str) -> CallError:
    with pytest.raises(CallError) as caught:
        decode(body, status, **headers)
    return caught.value


def sent(model: Model, parameters: Parameters = PARAMETERS, **request: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(OpenAIAdapter().encode(a_request(**request), model, parameters).body)
    return body


# ----------------------------------------------------------------------------------------------------- finish reasons

WORDS: dict[Finish, list[str | None]] = {
    Finish.OK: ["stop", "end_turn", "stop_sequence", "STOP"],
    Finish.TRUNCATED: [
        "length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded", "CONTINUATION", "pause_turn"
    ],
    Finish.BLOCKED: [
        "content_filter", "refusal", "sensitive", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
        "LANGUAGE", "MODEL_ARMOR",
    ],
    Finish.INCOMPLETE: [
        "insufficient_system_resource", "network_error", "error", "aborted", "OTHER", "MALFORMED_RESPONSE",
        "MALFORMED_FUNCTION_CALL", None, "",
    ],
    Finish.UNEXPECTED: ["tool_calls", "function_call", "tool_use"],
    Finish.UNKNOWN: ["Stop", "finished", "eos", "\x00"],
}  # fmt: skip


@pytest.mark.parametrize(("finish", "word"), [(finish, word) for finish, words in WORDS.items() for word in words])
def test_each_finish_reason_has_one_meaning(finish: Finish, word: str | None) -> None:
    """A known word has its meaning, no word is an answer broken off, any other is unknown; the raw word is kept."""
    answer = decode(a_completion(finish=word))

    assert (answer.finish, answer.raw_finish) == (finish, word or "")


@given(word=st.text(min_size=1))
def test_only_four_words_end_a_good_answer(word: str) -> None:
    """Whatever word a provider makes up, the answer is ok only after one of the four known ones."""
    assert (decode(a_completion(finish=word)).finish is Finish.OK) == (word in WORDS[Finish.OK])


@pytest.mark.parametrize(
    "body",
    [
        a_completion(None),
        a_completion(""),
        a_completion(" \n\t"),
        a_completion([]),
        a_completion([{"type": "thinking", "thinking": []}]),
        a_completion(choices=[]),
        a_completion(choices=None),
        a_completion(choices=[{"index": 0, "finish_reason": "stop"}]),
    ],
    ids=["null", "empty", "white", "no parts", "only thinking", "no choices", "null choices", "no message"],
)
def test_nothing_said_is_an_empty_answer_with_its_usage(body: dict[str, Any]) -> None:
    """An answer without content is empty, never ok, and what it cost is kept."""
    answer = decode(body)

    assert (answer.finish, answer.text.strip(), answer.usage) == (Finish.EMPTY, "", Usage(10, 2))


def test_a_refusal_beside_content_is_blocked_with_the_content_kept() -> None:
    """`message.refusal` blocks the answer whatever else it holds."""
    body = a_completion()
    body["choices"][0]["message"]["refusal"] = "I won't."

    assert (decode(body).finish, decode(body).text) == (Finish.BLOCKED, "yes")


def test_of_several_choices_the_one_of_index_0_counts() -> None:
    """Choices that nobody asked for, in any order, never change the answer."""
    first, other = a_completion("mine")["choices"][0], a_completion("not mine")["choices"][0] | {"index": 1}

    assert decode(a_completion(choices=[other, first])).text == "mine"
    assert decode(a_completion(choices=[first, other])).text == "mine"
    assert decode(a_completion(choices=[other, other])).text == "not mine"


# -------------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": "10"},
        {"prompt_tokens": 10.5},
        {"prompt_tokens": None},
        {"prompt_tokens": float("nan")},
        {"prompt_tokens": float("inf")},
        {"prompt_tokens": 10**10},
        {"completion_tokens": []},
        {"total_tokens": 13},
        {"prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}},
        {"prompt_tokens_details": {"cached_tokens": "6"}},
        {"prompt_tokens_details": [6]},
        {"completion_tokens_details": {"reasoning_tokens": 3}},
        {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
        {"prompt_cache_hit_tokens": 11},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"completion_tokens": 0, "total_tokens": 10},
    ],
    ids=str,
)
def test_usage_that_cannot_be_is_not_believed(changes: dict[str, Any]) -> None:
    """Impossible or contradictory counts leave the answer whole and its usage invalid, so that nobody adds them up."""
    answer = decode(a_completion(usage=USAGE | changes))

    assert (answer.text, answer.finish, answer.model_echo) == ("yes", Finish.OK, "m-2026")
    assert (answer.usage, answer.usage_status) == (None, UsageStatus.INVALID)


@pytest.mark.parametrize("number", ["1e999", "-0.5", "NaN", "1" * 40])
def test_usage_with_a_number_beyond_json_or_reason_is_not_believed(number: str) -> None:
    """A count that Python's own JSON can't write is refused too, and the answer kept."""
    body = json.dumps(a_completion()).replace('"prompt_tokens": 10', f'"prompt_tokens": {number}').encode()

    assert (decode(body).text, decode(body).usage_status) == ("yes", UsageStatus.INVALID)


@pytest.mark.parametrize(
    "body", [a_completion(usage=None), {"choices": a_completion()["choices"]}], ids=["null", "none"]
)
def test_missing_usage_is_missing(body: dict[str, Any]) -> None:
    """Usage that was not sent is said to be missing."""
    assert (decode(body).usage, decode(body).usage_status) == (None, UsageStatus.MISSING)


def test_usage_of_an_unusable_shape_is_invalid() -> None:
    """Usage that is no object, or an empty one, is invalid and not missing."""
    shapes: list[Any] = [[], 7, "x", {}]
    for usage in shapes:
        assert decode(a_completion(usage=usage)).usage_status is UsageStatus.INVALID


@given(
    fresh=st.integers(1, 10**6),
    cached=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    out=st.integers(1, 10**6),
    data=st.data(),
)
def test_usage_comes_out_in_disjoint_classes(
    fresh: int, cached: int, written: int, out: int, data: st.DataObject
) -> None:
    """Fresh, cached and cache-writing tokens add up to the prompt; thinking stays inside the output."""
    thinking = data.draw(st.integers(0, out))
    prompt = fresh + cached + written
    details = {"cached_tokens": cached, "cache_write_tokens": written}

    usage = decode(
        a_completion(
            usage={
                "prompt_tokens": prompt,
                "completion_tokens": out,
                "total_tokens": prompt + out,
                "prompt_tokens_details": details,
                "completion_tokens_details": {"reasoning_tokens": thinking},
            }
        )
    ).usage

    assert usage == Usage(fresh, out, cached, written, 0, thinking)
    assert usage.total_input == prompt


# ------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   \n",
        b"null",
        b"[]",
        b"7",
        b'"stop"',
        b"{}",
        b"<html>busy</html>",
        b'{"choices": [{"message": {"content": "ye',
        b'{"choices": [{"message": {"content": "\xff"}, "finish_reason": "stop"}]}',
        b'{"choices": "none"}',
        b'{"choices": [7]}',
        b'{"choices": "\\ud800"}',
        b'{"choices": [{"\\ud800": 7, "message": 7}]}',
        b'{"choices": [{"message": "yes", "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "yes"}, "finish_reason": 7}]}',
        b'{"choices": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"choices": [], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"choices": ' + b"1" * 5000 + b"}",
        b'{"choices": [], "usage": {"prompt_tokens": ' + b"1" * 5000 + b"}}",
        '{"choices": []}'.encode("utf-16"),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_rubbish_with_status_200_is_a_bad_body_that_may_have_been_paid(body: bytes) -> None:
    """What can't be read as an answer is a bad body, said without quoting it."""
    error = refused(body, content_type="text/html")

    assert (error.kind, error.maybe_paid, error.status) == (ErrorKind.BAD_BODY, True, 200)
    assert f"{len(body)} bytes" in error.message


def test_every_beginning_of_a_good_body_is_a_bad_body() -> None:
    """A body torn at any byte gives no answer, not even a shorter one."""
    body = json.dumps(a_completion("Paris ist schön"), ensure_ascii=False).encode()

    for length in range(len(body)):
        assert refused(body[:length]).kind is ErrorKind.BAD_BODY


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=x", ""])
def test_a_wrong_content_type_does_not_spoil_a_good_body(content_type: str) -> None:
    """Only the body decides whether it is an answer."""
    assert decode(a_completion(), content_type=content_type).text == "yes"


def test_a_byte_order_mark_and_duplicate_keys_are_tolerated() -> None:
    """A byte order mark is skipped, and of duplicate keys the last one counts, as in every JSON library."""
    body = json.dumps(a_completion()).encode()

    assert decode(b"\xef\xbb\xbf" + body).text == "yes"
    assert decode(body.replace(b'"content": "yes"', b'"content": "no", "content": "yes"')).text == "yes"


def test_lone_surrogates_become_replacement_characters() -> None:
    """A lone surrogate in any text that is kept becomes U+FFFD; a pair stays the letter it stands for."""
    answer = decode(a_completion("a\ud800b 😀", id="c\udfff", model="m\ud800"))

    assert (answer.text, answer.provider_request_id, answer.model_echo) == ("a\ufffdb 😀", "c\ufffd", "m\ufffd")
    assert answer.usage == Usage(10, 2)


def test_usage_and_errors_with_surrogates_are_read_as_others() -> None:
    """A lone surrogate where a number or a code belongs breaks nothing."""
    assert decode(a_completion("\udfff", usage={"\ud800": 1})).usage_status is UsageStatus.INVALID
    assert refused(nested(code="\ud800", message="a\udfffb"), 429).message == "a\ufffdb"


def test_names_of_a_wrong_type_do_not_cost_the_answer() -> None:
    """A number for id or model is dropped, and the paid answer kept."""
    answer = decode(a_completion(id=7, model=["m"]))

    assert (answer.text, answer.provider_request_id, answer.model_echo, answer.usage) == ("yes", "", "", Usage(10, 2))


def test_an_error_that_is_null_or_empty_is_none() -> None:
    """Gateways that write `"error": null` into good answers are understood."""
    nothings: list[Any] = [None, {}, "", False]
    for nothing in nothings:
        assert decode(a_completion(error=nothing)).text == "yes"


# ------------------------------------------------------------------------------------------------------------- errors


def nested(**error: Any) -> dict[str, Any]:
    return {"error": error}


def openai_error(code: str | None, type_: str = "invalid_request_error", message: str = "m") -> dict[str, Any]:
    return nested(message=message, type=type_, param=None, code=code)


def anthropic_error(type_: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": type_, "message": more.pop("message", "m")} | more,
        "request_id": "req_1",
    }


def gemini_error(code: int, status: str, *details: dict[str, Any], message: str = "m") -> dict[str, Any]:
    return nested(code=code, message=message, status=status, details=list(details))


def glm_error(code: str | int) -> dict[str, Any]:
    return nested(code=code, message="m")


def mistral_error(code: str, type_: str) -> dict[str, Any]:
    return {"object": "error", "message": "m", "type": type_, "param": None, "code": code}


def quota_failure(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


K = ErrorKind
ERRORS: list[tuple[ErrorKind, int, Any]] = [
    # by status alone
    *[(K.AUTH, status, None) for status in (401, 403)],
    (K.QUOTA, 402, None),
    (K.RATE, 429, None),
    *[(K.OVERLOAD, status, None) for status in (503, 529)],
    *[(K.SERVER, status, None) for status in (500, 502, 504, 520, 521, 522, 523, 524, 599)],
    *[(K.TIMEOUT, status, None) for status in (408, 409)],
    *[(K.BAD_REQUEST, status, None) for status in (400, 413, 418, 422)],
    *[(K.CONFIG, status, None) for status in (301, 302, 307, 308, 404, 405, 410)],
    # OpenAI
    (K.AUTH, 401, openai_error("invalid_api_key")),
    (K.AUTH, 403, openai_error("unsupported_country_region_territory", "request_forbidden")),
    (K.QUOTA, 429, openai_error("insufficient_quota", "insufficient_quota")),
    (K.QUOTA, 400, openai_error("billing_hard_limit_reached")),
    (K.RATE, 429, openai_error("rate_limit_exceeded", "tokens")),
    (K.RATE, 429, openai_error(None)),
    (K.SERVER, 500, openai_error(None, "server_error")),
    (K.OVERLOAD, 503, openai_error(None, "service_unavailable_error")),
    (K.BAD_REQUEST, 400, openai_error("context_length_exceeded")),
    (K.CONFIG, 400, openai_error("unsupported_parameter")),
    (K.CONFIG, 404, openai_error("model_not_found")),
    (K.BLOCKED, 400, openai_error("content_policy_violation")),
    (K.BLOCKED, 400, openai_error("content_filter") | {"x": 1}),
    (K.BLOCKED, 400, nested(message="m", code=None, innererror={"code": "ResponsibleAIPolicyViolation"})),
    # Anthropic
    (K.AUTH, 401, anthropic_error("authentication_error")),
    (K.AUTH, 403, anthropic_error("permission_error")),
    (K.QUOTA, 402, anthropic_error("billing_error")),
    (K.QUOTA, 429, anthropic_error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
    (K.QUOTA, 400, anthropic_error("invalid_request_error", message="Your credit balance is too low to access")),
    (
        K.QUOTA,
        400,
        anthropic_error("invalid_request_error", message="You have reached your specified API usage limits."),
    ),
    (K.RATE, 429, anthropic_error("rate_limit_error")),
    (K.RATE, 429, anthropic_error("rate_limit_error", details={"error_code": "ramp_limit_exceeded"})),
    (K.OVERLOAD, 529, anthropic_error("overloaded_error")),
    (K.SERVER, 500, anthropic_error("api_error")),
    (K.SERVER, 504, anthropic_error("timeout_error")),
    (K.BAD_REQUEST, 413, anthropic_error("request_too_large")),
    (K.BAD_REQUEST, 400, anthropic_error("invalid_request_error")),
    # Gemini
    (K.AUTH, 400, gemini_error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"})),
    (K.AUTH, 403, gemini_error(403, "PERMISSION_DENIED")),
    (K.QUOTA, 429, gemini_error(429, "RESOURCE_EXHAUSTED", quota_failure("GenerateRequestsPerDayPerProject"))),
    (K.QUOTA, 429, gemini_error(429, "RESOURCE_EXHAUSTED", message="Quota exceeded for metric x, limit: 0, model: y")),
    (K.RATE, 429, gemini_error(429, "RESOURCE_EXHAUSTED", quota_failure("GenerateRequestsPerMinutePerProject"))),
    (K.RATE, 429, gemini_error(429, "RESOURCE_EXHAUSTED", message="Quota exceeded, limit: 1000")),
    (K.OVERLOAD, 503, gemini_error(503, "UNAVAILABLE")),
    (K.SERVER, 504, gemini_error(504, "DEADLINE_EXCEEDED")),
    (K.BAD_REQUEST, 400, gemini_error(400, "INVALID_ARGUMENT")),
    (K.RATE, 429, [gemini_error(429, "RESOURCE_EXHAUSTED")]),
    # GLM: the code decides, whatever the status
    *[(K.AUTH, 401, glm_error(code)) for code in ("1000", "1001", "1002", "1003", "1004")],
    *[(K.QUOTA, 429, glm_error(code)) for code in ("1110", "1112", "1113", "1121", "1304", "1308", "1310")],
    *[(K.RATE, 429, glm_error(code)) for code in ("1302", "1303", 1302)],
    *[(K.OVERLOAD, 429, glm_error(code)) for code in ("1305", "1312")],
    *[(K.SERVER, 500, glm_error(code)) for code in ("500", "1234")],
    *[(K.BAD_REQUEST, 400, glm_error(code)) for code in ("1210", "1213", "1214", "1215", "1261")],
    *[(K.CONFIG, 400, glm_error(code)) for code in ("1211", "1212")],
    (K.BLOCKED, 400, glm_error("1301")),
    # Mistral
    (K.AUTH, 401, {"detail": "Unauthorized"}),
    (K.RATE, 429, mistral_error("1300", "rate_limited")),
    (K.OVERLOAD, 429, mistral_error("3505", "service_tier_capacity_exceeded")),
    (K.SERVER, 500, mistral_error("1000", "internal_server_error")),
    (K.CONFIG, 400, mistral_error("1500", "invalid_model")),
    (
        K.BAD_REQUEST,
        422,
        {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": "secret"}]},
    ),
    # an error inside a 200
    (K.BLOCKED, 200, openai_error("image_content_policy_violation")),
    (K.BAD_REQUEST, 200, openai_error("failed_to_download_image")),
    (K.RATE, 200, nested(message="m", code=429)),
    (K.AUTH, 200, nested(message="m", code=401)),
    (K.QUOTA, 200, openai_error("insufficient_quota")),
    (K.BAD_REQUEST, 200, openai_error(None)),
    (K.SERVER, 200, nested(message="upstream failed")),
    (K.SERVER, 200, {"error": "upstream failed"}),
    (K.SERVER, 200, {"code": 500, "msg": "404 NOT_FOUND", "success": False}),
    (K.OVERLOAD, 200, a_completion(error={"type": "overloaded_error", "message": "m"})),
]


@pytest.mark.parametrize(("kind", "status", "body"), ERRORS, ids=lambda value: str(value)[:60])
def test_each_error_has_one_class(kind: ErrorKind, status: int, body: Any) -> None:
    """The body decides on the class of an error, and the status where the body says nothing."""
    error = refused(b"<html></html>" if body is None else body, status)

    assert (error.kind, error.status) == (kind, status)
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (429, "false", K.QUOTA),
        (500, "false", K.BAD_REQUEST),
        (429, "true", K.RATE),
        (500, "true", K.SERVER),
        (400, "true", K.BAD_REQUEST),
        (401, "true", K.AUTH),
        (503, "false", K.OVERLOAD),
    ],
)
def test_x_should_retry_decides_only_on_rate_and_server_errors(status: int, told: str, kind: ErrorKind) -> None:
    """`x-should-retry: false` ends waiting that would not help, and nothing makes a wrong request worth repeating."""
    assert refused(b"", status, x_should_retry=told).kind is kind


@pytest.mark.parametrize(
    ("status", "paid"), [(200, True), (408, True), (504, True), (524, True), (429, False), (500, False)]
)
def test_what_may_have_been_paid_is_said(status: int, paid: bool) -> None:
    """A model may have run to its end behind a gateway that gave up; a refusal costs nothing."""
    assert refused(nested(message="m"), status).maybe_paid is paid


@pytest.mark.parametrize(
    "key", ["sk-proj-abc123", "Bearer abc", "0123456789abcdef0123456789abcdef.AbCdEf0123456789", "A" * 39]
)
def test_a_key_that_an_error_repeats_is_masked(key: str) -> None:
    """Providers repeat a refused key in their message, and we don't."""
    error = refused(nested(message=f"Incorrect API key provided: {key}. Check it", code="invalid_api_key"), 401)

    assert error.message.startswith("Incorrect API key provided: [...]")
    assert key.removeprefix("Bearer ") not in str(error)


def test_an_error_message_is_one_short_line() -> None:
    """Line breaks, terminal escapes and length are taken from a message before it can reach a log."""
    error = refused(nested(message="a\n\x1b[31mb\t" + "c " * 500, code="x\x1b"), 400)

    assert error.message.startswith("a [31mb c c")
    assert len(error.message) <= 200
    assert error.code == "x"


def test_geminis_delay_in_the_body_counts_where_no_header_does() -> None:
    """`RetryInfo.retryDelay` is a Retry-After, and a header goes before it."""
    body = gemini_error(429, "RESOURCE_EXHAUSTED", {"retryDelay": "46s"}, {"retryDelay": "soon"})

    assert refused(body, 429).retry_after_s == 46
    assert refused(body, 429, retry_after="3").retry_after_s == 3


# -------------------------------------------------------------------------------------------------------- Retry-After

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after-ms": "342", "retry-after": "1"}, 0.342),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1),
        ({"retry-after-ms": "-5", "retry-after": "1"}, 1),
        *[({"retry-after": odd}, None) for odd in ("nan", "inf", "-inf", "1e999", "-1", "soon", "", "5 s", "0x5")],
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT", "date": NOW}, 90),
        ({"retry-after": "Wednesday, 21-Oct-26 07:29:30 GMT", "date": NOW}, 90),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30", "date": NOW}, 90),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT", "date": "now"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": NOW}, None),
        ({"retry-after": "Wed, 99 Oct 9999999 07:27:00 GMT", "date": NOW}, None),
    ],
    ids=str,
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], wait_s: float | None) -> None:
    """Milliseconds, then seconds, then a date measured by the server's own clock; nonsense is no wish at all."""
    assert retry_after_s(headers) == wait_s


@given(ms=st.none() | st.text(max_size=10), value=st.text(max_size=40), date=st.text(max_size=40))
def test_retry_after_is_never_negative_nor_endless(ms: str | None, value: str, date: str) -> None:
    """No text in the three headers gives anything but None or a finite number of seconds."""
    wait_s = retry_after_s({"retry-after": value, "date": date} | ({} if ms is None else {"retry-after-ms": ms}))

    assert wait_s is None or 0 <= wait_s < float("inf")


@given(
    now=st.integers(10**9, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    wait_s=st.integers(0, 10**6),
)
def test_a_date_counts_from_the_clock_of_the_server(now: datetime, wait_s: int) -> None:
    """The wait is the difference of the server's two dates, wherever our own clock stands."""
    until = now + timedelta(seconds=wait_s)

    headers = {"retry-after": format_datetime(until, usegmt=True), "date": format_datetime(now, usegmt=True)}

    assert retry_after_s(headers) == wait_s


@given(seconds=st.floats(0, allow_nan=False, allow_infinity=False) | st.integers(0, 10**9))
def test_a_number_of_seconds_is_taken_as_it_is(seconds: float) -> None:
    """Any finite number >= 0 is the wait it says."""
    assert retry_after_s({"retry-after": str(seconds)}) == seconds


# ----------------------------------------------------------------------------------------------------------- requests


def test_a_plain_row_is_one_user_message() -> None:
    """A row without a system text is one message, with the limits of the job."""
    request = OpenAIAdapter().encode(a_request(user="hé"), a_model(), PARAMETERS)

    assert request.path == "/chat/completions"
    assert json.loads(request.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hé"}],
        "max_tokens": 64,
        "temperature": 0,
    }


def test_a_system_text_comes_first() -> None:
    """The system text is a message of its own before the user's."""
    assert sent(a_model(), user="u", system="s")["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
    ]


@pytest.mark.parametrize("url", ["https://example.org/cat.png", "data:image/png;base64,AAAA"])
def test_an_image_is_a_part_after_the_text(url: str) -> None:
    """An image URL goes out as it is, after the text and alone where there is no text."""
    image = {"type": "image_url", "image_url": {"url": url}}

    assert sent(a_model(), user="what is it?", image=url)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}
    ]
    assert sent(a_model(), user="", image=url)["messages"] == [{"role": "user", "content": [image]}]


def test_ready_messages_go_out_as_they_are() -> None:
    """A list of messages of the user's replaces system and user, and an image joins its last message."""
    messages = [{"role": "assistant", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}

    assert sent(a_model(), messages=json.dumps(messages), user="x", system="y")["messages"] == messages
    with_image = sent(a_model(), messages=json.dumps(messages), image="https://example.org/a.png")["messages"]
    assert with_image == [messages[0], {"role": "user", "content": [{"type": "text", "text": "b"}, image]}]


def test_options_of_a_model_change_the_request() -> None:
    """A model that wants another name for the limit, no temperature and more fields gets them."""
    model = a_model(
        max_tokens_field="max_completion_tokens", temperature=False, body={"thinking": {"type": "disabled"}}
    )

    body = sent(model._replace(api_name="wire-name"))

    assert body.pop("messages")
    assert body == {"model": "wire-name", "max_completion_tokens": 64, "thinking": {"type": "disabled"}}


def test_no_temperature_is_not_sent() -> None:
    """A job without a temperature leaves it to the provider."""
    assert "temperature" not in sent(a_model(), PARAMETERS._replace(temperature=None))


SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'


@pytest.mark.parametrize(
    ("option", "schema", "choices", "format_schema"),
    [
        (None, SCHEMA, (), json.loads(SCHEMA)),
        (True, SCHEMA, (), json.loads(SCHEMA)),
        (False, SCHEMA, (), None),
        (None, None, ("a", "b"), None),
        (False, None, ("a", "b"), None),
        ("bare", None, ("a", "b"), {"type": "string", "enum": ["a", "b"]}),
        (
            True,
            None,
            ("a", "b"),
            {
                "type": "object",
                "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
                "required": ["label"],
                "additionalProperties": False,
            },
        ),
        (True, None, (), None),
    ],
)
def test_the_form_of_the_answer_is_asked_for_where_the_model_can(
    option: Any, schema: str | None, choices: tuple[str, ...], format_schema: Any
) -> None:
    """A schema is sent unless the model can't take it; choices are sent as a schema only where it is said to."""
    options = {} if option is None else {"json_schema": option}

    response_format = sent(a_model(**options), PARAMETERS._replace(schema=schema, choices=choices)).get(
        "response_format"
    )

    if format_schema is None:
        assert response_format is None
    else:
        assert response_format == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": format_schema, "strict": True},
        }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": "no"}, r"models\.m\.options: .*temperature"),
        ({"body": []}, r"models\.m\.options: .*body"),
        ({"body": {"stream": True, "n": 2}}, r"models\.m\.options\.body: n, stream can't be set here"),
    ],
)
def test_wrong_options_are_a_mistake_of_the_job(options: dict[str, Any], said: str) -> None:
    """Options of a wrong type, or that would change what an answer is, stop the job with their place."""
    with pytest.raises(JobError, match=said):
        sent(a_model(**options))


@pytest.mark.parametrize("name", ["x-ratelimit-limit-requests", "X-RateLimit-Limit-Requests"], ids=["lower", "mixed"])
def test_headers_of_limits_are_kept_in_lower_case(name: str) -> None:
    """However a provider spells the headers that tell of limits, they come with the answer under their usual names."""
    body = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    answer = OpenAIAdapter().decode(HttpResponse(200, {name: "500", "Date": "now"}, body))
    assert answer.limits == {"x-ratelimit-limit-requests": "500"}
