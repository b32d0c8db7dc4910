"""Error replies in the shapes that providers use."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .wire import Reply


def _openai(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _glm(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _anthropic(kind: str, message: str, **details: str) -> dict[str, Any]:
    error = {"type": kind, "message": message} | ({"details": details} if details else {})
    return {"type": "error", "error": error, "request_id": "req_011"}


def _gemini(code: int, status: str, message: str, *details: Mapping[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def _gemini_quota(quota: str, *more: Mapping[str, Any]) -> dict[str, Any]:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    return _gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", failure, *more)


def _mistral(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


_RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "46s"}
_PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"

_SHAPES: Final[Mapping[str, tuple[int, dict[str, Any] | str]]] = {
    # OpenAI
    "rate": (429, _openai("Rate limit reached for requests", "requests", "rate_limit_exceeded")),
    "rate_tokens": (429, _openai("Rate limit reached on tokens per min", "tokens", "rate_limit_exceeded")),
    "insufficient_quota": (
        429,
        _openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
    ),
    "unauthorized": (401, _openai("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")),
    "forbidden": (
        403,
        _openai("Country, region, or territory not supported.", "request_forbidden", "unsupported_country"),
    ),
    "bad_request": (400, _openai("Invalid type for 'messages'.", "invalid_request_error", None, "messages")),
    "unsupported_parameter": (
        400,
        _openai("Unsupported parameter: 'max_tokens'.", "invalid_request_error", "unsupported_parameter", "max_tokens"),
    ),
    "context_length": (
        400,
        _openai(
            "This model's maximum context length is 8192 tokens.",
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
    ),
    "content_policy": (400, _openai("Your request was rejected.", "invalid_request_error", "content_policy_violation")),
    "model_not_found": (404, _openai("The model does not exist.", "invalid_request_error", "model_not_found")),
    "timeout": (408, _openai("Request timed out.", "timeout")),
    "conflict": (409, _openai("The request conflicted.", "conflict")),
    "too_large": (413, _openai("Request too large.", "invalid_request_error", "request_too_large")),
    "unprocessable": (422, _openai("Unprocessable entity.", "invalid_request_error")),
    "server_error": (500, _openai("The server had an error.", "server_error")),
    "bad_gateway": (502, _PROXY_PAGE),
    "unavailable": (503, _openai("The engine is currently overloaded.", "service_unavailable", "overloaded")),
    "gateway_timeout": (504, _PROXY_PAGE.replace("502 Bad Gateway", "504 Gateway Time-out")),
    # Anthropic
    "anthropic_rate": (429, _anthropic("rate_limit_error", "This request would exceed your rate limit.")),
    "anthropic_ramp": (429, _anthropic("rate_limit_error", "Slow down.", error_code="ramp_limit_exceeded")),
    "anthropic_spend": (
        429,
        _anthropic("rate_limit_error", "Spend limit reached.", error_code="enforced_spend_limit_reached"),
    ),
    "anthropic_billing": (402, _anthropic("billing_error", "Your credit balance is too low.")),
    "overloaded": (529, _anthropic("overloaded_error", "Overloaded")),
    # DeepSeek
    "deepseek_balance": (402, _openai("Insufficient Balance", "unknown_error", "invalid_request_error")),
    # GLM: one status, the code decides
    "glm_auth": (401, _glm("1000", "Authentication failed")),
    "glm_balance": (429, _glm("1113", "Your account is in arrears")),
    "glm_blocked": (400, _glm("1301", "Unsafe or sensitive content")),
    "glm_rate": (429, _glm("1302", "High concurrency usage of this API")),
    "glm_frequency": (429, _glm("1303", "High frequency usage of this API")),
    "glm_daily": (429, _glm("1304", "Daily call limit reached")),
    "glm_overload": (429, _glm("1305", "The API has triggered rate limiting due to too many requests")),
    "glm_window": (429, _glm("1308", "Usage limit reached; resets at 2026-11-30 00:00:00")),
    "glm_busy": (429, _glm("1312", "This model is currently experiencing high traffic")),
    "glm_bad_parameter": (400, _glm("1210", "Incorrect API call parameters")),
    "glm_too_long": (400, _glm("1261", "Prompt too long")),
    "glm_network": (500, _glm("1234", "Network error")),
    # Gemini
    "gemini_rate": (429, _gemini_quota("GenerateRequestsPerMinutePerProjectPerModel", _RETRY_INFO)),
    "gemini_daily": (429, _gemini_quota("GenerateRequestsPerDayPerProjectPerModel")),
    "gemini_unavailable": (503, _gemini(503, "UNAVAILABLE", "The model is overloaded.")),
    "gemini_deadline": (504, _gemini(504, "DEADLINE_EXCEEDED", "Deadline exceeded.")),
    # Mistral
    "mistral_rate": (429, _mistral("Requests rate limit exceeded", "rate_limited", "1300")),
    "mistral_billing": (402, _mistral("Payment required", "payment_required", "2001")),
}


def _reply(status: int, shape: dict[str, Any] | str) -> Reply:
    if isinstance(shape, str):
        return Reply(status, shape.encode(), "text/html")
    return Reply(status, msgspec.json.encode(shape))


ERRORS: Final[Mapping[str, Reply]] = {name: _reply(*shape) for name, shape in _SHAPES.items()}

_USUAL: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    402: "deepseek_balance",
    403: "forbidden",
    404: "model_not_found",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    422: "unprocessable",
    429: "rate",
    500: "server_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
    529: "overloaded",
}


def refusal(status: int) -> Reply:
    """Return the reply that is usual for *status* (300 to 599)."""
    if 300 <= status < 400:
        return Reply(status, b"")
    usual = _USUAL.get(status, "bad_request" if status < 500 else "server_error")
    return ERRORS[usual]._replace(status=status)
