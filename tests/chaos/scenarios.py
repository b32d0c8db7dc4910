"""Scripts that several tests play."""

from typing import Any


def rules(*pairs: tuple[dict[str, Any], dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return a script of (when, do) *pairs*, with *more* of its keys."""
    return {"rules": [{"when": when, "do": do} for when, do in pairs], **more}


def mixed_faults(seed: int = 1) -> dict[str, Any]:
    """5% 429 with Retry-After 1, 3% 500, 1% no choices, 1% HTML 200, 0.5% reset, 0.5% never answered.

    The shares are of the requests that no rule before took, so the later ones are a little smaller.
    """
    return rules(
        ({"share": 0.05}, {"status": 429, "retry_after": 1}),
        ({"share": 0.03}, {"status": 500}),
        ({"share": 0.01}, {"body": "no_choices"}),
        ({"share": 0.01}, {"body": "html"}),
        ({"share": 0.005}, {"fault": "reset"}),
        ({"share": 0.005}, {"fault": "hang"}),
        seed=seed,
    )


def storm(until_s: float, *, requests_per_min: float) -> dict[str, Any]:
    """Every request is refused with Retry-After 1 until *until_s* after the first one; then a rate is enforced."""
    return rules(
        ({"before_s": until_s}, {"status": 429, "retry_after": 1}),
        buckets=[{"when": {"after_s": until_s}, "requests_per_min": requests_per_min, "advertise": True}],
    )


def outage(from_s: float, to_s: float, *, status: int = 503) -> dict[str, Any]:
    """Everything fails from *from_s* to *to_s* seconds after the first request."""
    return rules(({"after_s": from_s, "before_s": to_s}, {"status": status}))
