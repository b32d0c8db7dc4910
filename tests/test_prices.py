"""Invoices by hand for every class of tokens and every provider, and the same arithmetic by the price-list package."""

import random
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from pipeline.catalogue import cheap_from, cost_pusd, dearest_at, load_catalogue, price_at
from pipeline.catalogue.listed import list_models
from pipeline.errors import JobError
from pipeline.providers import find_adapter
from pipeline.records import PICO_USD, HttpResponse, Model, Price, Usage
from pipeline.spec import Job

TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday
LISTED_AS = {"gemini": "google", "glm": "zai", "glm_cn": "zhipuai"}


def a_model(**entry: Any) -> Model:
    """Return a model of a job file, priced as *entry* says."""
    sections = {"name": "t", "input": {"path": "in.csv"}, "prompt": {"column": "p"}, "output": {"path": "out"}}
    given = {"provider": "vllm", "context_tokens": 10**6} | entry
    return load_catalogue(Job.model_validate(sections | {"models": {"m": given}})).models["m"]


def model_of(name: str) -> Model:
    """Return a model as the catalogue knows it."""
    return {**list_models(), **load_catalogue().models}[name]


def billed(name: str, usage: Usage, at: datetime = TODAY, *, batch: bool = False) -> Decimal:
    """Return the invoice in USD."""
    price = price_at(model_of(name), at)
    if batch:
        assert price.batch is not None
        price = price.batch
    return cost_pusd(usage, price) * PICO_USD


# Worked out by hand from the prices that stand beside them, in USD per million tokens.
INVOICES: dict[str, tuple[str, Usage, bool, str]] = {
    # gpt-4o: 2.50 in, 1.25 cached, 10 out; 1000 x 2.5 + 2000 x 1.25 + 500 x 10 = 10,000
    "openai, cached, reasoning inside": ("gpt-4o", Usage(1000, 500, 2000, reasoning=400), False, "0.010000"),
    "openai, batch": ("gpt-4o", Usage(1000, 500, 2000), True, "0.005000"),
    # gpt-6-sol: 2 in, 0.20 cached, 2.50 written, 10 out; above 272,000 in 4, 0.40, 5, 15
    "openai, cache write": ("gpt-6-sol", Usage(1000, 500, 2000, 300), False, "0.00815"),
    "openai, cache write, batch": ("gpt-6-sol", Usage(1000, 500, 2000, 300), True, "0.004075"),
    "openai, at the size": ("gpt-6-sol", Usage(272_000, 100), False, "0.545"),
    "openai, above the size": ("gpt-6-sol", Usage(272_001, 100), False, "1.089504"),
    "openai, above the size, batch": ("gpt-6-sol", Usage(272_001, 100), True, "0.544752"),
    # claude-haiku-4-5: 1 in, 0.10 read, 1.25 and 2 written, 5 out
    "anthropic, every class": ("claude-haiku-4-5", Usage(10, 77, 2000, 300, 400), False, "0.00177"),
    "anthropic, every class, batch": ("claude-haiku-4-5", Usage(10, 77, 2000, 300, 400), True, "0.000885"),
    # claude-haiku-5-5: 0.10 in, 0.01 read; above 100,000 in 0.50, 0.05; every class of input counts for the size
    "anthropic, at the size": ("claude-haiku-5-5", Usage(100_000, 0), False, "0.01"),
    "anthropic, reads reach the size": ("claude-haiku-5-5", Usage(1, 0, 100_000), False, "0.0050005"),
    "anthropic, writes reach the size": ("claude-haiku-5-5", Usage(1, 0, 0, 50_000, 50_000), False, "0.0812505"),
    # gemini-2.5-pro: 1.25 in, 0.125 cached, 10 out; above 200,000 in 2.50, 0.25, 15; thoughts are output
    "gemini, at the size": ("gemini-2.5-pro", Usage(150_000, 1000, 50_000), False, "0.20375"),
    "gemini, above the size": ("gemini-2.5-pro", Usage(150_001, 1000, 50_000), False, "0.4025025"),
    "gemini, batch": ("gemini-2.5-pro", Usage(1000, 1000), True, "0.005625"),
    # deepseek-flash off-peak: 0.15 miss, 0.003 hit, 0.60 out
    "deepseek, hits": ("deepseek-flash", Usage(1000, 500, 9000), False, "0.000477"),
    # glm-4.6: 0.60 in, 0.11 cached, 2.20 out
    "glm, cached": ("glm-4.6", Usage(1000, 500, 2000), False, "0.00192"),
    # mistral-large-4 since 2026-10-29: 0.70 in, 0.07 cached, 2.10 out
    "mistral, cached": ("mistral-large-4", Usage(1000, 500, 2000), False, "0.00189"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "usage", "batch", "usd"), INVOICES.values(), ids=INVOICES)
def test_invoice_of_each_provider_is_the_one_worked_out_by_hand(name: str, usage: Usage, batch: bool, usd: str) -> None:
    """Each class of tokens has its own price, reasoning none beside output, and a long input reprices every token."""
    assert billed(name, usage, batch=batch) == Decimal(usd)


def usage_body(**usage: Any) -> bytes:
    """Return a completion with *usage*, which holds no nested quotes."""
    counts = str(usage).replace("'", '"')
    return f'{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{counts}}}'.encode()


@pytest.mark.parametrize(
    ("name", "body", "usd"),
    [
        (  # 3000 in, of which 2000 cached and 300 written: 700 x 2 + 2000 x 0.2 + 300 x 2.5 + 500 x 10
            "gpt-6-sol",
            usage_body(
                prompt_tokens=3000, completion_tokens=500, total_tokens=3500,
                prompt_tokens_details={"cached_tokens": 2000, "cache_write_tokens": 300},
                completion_tokens_details={"reasoning_tokens": 400},
            ),
            "0.00755",
        ),
        (  # 10,000 in, of which 9000 hits: 1000 x 0.15 + 9000 x 0.003 + 500 x 0.6
            "deepseek-flash",
            usage_body(
                prompt_tokens=10_000, completion_tokens=500, prompt_cache_hit_tokens=9000, prompt_cache_miss_tokens=1000
            ),
            "0.000477",
        ),
        (  # 3000 in, of which 2000 cached: 1000 x 0.6 + 2000 x 0.11 + 500 x 2.2
            "glm-4.6",
            usage_body(
                prompt_tokens=3000, completion_tokens=500, prompt_tokens_details={"cached_tokens": 2000}
            ),
            "0.00192",
        ),
    ],
)  # fmt: skip
def test_reported_tokens_are_billed_once_each(name: str, body: bytes, usd: str) -> None:
    """Cached and written tokens inside the prompt, and reasoning inside the completion, are not counted twice."""
    answer = find_adapter("openai").decode(HttpResponse(200, {}, body))
    assert answer.usage is not None
    assert billed(name, answer.usage) == Decimal(usd)


@pytest.mark.parametrize(
    ("when", "usd"),
    [
        ("2026-11-25T00:59:59", "0.75"),  # Wednesday, just before the peak
        ("2026-11-25T01:00:00", "1.50"),
        ("2026-11-25T03:59:59", "1.50"),
        ("2026-11-25T04:00:00", "0.75"),
        ("2026-11-25T05:59:59", "0.75"),
        ("2026-11-25T06:00:00", "1.50"),
        ("2026-11-25T09:59:59", "1.50"),
        ("2026-11-25T10:00:00", "0.75"),
        ("2026-11-27T02:00:00", "1.50"),  # Friday
        ("2026-11-28T02:00:00", "0.75"),  # Saturday
        ("2026-11-29T08:00:00", "0.75"),  # Sunday
        ("2026-11-30T02:00:00", "1.50"),  # Monday
    ],
)
@pytest.mark.parametrize("name", ["deepseek-flash", "deepseek-chat"])
def test_deepseek_costs_double_in_its_peak_hours_on_weekdays(name: str, when: str, usd: str) -> None:
    """A million tokens each way cost double from 01:00 to 04:00 and from 06:00 to 10:00 UTC, Monday to Friday."""
    at = datetime.fromisoformat(when).replace(tzinfo=UTC)
    assert billed(name, Usage(10**6, 10**6), at) == Decimal(usd)


def test_off_peak_begins_when_the_price_falls() -> None:
    """The next cheap time is now where it is cheap, the end of the peak in it, and the plan knows the dearest price."""
    model = model_of("deepseek-flash")
    day = datetime(2026, 11, 25, tzinfo=UTC)
    assert cheap_from(model, day) == day
    assert cheap_from(model, day.replace(hour=2, minute=30)) == day.replace(hour=4)
    assert cheap_from(model, day.replace(hour=9, minute=59)) == day.replace(hour=10)
    assert cheap_from(model_of("gpt-4o"), day.replace(hour=2)) == day.replace(hour=2)
    assert dearest_at(model, TODAY).output == 2 * price_at(model, TODAY).output


DATED = [
    {"since": date(2026, 6, 1), "input": "1", "output": "2", "source": "offer", "batch": "0.5"},
    {"since": date(2026, 9, 1), "input": "3", "output": "4", "checked": date(2026, 9, 2),
     "long": [{"over_input_tokens": 100, "input": "6", "output": "8"}]},
    {"since": date(2026, 9, 1), "input": "30", "output": "40", "hours": "mon-fri 22:00-24:00"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("when", "usage", "usd"),
    [
        ("2026-08-31T23:59:59", Usage(10**6, 0), "1"),  # the hours belong to the entry of September
        ("2026-09-01T00:00:00", Usage(0, 10**6), "4"),
        ("2026-09-01T00:00:00", Usage(100, 10**6), "4.0003"),
        ("2026-09-01T00:00:00", Usage(101, 10**6), "8.000606"),
        ("2026-09-01T22:00:00", Usage(10**6, 0), "30"),
        ("2026-09-05T22:00:00", Usage(100, 0), "0.0003"),  # a Saturday
    ],
)
def test_job_file_gives_dated_prices(when: str, usage: Usage, usd: str) -> None:
    """Prices of a job file hold from their day, at their hours, and for their size, and keep source and date."""
    model = a_model(prices=DATED)
    at = datetime.fromisoformat(when).replace(tzinfo=UTC)
    assert cost_pusd(usage, price_at(model, at)) * PICO_USD == Decimal(usd)
    first, second, _ = model.prices
    assert (first.source, second.source, second.checked) == ("offer", "job file", date(2026, 9, 2))
    assert first.batch is not None
    assert (first.batch.input, first.batch.output) == (Decimal("0.5"), Decimal(1))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, "give input_usd_per_mtok and output_usd_per_mtok, or prices with a date"),
        ({"prices": DATED, "input_usd_per_mtok": "1"}, "give prices, or input_usd_per_mtok, not both"),
        ({"prices": DATED[2:]}, "the first entry must hold all day"),
        ({"prices": [DATED[0] | {"hours": "mon-fri 4:00-1:00"}]}, 'write hours of a day in UTC as in "mon-fri'),
        ({"prices": [DATED[0] | {"hours": "sat-mon 01:00-04:00"}]}, "write hours of a day"),
        ({"prices": [DATED[0] | {"batch": "2"}]}, "a share of the price"),
    ],
)
def test_prices_that_do_not_say_enough_are_refused(entry: dict[str, Any], told: str) -> None:
    """A model without a price for every hour, or with two kinds of price, is refused with what would be right."""
    with pytest.raises(ValueError, match=told):
        a_model(**entry)


# ------------------------------------------------------------------------------------- the price-list package's arithmetic
# Where it and we differ, and why (docs/cost-method.md has the same list):
# - DeepSeek's peak hours: the list knows no days of the week and bills weekends at the peak; DeepSeek does not.
# - A class without a listed price: both bill cached input as input; of cache writes without a price, so do we and it.
# - It rounds nothing; we round to a pico-USD, which only prices of more than six decimals can show.


def by_the_list(model: Model, usage: Usage, at: datetime, *, batch: bool) -> Decimal:
    """Return what the package says that *usage* costs."""
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.total_input,
            output_tokens=usage.output,
            cache_read_tokens=usage.cached_input,
            cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
            cache_write_1h_tokens=usage.cache_write_1h,
        ),
        model.name,
        provider_id=LISTED_AS.get(model.provider, model.provider),
        genai_request_timestamp=at,
        price_context={"processing": "batch"} if batch else None,
    )
    return theirs.total_price


def random_case(rng: random.Random, models: list[Model]) -> tuple[Model, Usage, datetime, bool]:
    """Return a model, a usage of any size, a time of the last weeks, and whether it is a batch."""
    model = rng.choice(models)
    counts = [rng.randrange(10 ** rng.randrange(1, 7)) for _ in range(5)]
    at = datetime.fromtimestamp(rng.randrange(int(TODAY.timestamp()) - 20 * 86_400, int(TODAY.timestamp())), UTC)
    return model, Usage(*counts), at, rng.random() < 0.5 and price_at(model, at).batch is not None


def test_thousand_random_usages_cost_what_the_price_list_package_says() -> None:
    """The cost of 1,000 random usages, times and models equals the package's, save on DeepSeek's weekends."""
    rng = random.Random(20261125)
    models = list(list_models().values())
    different, kinds = [], Counter[tuple[str, bool]]()
    for _ in range(1000):
        model, usage, at, batch = random_case(rng, models)
        price = price_at(model, at)
        ours = cost_pusd(usage, price.batch if batch and price.batch else price) * PICO_USD
        theirs = by_the_list(model, usage, at, batch=batch)
        kinds[model.provider, batch] += 1
        if ours != theirs:
            different.append((model.name, usage, at, batch, ours, theirs))
    weekend = [case for case in different if case[0].startswith("deepseek") and case[2].weekday() >= 5]
    assert [case for case in different if case not in weekend] == []
    assert all(theirs == 2 * ours for *_, ours, theirs in weekend)
    assert {provider for provider, _ in kinds} >= {"openai", "anthropic", "gemini", "deepseek", "glm", "mistral"}
    assert sum(count for (_, batch), count in kinds.items() if batch) > 100


def test_unknown_model_refuses_before_anything_is_spent() -> None:
    """A model that nobody prices is an error of the job, as is a day before the first known price."""
    sections = {"name": "t", "input": {"path": "in.csv"}, "prompt": {"column": "p"}, "output": {"path": "out"}}
    with pytest.raises(JobError, match="no model 'gpt-99'"):
        load_catalogue(Job.model_validate(sections | {"route": {"baseline": "gpt-99"}}))
    with pytest.raises(JobError, match="no price on 2026-05-31"):
        price_at(a_model(prices=DATED), datetime(2026, 5, 31, tzinfo=UTC))


def test_listed_prices_say_where_they_are_from_and_when_they_were_checked() -> None:
    """Each price of the list names the package with its version, and the day of the check."""
    prices = [price for model in list_models().values() for price in model.prices]
    assert {price.source for price in prices} == {f"genai-prices {genai_prices.__version__}"}
    assert all(isinstance(price, Price) and price.checked is not None for price in prices)
