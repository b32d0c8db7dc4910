"""What the headers of an answer tell of limits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.headers import reset_s, told_rates

NOW_S = datetime(2026, 11, 24, 22, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        pytest.param(
            {
                "x-ratelimit-limit-requests": "10000",
                "x-ratelimit-remaining-requests": "9999",
                "x-ratelimit-reset-requests": "6ms",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6ms",
            },
            {"requests": 10000, "tokens": 150000},
            id="openai",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests": "200",
                "x-ratelimit-remaining-requests": "199",
                "x-ratelimit-reset-requests": "7m12s",
            },
            {},
            id="openai: a day's quota under the same name",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-tokens": "17997",
                "x-ratelimit-reset-tokens": "7.66ms",
            },
            {"tokens": 18000},
            id="groq: requests per day, tokens per minute",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-11-24T22:00:01Z",
                "anthropic-ratelimit-input-tokens-limit": "30000",
                "anthropic-ratelimit-input-tokens-remaining": "29000",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-24T22:00:02Z",
                "anthropic-ratelimit-output-tokens-limit": "8000",
                "anthropic-ratelimit-tokens-limit": "38000",
            },
            {"requests": 50, "input_tokens": 30000, "output_tokens": 8000},
            id="anthropic: the sum of input and output is no limit of its own",
        ),
        pytest.param(
            {"x-ratelimit-limit-tokens": "30000", "x-ratelimit-limit-project-tokens": "20000"},
            {"tokens": 20000},
            id="of two limits the lower one",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests-day": "1000",
                "x-ratelimit-limit-tokens-minute": "60000",
                "x-ratelimit-limit-req-second": "5",
            },
            {"requests": 300, "tokens": 60000},
            id="the time in the name",
        ),
        pytest.param({"x-ratelimit-limit-requests": "3000, 3000;w=60"}, {"requests": 3000}, id="with more behind it"),
        pytest.param({"x-ratelimit-limit-requests": "0", "x-ratelimit-limit-tokens": "many"}, {}, id="nothing usable"),
        pytest.param({"x-ratelimit-remaining-requests": "7"}, {}, id="no limit"),
        pytest.param({}, {}, id="none"),
    ],
)
def test_limits_of_known_providers(headers: dict[str, str], told: dict[str, float]) -> None:
    """Every known form gives the rate per minute, and a quota for longer than an hour none."""
    assert told_rates(headers, NOW_S) == told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("17ms", 0.017),
        ("1h2m3.5s", 3723.5),
        ("250us", 0.00025),
        ("12.5", 12.5),
        (f"{NOW_S + 30}", 30),
        (f"{(NOW_S + 30) * 1000:.0f}", 30),
        ("2026-11-24T22:00:20Z", 20),
        ("2026-11-24T23:00:20+01:00", 20),
        ("2026-11-24T22:00:20", None),  # of which time zone?
        ("6m0", None),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_forms_of_a_reset(text: str, seconds: float | None) -> None:
    """Durations, numbers and times are read as seconds from now, all else as nothing."""
    found = reset_s(text, NOW_S)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1)))
def test_go_durations_are_read_exactly(duration: timedelta) -> None:
    """A duration as Go writes it is read back to the microsecond."""
    seconds = duration.total_seconds()
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    text = f"{hours}h{minutes}m{seconds - 3600 * hours - 60 * minutes:.6f}s"
    assert reset_s(text, NOW_S) == pytest.approx(seconds, abs=1e-6)


NAMES = st.sampled_from(
    (
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "anthropic-ratelimit-tokens-limit",
        "ratelimit-limit-limit-tokens",
    )
)
VALUES = st.text(max_size=30) | st.integers().map(str) | st.floats().map(str) | st.just("9" * 400)


@given(st.dictionaries(NAMES | st.text("-abcdemt", max_size=20), VALUES, max_size=6), st.floats(0, 4e9))
def test_no_header_is_an_error(headers: dict[str, str], now_s: float) -> None:
    """Whatever headers hold, what is told is a finite rate above 0, or nothing."""
    assert all(0 < per_min < float("inf") for per_min in told_rates(headers, now_s).values())
