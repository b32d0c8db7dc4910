"""Models, prices and providers: what is built in, what a job puts on top, what an answer costs."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import Catalogue, cost_pusd, load_catalogue, price_at, warnings
from pipeline.errors import JobError
from pipeline.providers import find_adapter
from pipeline.records import PICO_USD, Model, Parameters, Price, Request, Tier, Usage
from pipeline.spec import Job

ARTICLE_DAY = datetime(2026, 6, 20, tzinfo=UTC)
TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
ARTICLE_PRICES = {
    "gpt-4o": ("2.50", "10.00"),
    "gpt-4o-mini": ("0.15", "0.60"),
    "deepseek-chat": ("0.14", "0.28"),
    "deepseek-v4-pro": ("0.50", "2.19"),
    "deepseek-reasoner": ("0.55", "2.19"),
    "glm-5.1": ("0.625", "2.50"),
    "glm-4-flash": ("0.01", "0.04"),
    "glm-4v": ("0.50", "2.00"),
}


def a_job(**sections: Any) -> Job:
    """Return a job with *sections* on top of the required ones."""
    base = {"name": "t", "input": {"path": "in.csv"}, "prompt": {"column": "p"}, "output": {"path": "out"}}
    return Job.model_validate(base | sections)


def an_entry(**changes: Any) -> dict[str, Any]:
    """Return a [models.NAME] section."""
    entry = {"provider": "openai", "context_tokens": 1000, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    return entry | changes


def a_price(prompt: str = "1", output: str = "2", **changes: Any) -> Price:
    """Return a price in USD per million tokens."""
    return Price(Decimal(prompt), Decimal(output))._replace(**changes)


def problems_of(job: Job) -> tuple[str, ...]:
    """Return what is wrong with the catalogue of *job*."""
    with pytest.raises(JobError) as caught:
        load_catalogue(job)
    return caught.value.problems


# ---------------------------------------------------------------------------------------------------------- built in


@pytest.mark.parametrize("name", ["article.toml", "families.toml", "providers.toml", "tiers.toml"])
def test_data_files_come_with_the_package(name: str) -> None:
    """Every data file is reachable as a resource of the package, wherever that is installed."""
    assert resources.files("pipeline.catalogue").joinpath(name).is_file()


def test_article_prices_are_in_force_at_its_date() -> None:
    """On the article's day each of its eight models costs what it states."""
    models = load_catalogue().models
    stated = {name: price_at(models[name], ARTICLE_DAY) for name in ARTICLE_PRICES}
    assert {name: (str(price.input), str(price.output)) for name, price in stated.items()} == ARTICLE_PRICES
    assert {price.source for price in stated.values()} == {"article"}


def test_list_price_is_in_force_today_where_it_is_known() -> None:
    """A model whose provider publishes a price costs that price; where none is known the article's stays."""
    models = load_catalogue().models
    from_article = {name for name in ARTICLE_PRICES if price_at(models[name], TODAY).source == "article"}
    assert from_article == {"glm-4-flash", "glm-4v"}
    assert price_at(models["gpt-4o"], TODAY).cached_input == Decimal("1.25")
    assert price_at(models["glm-5.1"], TODAY)[:2] == (Decimal("1.40"), Decimal("4.40"))


def test_article_month_is_reproduced_with_the_right_arithmetic() -> None:
    """The article's monthly table, as many tokens in as out, costs 7.325 USD by its own prices and not 4.94."""
    models = load_catalogue().models
    month = {"glm-4-flash": 5, "deepseek-chat": 3, "deepseek-v4-pro": 1, "glm-5.1": 1}
    cost = sum(
        cost_pusd(Usage(millions * 10**6, millions * 10**6), price_at(models[name], ARTICLE_DAY))
        for name, millions in month.items()
    )
    assert cost * PICO_USD == Decimal("7.325")


def test_built_in_table_names_only_known_models_for_every_task() -> None:
    """Each tier has a cell for each of the seven tasks, and vision goes to a model that sees."""
    catalogue = load_catalogue()
    assert set(catalogue.table) == set(Tier)
    for cells in catalogue.table.values():
        assert len(cells) == 7
        assert all(name in catalogue.models for names in cells.values() for name in names)
        assert all(catalogue.models[name].vision for name in cells["vision"])


def test_built_in_providers_have_every_default_filled_in() -> None:
    """A provider nobody configured has limits, and a key exactly when it is not on this machine."""
    providers = load_catalogue().providers
    assert {"openai", "anthropic", "gemini", "deepseek", "glm", "glm_cn", "mistral", "aiwave"} <= set(providers)
    assert {"openrouter", "vllm", "ollama", "llamacpp", "local", "recorded"} <= set(providers)
    for provider in providers.values():
        limits = (provider.concurrency, provider.timeout_s, provider.max_attempts, provider.max_retry_after_s)
        assert limits == (4 if provider.name == "local" else 64, 120, 5, 120)
        is_remote = (provider.base_url or "").startswith("https://")
        assert (provider.key_env is not None) == is_remote


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-4o", {"model": "gpt-4o", "max_completion_tokens": 9, "temperature": 0.0}),
        ("gpt-5-mini", {"model": "gpt-5-mini", "max_completion_tokens": 9}),
        (
            "deepseek-chat",
            {"model": "deepseek-flash", "max_tokens": 9, "temperature": 0.0, "thinking": {"type": "disabled"}},
        ),
        (
            "deepseek-reasoner",
            {"model": "deepseek-flash", "max_tokens": 9, "temperature": 0.0, "thinking": {"type": "enabled"}},
        ),
        ("glm-4v", {"model": "glm-4v", "max_tokens": 9, "temperature": 0.0}),
    ],
)
def test_options_make_the_adapter_send_what_the_model_takes(model: str, sent: dict[str, Any]) -> None:
    """The options of a model reach its request: the output limit's name, no temperature, the thinking switch."""
    known = load_catalogue(a_job(route={"baseline": model})).models[model]
    request = Request(request_id=b"x" * 16, row_id="1", user="hi")
    body = json.loads(find_adapter("openai").encode(request, known, Parameters(9, temperature=0.0)).body)
    body.pop("messages")
    assert body == sent


# ------------------------------------------------------------------------------------------------------------- money

HAIKU = a_price("1", "5", cached_input=Decimal("0.10"), cache_write_5m=Decimal("1.25"), cache_write_1h=Decimal("2"))
INVOICES = {
    "a million each way": (Usage(10**6, 10**6), a_price("2.50", "10.00"), "12.50"),
    "gpt-4o": (Usage(1234, 567), a_price("2.50", "10.00"), "0.008755"),
    "gpt-4o-mini, cached": (Usage(100, 50, 900), a_price("0.15", "0.60", cached_input=Decimal("0.075")), "0.0001125"),
    "deepseek, hits": (Usage(1000, 500, 9000), a_price("0.15", "0.60", cached_input=Decimal("0.003")), "0.000477"),
    "claude, every class": (Usage(10, 77, 2000, 300, 400), HAIKU, "0.00177"),
    "reasoning is inside output": (Usage(0, 10, reasoning=8), a_price("1", "3"), "0.00003"),
    "cached without a price": (Usage(8, 4, 8), a_price("0.625", "2.50"), "0.00002"),
    "writes without a price": (Usage(0, 0, 0, 3, 4), a_price("1", "5"), "0.000007"),
    "1 h write as 5 min": (Usage(0, 0, 0, 0, 4), a_price("1", "5", cache_write_5m=Decimal("1.25")), "0.000005"),
    "free": (Usage(10**9, 10**9), a_price("0", "0"), "0"),
    "nothing": (Usage(0, 0), a_price("2.50", "10.00"), "0"),
    "half a pico rounds up": (Usage(1, 0), a_price("0.0000005", "0"), "0.000000000001"),
    "below half rounds down": (Usage(2, 0), a_price("0.0000002", "0"), "0"),
    "rounded once, on the sum": (Usage(1, 1), a_price("0.0000003", "0.0000003"), "0.000000000001"),
    "beyond 28 digits": (Usage(10**18, 1), a_price("99999.999999", "0.000001"), "99999999999000000.000000000001"),
}


@pytest.mark.parametrize(("usage", "price", "usd"), INVOICES.values(), ids=INVOICES)
def test_cost_equals_the_invoice_computed_by_hand(usage: Usage, price: Price, usd: str) -> None:
    """The cost in pico-USD is the invoice to the last digit."""
    assert cost_pusd(usage, price) == Fraction(usd) * 10**12


usages = st.builds(Usage, *[st.integers(0, 10**9)] * 5)
usual_amounts = st.decimals(0, 1000, places=6)
usual_prices = st.tuples(usual_amounts, usual_amounts, *[st.none() | usual_amounts] * 3).map(
    lambda amounts: Price(*amounts)
)


def each_sum(one: Usage, other: Usage) -> Usage:
    """Return both usages together."""
    return Usage(*(a + b for a, b in zip(one, other, strict=True)))


@given(one=usages, other=usages, price=usual_prices)
def test_cost_is_additive_and_never_negative(one: Usage, other: Usage, price: Price) -> None:
    """Two answers cost exactly the sum of their costs, so totals do not depend on how rows are grouped."""
    both = each_sum(one, other)
    assert cost_pusd(both, price) == cost_pusd(one, price) + cost_pusd(other, price)
    assert cost_pusd(both, price) >= cost_pusd(one, price) >= 0


@given(usage=usages, amount=st.decimals(0, 1000, places=12), more=st.integers(0, 10**6))
def test_cost_of_an_odd_price_is_monotone_and_rounded_by_half_a_pico_at_most(
    usage: Usage, amount: Decimal, more: int
) -> None:
    """With prices of many decimals a cost is at most half a pico-USD off, and more tokens never cost less."""
    price = Price(amount, amount)
    exact = (usage.total_input + usage.output) * Fraction(amount) * 10**6
    assert abs(cost_pusd(usage, price) - exact) <= Fraction(1, 2)
    assert cost_pusd(usage._replace(output=usage.output + more), price) >= cost_pusd(usage, price)


def test_price_changes_at_midnight_utc() -> None:
    """An entry is in force from 00:00 UTC of its day, whatever the clock of the caller says."""
    old, new = a_price(since=date.min), a_price("3", since=date(2026, 9, 10))
    model = Model("m", "p", 1000, (old, new))
    midnight = datetime(2026, 9, 10, tzinfo=UTC)
    beijing = timezone(timedelta(hours=8))
    assert price_at(model, midnight) == new
    assert price_at(model, (midnight - timedelta(seconds=1)).astimezone(beijing)) == old


@pytest.mark.parametrize("prices", [(), (a_price(since=date(2026, 9, 10)),)])
def test_unknown_price_is_refused(prices: tuple[Price, ...]) -> None:
    """A day without a known price is an error that names the model, never a price of zero."""
    with pytest.raises(JobError, match=r"models\.m: no price on 2026-06-20"):
        price_at(Model("m", "p", 1000, prices), ARTICLE_DAY)


def test_time_without_a_zone_is_refused() -> None:
    """A naive time does not say which day it is in UTC."""
    with pytest.raises(ValueError, match="zone"):
        price_at(Model("m", "p", 1000, (a_price(),)), datetime(2026, 6, 20))  # noqa: DTZ001


# ------------------------------------------------------------------------------------------------------- price lists


def all_listed() -> dict[str, Model]:
    """Return the models that only a price list knows."""
    catalogue = load_catalogue(listed=True)
    return {name: model for name, model in catalogue.models.items() if name not in ARTICLE_PRICES}


def test_every_listed_model_can_be_routed_and_priced() -> None:
    """Each model of a price list has a known provider, a context, prices in order, and a price today."""
    providers = load_catalogue().providers
    listed = all_listed()
    assert {model.provider for model in listed.values()} == {
        "openai", "anthropic", "gemini", "deepseek", "glm", "glm_cn", "mistral",
    }  # fmt: skip
    for model in listed.values():
        assert model.provider in providers
        assert model.context_tokens > 0
        assert [price.since for price in model.prices] == sorted(price.since for price in model.prices)
        assert price_at(model, TODAY).input > 0
        assert price_at(model, TODAY).source.startswith("genai-prices ")


@pytest.mark.parametrize(
    ("named", "provider"),
    [
        ("gpt-4.1-mini", "openai"),
        ("gpt-4.1-mini-2025-04-14", "openai"),
        ("claude-haiku-4-5-20251001", "anthropic"),
        ("GLM-4.6", "glm"),
        ("mistral-large-latest", "mistral"),
    ],
)
def test_listed_model_is_found_by_its_names(named: str, provider: str) -> None:
    """A dated snapshot or an alias is taken as written and priced as its model."""
    model = load_catalogue(a_job(route={"baseline": named})).models[named]
    assert (model.name, model.wire_name, model.provider) == (named, named, provider)


def test_price_lists_are_opened_only_when_needed() -> None:
    """The article's models and the user's own load without importing the price-list package."""
    code = (
        "import sys; from tests.test_catalogue import a_job, an_entry, load_catalogue; "
        "load_catalogue(a_job(models={'m': an_entry()}, route={'baseline': 'm'})); "
        "print('genai_prices' in sys.modules); "
        "load_catalogue(a_job(route={'baseline': 'gpt-4.1'})); print('genai_prices' in sys.modules)"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_rows_that_name_their_baseline_may_name_any_listed_model() -> None:
    """A baseline column brings every listed model into the catalogue, for nobody knows the values beforehand."""
    assert "gpt-4.1-nano" not in load_catalogue(a_job()).models
    assert "gpt-4.1-nano" in load_catalogue(a_job(route={"baseline": {"column": "b"}})).models


# ------------------------------------------------------------------------------------------------------------ a job


def write(path: Path, text: str) -> str:
    """Write *text* and return where."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_later_layers_win_by_name(tmp_path: Path) -> None:
    """A catalogue file overrides a built-in model, a later file an earlier one, and the job overrides them all."""
    entry = 'provider = "{}"\ncontext_tokens = 5\ninput_usd_per_mtok = "1"\noutput_usd_per_mtok = "1"\n'
    first = write(
        tmp_path / "a.toml", "".join(f'[models."{name}"]\n' + entry.format("glm") for name in ("gpt-4o", "x", "y"))
    )
    second = write(tmp_path / "b.toml", "".join(f"[models.{name}]\n" + entry.format("mistral") for name in ("x", "y")))
    models = load_catalogue(a_job(catalogue=[first, second], models={"y": an_entry()})).models
    assert [models[name].provider for name in ("gpt-4o", "x", "y")] == ["glm", "mistral", "openai"]
    assert [models[name].prices[0].source for name in ("gpt-4o", "x", "y")] == [first, second, "job file"]


def test_entry_becomes_a_model_with_all_it_says() -> None:
    """Prices, limits, restrictions and the origin of a [models] entry arrive as given."""
    entry = an_entry(
        api_name="w", vision=True, retires="2027-01-01", source="contract", only={"lang": ["de", 1, True]},
        cached_input_usd_per_mtok="0.5", cache_write_5m_usd_per_mtok="1.5", cache_write_1h_usd_per_mtok="2.5",
        options={"a": 1},
    )  # fmt: skip
    model = load_catalogue(a_job(models={"m": entry})).models["m"]
    price = Price(*map(Decimal, ("1", "2", "0.5", "1.5", "2.5")), source="contract")
    assert model == Model(
        "m", "openai", 1000, (price,), vision=True, api_name="w", retires=date(2027, 1, 1),
        only={"lang": ("de", 1, True)}, options={"a": 1},
    )  # fmt: skip


def test_entry_inherits_the_dialect_of_its_family() -> None:
    """A negotiated price for a known model keeps its dialect and retirement, unless the entry says otherwise."""
    models = load_catalogue(
        a_job(
            models={
                "gpt-5-mini": an_entry(),
                "mine": an_entry(api_name="gpt-5-mini"),
                "plain": an_entry(api_name="gpt-5-mini", options={}),
                "other": an_entry(provider="vllm"),
            }
        )
    ).models
    reasoning = {"max_tokens_field": "max_completion_tokens", "temperature": False}
    assert [models[name].options for name in ("gpt-5-mini", "mine", "plain", "other")] == [reasoning, reasoning, {}, {}]
    assert models["mine"].retires == date(2026, 12, 11)


def test_provider_is_changed_key_by_key() -> None:
    """A job that sets one key of a built-in provider keeps the others; a key file replaces the key variable."""
    providers = {
        "openai": {"requests_per_min": 500, "timeout_s": 9},
        "glm": {"key_file": "k"},
        "mistral": {"base_url": "https://m.example/v1", "key_env": "MINE"},
    }
    catalogue = load_catalogue(a_job(providers=providers))
    openai, glm = catalogue.providers["openai"], catalogue.providers["glm"]
    assert (openai.base_url, openai.key_env) == ("https://api.openai.com/v1", "OPENAI_API_KEY")
    assert (openai.quotas[""].requests_per_min, openai.timeout_s, openai.concurrency) == (500, 9, 64)
    assert (glm.key_env, glm.key_file) == (None, "k")
    assert catalogue.providers["mistral"][:4] == ("mistral", "openai", "https://m.example/v1", "MINE")


def test_cells_are_overridden_one_by_one() -> None:
    """[route.table] replaces or adds the cells it names and leaves the others as they are."""
    table = {"balanced": {"code": ["gpt-4o-mini", "gpt-4o"], "code.hard": "gpt-4o"}}
    found = load_catalogue(a_job(route={"table": table})).table
    assert found[Tier.BALANCED]["code"] == ("gpt-4o-mini", "gpt-4o")
    assert found[Tier.BALANCED]["code.hard"] == ("gpt-4o",)
    assert found[Tier.BALANCED]["general"] == ("deepseek-chat",)
    assert found[Tier.BUDGET] == load_catalogue().table[Tier.BUDGET]


def test_all_mistakes_are_told_at_once_with_what_would_be_right(tmp_path: Path) -> None:
    """Seven mistakes give seven problems, each with its place and a near name or the known ones."""
    told = problems_of(
        a_job(
            catalogue=[str(tmp_path / "none.toml")],
            models={"m": an_entry(provider="opnai"), "r": an_entry(provider="recorded")},
            providers={"groq": {"adapter": "openai"}, "opneai": {"base_url": "https://x"}},
            route={"baseline": "gpt-4omini", "table": {"budget": {"code": "glm-4-flsh", "general": "r"}}},
        )
    )
    assert len(told) == 7
    text = "\n".join(told)
    for part in (
        "none.toml: cannot be read",
        "models.m.provider: no provider 'opnai'. Did you mean openai",
        "route.table.budget.code: no model 'glm-4-flsh'. Did you mean glm-4-flash",
        "route.baseline: no model 'gpt-4omini'. Did you mean gpt-4o-mini",
        "providers.groq.base_url: is required",
        "providers.opneai.adapter: is required: anthropic, gemini, local, openai, recorded",
        "package.module:Class. Did you mean openai?",
        "providers.recorded.path: is required",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name",
    [
        "gemma-3",
        "text-embedding-3-small",
        "gpt-image-1",
        "devstral-2512",
        "claude-opus-4.7",
        "gpt-5-4",
        "no-such-model-at-all",
    ],
)
def test_name_that_can_not_be_asked_or_priced_is_refused(name: str) -> None:
    """A model without a price, no chat model, a deprecated one and a wrong spelling are refused, though listed."""
    (told,) = problems_of(a_job(route={"baseline": {"code": name}}))
    assert told.startswith(f"route.baseline.code: no model '{name}'.")


def test_digest_follows_the_content() -> None:
    """Equal catalogues have one digest; another price, limit or cell has another."""

    def digest(**sections: Any) -> str:
        return load_catalogue(a_job(**sections)).digest

    digests = [
        digest(),
        digest(models={"m": an_entry()}),
        digest(models={"m": an_entry(input_usd_per_mtok="1.1")}),
        digest(providers={"openai": {"concurrency": 3}}),
        digest(route={"table": {"budget": {"code": "gpt-4o"}}}),
    ]
    assert len(set(digests)) == 5
    assert digest(models={"m": an_entry()}) == digests[1]
    assert all(len(value) == 64 and int(value, 16) for value in digests)


# ---------------------------------------------------------------------------------------------------------- warnings


def retiring(retires: date | None, **changes: Any) -> Catalogue:
    """Return a catalogue whose model m is retired on *retires*."""
    entry = an_entry(provider="vllm", retires=retires, **changes)
    return load_catalogue(a_job(models={"m": entry}))


@pytest.mark.parametrize(
    ("days_left", "told"),
    [
        (61, None),
        (60, "m: vllm retires it on 2027-01-14, in 60 days"),
        (1, "m: vllm retires it on 2027-01-14, in 1 days"),
        (0, "m: vllm retired it on 2027-01-14; choose another one"),
        (-9, "m: vllm retired it on 2027-01-14; choose another one"),
    ],
)
def test_retirement_is_told_sixty_days_ahead(days_left: int, told: str | None) -> None:
    """A model about to be retired, or retired, warns before a cent is spent."""
    day = date(2027, 1, 14)
    found = warnings(retiring(day), ["m", "m"], day - timedelta(days=days_left))
    assert found == ([told] if told else [])


def test_model_without_a_date_is_not_warned_about() -> None:
    """No news is no warning."""
    assert warnings(retiring(None), ["m"], TODAY.date()) == []


def test_article_models_warn_of_what_is_not_as_the_article_says() -> None:
    """A name out of service is told with what is asked instead, and a price known from the article only is told too."""
    found = warnings(load_catalogue(), ["deepseek-chat", "glm-4v", "glm-5.1"], TODAY.date())
    assert found == [
        "deepseek-chat: deepseek retired it on 2026-07-24; deepseek-flash is asked instead",
        'glm-4v: no list price is known, so the article\'s of 2026-06-19 is used; give yours in [models."glm-4v"]',
    ]
