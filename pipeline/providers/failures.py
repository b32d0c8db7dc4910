"""Errors of all providers, sorted into `ErrorKind`: by what the body says first, by the HTTP status else."""

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any, NamedTuple

from pipeline.errors import CallError, ErrorKind
from pipeline.providers import bodies
from pipeline.records import HttpResponse

# Words that providers put into code, type, status or reason, in lower case. Words that only repeat the HTTP status
# (invalid_request_error comes with 400 as well as with 429) are left out.
_WORDS: dict[ErrorKind, str] = {
    ErrorKind.AUTH: (
        "invalid_api_key api_key_invalid authentication_error permission_error permission_denied unauthenticated "
        "account_deactivated unsupported_country_region_territory failed_precondition"
    ),
    ErrorKind.QUOTA: (
        "insufficient_quota insufficient_user_quota pre_consume_token_quota_failed billing_error billing_not_active "
        "billing_hard_limit_reached insufficient_balance enforced_spend_limit_reached quota_per_day"
    ),
    ErrorKind.RATE: (
        "rate_limit_exceeded rate_limit_error rate_limited too_many_requests resource_exhausted ramp_limit_exceeded"
    ),
    ErrorKind.OVERLOAD: (
        "overloaded_error unavailable unavailable_error service_unavailable service_unavailable_error "
        "engine_overloaded server_is_overloaded service_tier_capacity_exceeded unreachable_backend"
    ),
    ErrorKind.SERVER: "server_error internal_server_error api_error internal timeout_error deadline_exceeded",
    ErrorKind.BAD_REQUEST: (
        "context_length_exceeded exceed_context_size_error string_above_max_length request_too_large invalid_image "
        "invalid_image_format invalid_base64_image invalid_image_url image_too_large image_too_small image_parse_error "
        "invalid_image_mode image_file_too_large unsupported_image_media_type empty_image_file image_file_not_found "
        "failed_to_download_image"
    ),
    # The model and the parameters are the same for every row, so who gets these mends the job, not a row.
    ErrorKind.CONFIG: (
        "not_found not_found_error model_not_found invalid_model deploymentnotfound unsupported_parameter "
        "unsupported_value"
    ),
    ErrorKind.BLOCKED: (
        "content_policy_violation content_filter responsibleaipolicyviolation invalid_prompt sensitive_words_detected "
        "moderation_flagged bio_policy misalignment_policy_violation image_content_policy_violation"
    ),
}
# GLM: https://docs.z.ai/api-reference/api-code. Its windows of hours and days (1304, 1308, 1310) are quota, not rate.
_GLM_CODES: dict[ErrorKind, str] = {
    ErrorKind.AUTH: "1000 1001 1002 1003 1004",
    ErrorKind.QUOTA: "1110 1112 1113 1121 1304 1308 1310",
    ErrorKind.RATE: "1302 1303",
    ErrorKind.OVERLOAD: "1305 1312",
    ErrorKind.SERVER: "500 1234",
    ErrorKind.BAD_REQUEST: "1210 1213 1214 1215 1261",
    ErrorKind.CONFIG: "1211 1212",
    ErrorKind.BLOCKED: "1301",
}
_KIND_OF_WORD = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_KIND_OF_GLM_CODE = {code: kind for kind, codes in _GLM_CODES.items() for code in codes.split()}
# Wording can change, so it counts only where a 400 has no code of its own: DeepSeek's filter, Anthropic's balance.
_WORDINGS = (
    (re.compile("content exists risk", re.IGNORECASE), ErrorKind.BLOCKED),
    (re.compile("credit balance is too low|specified api usage limits", re.IGNORECASE), ErrorKind.QUOTA),
)
_KEY = re.compile(r"(?i)\bbearer\s+\S+|\bsk-\S+|[\w-]{32,}(?:\.\w+)?")


class _Fault(NamedTuple):
    """What an error body says: words from the most to the least telling, `glm_code` where it has the shape of GLM."""

    words: tuple[str, ...] = ()
    message: str = ""
    glm_code: str = ""
    retry_after_s: float | None = None


def call_error(response: HttpResponse) -> CallError:
    """Return the error that *response* stands for; to be called when it holds no answer."""
    try:
        fault = _read(bodies.parse(response))
    except CallError:
        fault = _Fault()  # HTML from a gateway, say
    status = response.status
    if status < 300:
        if fault == _Fault():
            return bodies.bad_body(response, "has neither an answer nor an error")
        status = _inner_status(fault)
    kind = _kind_by_body(fault, status) or _kind_by_status(status)
    if response.headers.get("x-should-retry") == "false":
        kind = {ErrorKind.RATE: ErrorKind.QUOTA, ErrorKind.SERVER: ErrorKind.BAD_REQUEST}.get(kind, kind)
    wait_s = retry_after_s(response.headers)
    error = CallError(
        kind,
        bodies.printable(_KEY.sub("[...]", fault.message[:1000]), most=200) or f"HTTP {response.status}",
        code=bodies.printable(fault.words[0], most=60) if fault.words else "",
        status=response.status,
        retry_after_s=fault.retry_after_s if wait_s is None else wait_s,
        # A gateway that answered 200 or timed out may have let the model finish.
        maybe_paid=response.status < 300 or response.status in {408, 504, 524},
    )
    error.limits = bodies.limit_headers(response.headers)
    return error


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the provider asks to wait, in seconds; None where it does not say or says nonsense.

    Read from `retry-after-ms`, then `retry-after` in seconds, then as an HTTP date, which counts from the `date` of the
    server and not from a local clock.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    until, now = _epoch(value), _epoch(headers.get("date", ""))
    return until - now if until is not None and now is not None and until >= now else None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _epoch(http_date: str) -> float | None:
    try:
        parts = parsedate_tz(http_date)
        # A date without a zone is in GMT, as RFC 9110 has it; mktime_tz would take it for local time.
        return None if parts is None else mktime_tz((*parts[:9], parts[9] or 0))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _read(body: Any) -> _Fault:
    """Find the error in a body: nested (OpenAI, Anthropic, Gemini, GLM), flat (Mistral, vLLM), or text (Ollama)."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # Gemini's OpenAI endpoint wraps its errors in a list
    if not isinstance(body, dict):
        return _Fault()
    error = body.get("error")
    if error and isinstance(error, str):
        return _Fault(message=error)
    found: dict[str, Any] = error if isinstance(error, dict) and error else body
    nested = found is error
    message = _message(found)
    if not nested and not message:
        return _Fault()  # any object may have a type or a status
    code = _text(found.get("code"))
    told = (*_telling_words(found), _text(found.get("status")), code, _text(found.get("type")))
    return _Fault(
        words=tuple(word for word in told if word),
        message=message,
        # Mistral has four-digit codes of its own, in flat bodies.
        glm_code=code if nested else "",
        retry_after_s=_retry_delay_s(found),
    )


def _message(error: dict[str, Any]) -> str:
    for key in ("message", "detail", "msg"):
        value = error.get(key)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0].get("msg")  # FastAPI; its `input` would quote the prompt
        if isinstance(value, str) and value:
            return value
    return ""


def _telling_words(error: dict[str, Any]) -> Iterator[str]:
    """Yield the words that say more than the code does, wherever providers hide them."""
    details, inner, metadata = error.get("details"), error.get("innererror"), error.get("metadata")
    if isinstance(details, dict):  # Anthropic
        yield _text(details.get("error_code"))
    if isinstance(inner, dict):  # Azure
        yield _text(inner.get("code"))
    if isinstance(metadata, dict) and "flagged_input" in metadata:  # OpenRouter, with status 403
        yield "moderation_flagged"
    for detail in _dicts(details):  # Gemini
        yield _text(detail.get("reason"))
        if any("PerDay" in _text(violation.get("quotaId")) for violation in _dicts(detail.get("violations"))):
            yield "quota_per_day"
    if error.get("status") == "RESOURCE_EXHAUSTED" and re.search(r"\blimit: 0\b", _message(error)):
        yield "quota_per_day"


def _retry_delay_s(error: dict[str, Any]) -> float | None:
    """Return Gemini's `RetryInfo.retryDelay`, a text like "46s"."""
    waits = (_seconds(_text(detail.get("retryDelay")).removesuffix("s")) for detail in _dicts(error.get("details")))
    return next((wait for wait in waits if wait is not None), None)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Return a code as text, be it a string or a number."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _inner_status(fault: _Fault) -> int:
    """Return the status that an error inside a 200 stands for: its numeric code where it has one."""
    numbers = (int(word) for word in fault.words if re.fullmatch("[45][0-9][0-9]", word))
    return next(numbers, 400 if "invalid_request_error" in fault.words else 500)


def _kind_by_body(fault: _Fault, status: int) -> ErrorKind | None:
    known = (_KIND_OF_WORD.get(word.lower()) for word in fault.words)
    kind = next((kind for kind in known if kind), None) or _KIND_OF_GLM_CODE.get(fault.glm_code)
    if kind is None and status == 400:
        kind = next((kind for wording, kind in _WORDINGS if wording.search(fault.message)), None)
    return kind


def _kind_by_status(status: int) -> ErrorKind:
    exact = {
        401: ErrorKind.AUTH,
        402: ErrorKind.QUOTA,
        403: ErrorKind.AUTH,
        404: ErrorKind.CONFIG,
        405: ErrorKind.CONFIG,
        410: ErrorKind.CONFIG,
        408: ErrorKind.TIMEOUT,
        409: ErrorKind.TIMEOUT,
        429: ErrorKind.RATE,
        503: ErrorKind.OVERLOAD,
        529: ErrorKind.OVERLOAD,
    }
    if status in exact:
        return exact[status]
    if status < 400:
        return ErrorKind.CONFIG  # a redirect: the base URL is wrong
    return ErrorKind.BAD_REQUEST if status < 500 else ErrorKind.SERVER
