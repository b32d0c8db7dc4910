"""Routing: each row gets the first model of its cell, or of a higher one, that can take it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.catalogue import Catalogue, cost_pusd, load_catalogue, price_at
from pipeline.errors import JobError
from pipeline.records import PICO_USD, Difficulty, Task, Tier, Usage
from pipeline.route import only_columns, route
from pipeline.spec import Job

ARTICLE_DAY = datetime(2026, 6, 20, tzinfo=UTC)
COLUMNS = ["model", "reason", "escalate_to", "cascade", "baseline"]
LABELS = {"task": pl.String, "difficulty": pl.String, "has_image": pl.Boolean, "input_tokens": pl.Int64}
ARTICLE_TABLE = {  # code, reasoning, classification, translation, creative, general, vision
    "budget": "deepseek-chat deepseek-reasoner glm-4-flash glm-4-flash deepseek-chat deepseek-chat glm-4v",
    "balanced": "deepseek-v4-pro deepseek-reasoner glm-4-flash glm-5.1 glm-5.1 deepseek-chat glm-4v",
    "quality": "deepseek-v4-pro deepseek-reasoner glm-5.1 glm-5.1 glm-5.1 deepseek-v4-pro glm-4v",
}
TASKS = ("code", "reasoning", "classification", "translation", "creative", "general", "vision")


def a_model(**changes: Any) -> dict[str, Any]:
    """Return a [models.NAME] section of a text model of 1,000 tokens."""
    entry = {"provider": "vllm", "context_tokens": 1000, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    return entry | changes


def a_job(models: dict[str, Any] | None = None, **spec: Any) -> Job:
    """Return a job with these models and this [route]."""
    return Job.model_validate(
        {
            "name": "t",
            "input": {"path": "in.csv"},
            "prompt": {"column": "p"},
            "output": {"path": "out"},
            "models": models or {},
            "route": spec,
        }
    )


def rows_of(*rows: tuple[Any, ...], **columns: Sequence[Any]) -> pl.DataFrame:
    """Return rows of (task, difficulty, has_image, input_tokens) with further *columns*."""
    return pl.DataFrame(rows, LABELS, orient="row").with_columns(
        pl.Series(name, data) for name, data in columns.items()
    )


def routed(job: Job, rows: pl.DataFrame, max_output_tokens: int = 100, at: datetime | None = None) -> pl.DataFrame:
    """Route *rows* by *job*."""
    catalogue = load_catalogue(job)
    return route(rows, spec=job.route, catalogue=catalogue, max_output_tokens=max_output_tokens, at=at)


def routed_one(job: Job, *row: Any, **options: Any) -> dict[str, Any]:
    """Route one row."""
    return routed(job, rows_of(row), **options).row(0, named=True)


# -------------------------------------------------------------------------------------------------------- the article


@pytest.mark.parametrize("tier", Tier)
def test_article_table_is_followed_cell_by_cell(tier: Tier) -> None:
    """Each task of each tier goes to the model of the article's table, and the reason names the cell."""
    found = routed(a_job(tier=tier), rows_of(*((task, "easy", task == "vision", 50) for task in TASKS)))
    assert found["model"].to_list() == ARTICLE_TABLE[tier].split()
    assert found["reason"].to_list() == [f"{tier} {task}" for task in TASKS]
    assert found["baseline"].unique().to_list() == ["gpt-4o"]


@given(
    cap=st.decimals("0.0001", "0.01", places=4),
    task=st.sampled_from(TASKS),
    tier=st.sampled_from(Tier),
)
def test_cap_follows_the_articles_route_with_fallback(cap: Decimal, task: str, tier: Tier) -> None:
    """At 2,000 tokens in and 1,000 out and the article's prices the walk ends where the article's function ends."""
    job = a_job(tier=tier, max_cost_usd=str(cap))
    models = load_catalogue(job).models
    expected = ARTICLE_TABLE["budget"].split()[TASKS.index(task)]
    for names in ARTICLE_TABLE.values():
        name = names.split()[TASKS.index(task)]
        price = price_at(models[name], ARTICLE_DAY)
        if price.input * Decimal("0.002") + price.output * Decimal("0.001") <= cap:
            expected = name
            break
    found = routed_one(job, task, "easy", task == "vision", 2000, max_output_tokens=1000, at=ARTICLE_DAY)
    assert found["model"] == expected


# ----------------------------------------------------------------------------------------------------------- one row


def test_hard_cell_stands_before_the_cell_of_the_task() -> None:
    """A cell of task and difficulty takes its rows; the other difficulties stay with the task's cell."""
    job = a_job(table={"balanced": {"code.hard": "gpt-4o"}})
    found = routed(job, rows_of(*(("code", difficulty, False, 50) for difficulty in ("easy", "medium", "hard"))))
    assert found["model"].to_list() == ["deepseek-v4-pro", "deepseek-v4-pro", "gpt-4o"]
    assert found["reason"].to_list() == ["balanced code", "balanced code", "balanced code.hard"]


def test_first_model_of_a_cell_that_fits_is_taken() -> None:
    """Models are tried in the order of the cell, and the reason says why one was passed over."""
    models = {"short": a_model(), "long": a_model(context_tokens=5000)}
    job = a_job(models, table={"balanced": {"code": ["short", "long"]}})
    assert routed_one(job, "code", "easy", False, 900)["model"] == "short"
    assert routed_one(job, "code", "easy", False, 901) == {
        "model": "long",
        "reason": "balanced code; not short (holds 1000 tokens)",
        "escalate_to": "deepseek-v4-pro",
        "cascade": None,
        "baseline": "gpt-4o",
    }


def test_row_that_fits_nowhere_in_its_tier_goes_up() -> None:
    """A tier whose models can't take the row is passed over for the next one, and never for a lower one."""
    models = {"small": a_model(), "big": a_model(context_tokens=9000)}
    table = {"budget": {"code": "big"}, "balanced": {"code": "small"}, "quality": {"code.hard": "big", "code": "small"}}
    job = a_job(models, table=table)
    assert routed_one(job, "code", "hard", False, 2000)["reason"] == "quality code.hard; not small (holds 1000 tokens)"
    assert routed_one(job, "code", "easy", False, 2000)["model"] is None


def test_row_that_no_model_takes_says_why() -> None:
    """Where nothing fits there is no model, and the reason names each one that was tried with its limit."""
    models = {"blind": a_model(), "tiny": a_model(vision=True, context_tokens=200)}
    job = a_job(models, table={tier: {"vision": ["blind", "tiny"]} for tier in ("balanced", "quality")})
    assert routed_one(job, "vision", "easy", True, 150) == {
        "model": None,
        "reason": "no model fits: blind (sees no pictures), tiny (holds 200 tokens)",
        "escalate_to": None,
        "cascade": None,
        "baseline": "gpt-4o",
    }
    assert routed_one(job, "vision", "easy", False, 150)["model"] == "blind"


def test_unknown_task_is_routed_nowhere() -> None:
    """A label outside the table gives a reason and no model."""
    assert routed_one(a_job(), "poetry", "easy", False, 5)["reason"] == "the table has no cell poetry"
    assert routed_one(a_job(), None, None, None, None)["model"] is None


def test_only_columns_restrict_a_model() -> None:
    """A model takes only rows whose column has one of its values, be they text, numbers or true and false."""
    models = {
        "a": a_model(only={"lang": ["de", "fr"]}),
        "b": a_model(only={"year": [2024], "ok": [True]}),
        "c": a_model(),
    }
    job = a_job(models, table={"balanced": {"code": ["a", "b", "c"]}})
    rows = rows_of(
        *[("code", "easy", False, 5)] * 6,
        lang=["de", "fr", "en", None, "en", "DE"],
        year=[2024, 1, 2024, 2024, 2023, 2024],
        ok=[True, True, True, True, True, False],
    )
    found = routed(job, rows)
    assert found["model"].to_list() == ["a", "a", "b", "b", "c", "c"]
    assert found["reason"][5] == "balanced code; not a (not for this lang), b (not for this ok)"
    as_read_from_csv = rows.with_columns(pl.col("lang").cast(pl.Categorical), pl.col("year").cast(pl.String))
    assert routed(job, as_read_from_csv)["model"].to_list() == found["model"].to_list()
    assert only_columns(load_catalogue(job), job.route) == ["lang", "year", "ok"]


def test_only_may_name_the_labels() -> None:
    """Restricting a model by task or difficulty means the label and asks for no input column."""
    job = a_job({"a": a_model(only={"difficulty": ["easy"]})}, table={"balanced": {"code": ["a", "gpt-4o"]}})
    assert only_columns(load_catalogue(job), job.route) == []
    assert routed_one(job, "code", "easy", False, 5)["model"] == "a"
    assert routed_one(job, "code", "hard", False, 5)["model"] == "gpt-4o"


def test_only_on_a_column_that_can_not_be_compared_is_refused() -> None:
    """A list or a fraction has no exact text, so a restriction by it stops the job."""
    job = a_job({"a": a_model(only={"score": [1]})}, table={"balanced": {"code": "a"}})
    with pytest.raises(
        JobError, match="column score: `only` compares text, whole numbers and true or false, not Float64"
    ):
        routed(job, rows_of(("code", "easy", False, 5), score=[1.0]))


def test_only_columns_leave_out_what_no_row_can_reach() -> None:
    """A model of a lower tier, or of no cell, asks for no column; with a cap the budget tier is reachable."""
    models = {"a": a_model(only={"x": ["1"]}), "unused": a_model(only={"y": ["1"]})}
    table = {"budget": {"code": "a"}}
    plain, capped = a_job(models, table=table), a_job(models, table=table, max_cost_usd="1")
    assert only_columns(load_catalogue(plain), plain.route) == []
    assert only_columns(load_catalogue(capped), capped.route) == ["x"]


# -------------------------------------------------------------------------------------------------------- escalation


@pytest.mark.parametrize(
    ("tier", "task", "escalate_to"),
    [
        ("budget", "code", "deepseek-v4-pro"),
        ("budget", "translation", "glm-5.1"),
        ("budget", "general", "deepseek-v4-pro"),
        ("balanced", "classification", "glm-5.1"),
        ("balanced", "code", None),
        ("budget", "reasoning", None),
        ("quality", "general", None),
    ],
)
def test_escalation_is_the_first_other_model_of_a_higher_tier(tier: str, task: str, escalate_to: str | None) -> None:
    """A bad answer is asked again of a stronger model, or of none where the tiers above have no other."""
    assert routed_one(a_job(tier=tier), task, "easy", False, 5)["escalate_to"] == escalate_to
    assert routed_one(a_job(tier=tier, escalate=False), task, "easy", False, 5)["escalate_to"] is None


def test_escalation_leaves_the_tier() -> None:
    """The next model of the same cell is an alternative, not a stronger one, so it is not escalated to."""
    models = {"one": a_model(), "two": a_model(), "three": a_model()}
    job = a_job(models, table={"balanced": {"code": ["one", "two"]}, "quality": {"code": ["one", "three"]}})
    assert routed_one(job, "code", "easy", False, 5)["escalate_to"] == "three"


def test_escalation_must_fit_the_row_too() -> None:
    """A stronger model that can't hold the row is passed over for the next tier's."""
    models = {"cheap": a_model(context_tokens=9000), "tiny": a_model(), "big": a_model(context_tokens=9000)}
    table = {"budget": {"code": "cheap"}, "balanced": {"code": "tiny"}, "quality": {"code": "big"}}
    job = a_job(models, tier="budget", table=table)
    assert routed_one(job, "code", "easy", False, 100)["escalate_to"] == "tiny"
    assert routed_one(job, "code", "easy", False, 5000)["escalate_to"] == "big"


# ---------------------------------------------------------------------------------------------------------------- cap


def capped(cap: str) -> Job:
    """Return a job with one model a tier: 1, 2 and 4 USD per million tokens in, twice that out."""
    models = {
        name: a_model(input_usd_per_mtok=str(usd), output_usd_per_mtok=str(2 * usd), context_tokens=10**6)
        for name, usd in (("cheap", 1), ("middle", 2), ("dear", 4))
    }
    models["cheap"]["context_tokens"] = 500
    table = {"budget": {"code": "cheap"}, "balanced": {"code": "middle"}, "quality": {"code": "dear"}}
    return a_job(models, tier="quality", max_cost_usd=cap, table=table)


def test_cap_walks_up_from_the_budget_tier() -> None:
    """With a cap the cheapest tier that fits the row and the cap is taken, whatever the tier says."""
    job = capped("0.0012")  # at 100 tokens out: 1,000 in for cheap, 400 for middle, 100 for dear
    found = routed(job, rows_of(*(("code", "easy", False, tokens) for tokens in (100, 400, 401))))
    assert found.rows() == [
        ("cheap", "budget code", "middle", None, "gpt-4o"),
        ("cheap", "budget code", "middle", None, "gpt-4o"),
        ("middle", "balanced code; none costs at most 0.0012 USD; not cheap (holds 500 tokens)", None, None, "gpt-4o"),
    ]


def test_cap_that_nothing_meets_falls_back_to_the_budget_tier() -> None:
    """A row whose every model is too dear gets the cheapest tier's, as in the article, and the reason says so."""
    assert routed_one(capped("0.0001"), "code", "easy", False, 100) == {
        "model": "cheap",
        "reason": "budget code; none costs at most 0.0001 USD",
        "escalate_to": None,
        "cascade": None,
        "baseline": "gpt-4o",
    }


def test_cap_may_be_used_up_to_the_last_digit() -> None:
    """A model whose output alone costs exactly the cap is within it when its input is free."""
    models = {"m": a_model(input_usd_per_mtok="0", output_usd_per_mtok="10")}
    # In every tier, as the prices of other models may follow the hours.
    job = a_job(models, max_cost_usd="0.001", table={tier: {"code": "m"} for tier in Tier})
    assert routed_one(job, "code", "easy", False, 500)["reason"] == "budget code"
    assert "none costs at most" in routed_one(job, "code", "easy", False, 500, max_output_tokens=101)["reason"]


def test_model_over_the_cap_is_named() -> None:
    """A model passed over for its cost is told with the cap."""
    models = {
        "dear": a_model(input_usd_per_mtok="50"),
        "free": a_model(input_usd_per_mtok="0", output_usd_per_mtok="0"),
    }
    job = a_job(models, max_cost_usd="0.001", table={"budget": {"code": ["dear", "free"]}})
    found = routed_one(job, "code", "easy", False, 100)
    assert (found["model"], found["reason"]) == ("free", "budget code; not dear (over 0.001 USD)")


# ----------------------------------------------------------------------------------------------------------- baseline


def test_baseline_may_be_one_model_a_table_or_a_column() -> None:
    """The baseline is the same for all, or by task with none where the table has no entry, or what the row says."""
    rows = rows_of(("code", "easy", False, 5), ("general", "easy", False, 5), b=["glm-5.1", None])
    for baseline, expected in (
        ("gpt-4o-mini", ["gpt-4o-mini", "gpt-4o-mini"]),
        ({"code": "gpt-4o-mini"}, ["gpt-4o-mini", None]),
        ({"column": "b"}, ["glm-5.1", None]),
    ):
        job = a_job(baseline=baseline)
        assert routed(job, rows)["baseline"].to_list() == expected
        assert only_columns(load_catalogue(job), job.route) == (["b"] if "column" in baseline else [])


def test_row_that_names_an_unknown_baseline_is_refused() -> None:
    """A baseline without a price can't be compared, so the job stops before anything is sent."""
    rows = rows_of(("code", "easy", False, 5), ("code", "easy", False, 5), b=["glm-5.1", "gpt-99"])
    with pytest.raises(JobError, match=r"column b names models without a known price: gpt-99"):
        routed(a_job(baseline={"column": "b"}), rows)


# --------------------------------------------------------------------------------------------------------- properties

names = st.sampled_from(["m0", "m1", "m2", "m3"])
entries = st.fixed_dictionaries(
    {
        "provider": st.just("vllm"),
        "context_tokens": st.integers(101, 400),
        "vision": st.booleans(),
        "input_usd_per_mtok": st.sampled_from(["0", "0.5", "3"]),
        "output_usd_per_mtok": st.sampled_from(["0", "1", "15"]),
        "only": st.sampled_from([{}, {"lang": ["de"]}, {"lang": ["de", "fr"]}]),
    }
)
cells = st.dictionaries(
    st.sampled_from(["code", "code.hard", "vision"]), st.lists(names, min_size=1, max_size=3, unique=True)
)
jobs = st.builds(
    a_job,
    st.fixed_dictionaries({f"m{number}": entries for number in range(4)}),
    tier=st.sampled_from(Tier),
    escalate=st.booleans(),
    max_cost_usd=st.none() | st.sampled_from(["0.0001", "0.001", "0.01"]),
    table=st.fixed_dictionaries(dict.fromkeys(Tier, cells)),
)
labelled = st.tuples(
    st.sampled_from([Task.CODE, Task.VISION, Task.GENERAL]),
    st.sampled_from(Difficulty),
    st.booleans(),
    st.integers(0, 450),
    st.sampled_from(["de", "fr", "x"]),
)
tables = st.lists(labelled, max_size=30)
MAX_OUTPUT_TOKENS = 100


def frame_of(table: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Return rows with a column lang."""
    return pl.DataFrame(table, {**LABELS, "lang": pl.String}, orient="row")


def one_by_one(catalogue: Catalogue, job: Job, row: tuple[Any, ...]) -> tuple[str | None, str | None]:
    """Route one row the plain way: model and escalation."""
    task, difficulty, has_image, tokens, lang = row
    tiers = list(Tier)
    start = 0 if job.route.max_cost_usd is not None else tiers.index(job.route.tier)
    found: list[tuple[int, str, bool]] = []
    for place in range(start, 3):
        cell_of = catalogue.table[tiers[place]]
        for name in cell_of.get(f"{task}.{difficulty}", cell_of[task]):
            model = catalogue.models[name]
            if (has_image and not model.vision) or tokens + MAX_OUTPUT_TOKENS > model.context_tokens:
                continue
            if "lang" in model.only and lang not in model.only["lang"]:
                continue
            cost = cost_pusd(Usage(tokens, MAX_OUTPUT_TOKENS), price_at(model, datetime.now(UTC))) * PICO_USD
            found.append((place, name, job.route.max_cost_usd is None or cost <= job.route.max_cost_usd))
    if not found:
        return None, None
    within = [step for step in found if step[2]]
    place, name, _ = (within or found)[0]
    higher = [other for at, other, _ in within if at > place and other != name]
    return name, higher[0] if higher and job.route.escalate else None


@given(job=jobs, table=tables)
def test_batch_is_routed_as_its_rows_one_by_one(job: Job, table: list[tuple[Any, ...]]) -> None:
    """The vectorised routing of a batch is that of a plain loop over its rows, row for row and in order."""
    catalogue = load_catalogue(job)
    found = routed(job, frame_of(table), MAX_OUTPUT_TOKENS)
    assert found.columns == COLUMNS
    assert found.select("model", "escalate_to").rows() == [one_by_one(catalogue, job, row) for row in table]
    assert found["reason"].null_count() == 0


@given(job=jobs, table=tables)
def test_no_row_goes_where_it_can_not_be_answered(job: Job, table: list[tuple[Any, ...]]) -> None:
    """Neither the model nor the escalation of a row is ever blind to its picture, too small, or not allowed."""
    models = load_catalogue(job).models
    for row, found in zip(table, routed(job, frame_of(table), MAX_OUTPUT_TOKENS).iter_rows(named=True), strict=True):
        for name in filter(None, (found["model"], found["escalate_to"])):
            assert models[name].vision or not row[2]
            assert row[3] + MAX_OUTPUT_TOKENS <= models[name].context_tokens
            assert row[4] in models[name].only.get("lang", (row[4],))


@given(job=jobs, table=tables, data=st.data())
def test_rows_do_not_matter_to_each_other_nor_does_their_text(
    job: Job, table: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    """Rows in another order, cut into batches, or with other texts beside them are routed as before."""
    rows = frame_of(table)
    expected = routed(job, rows)
    order = data.draw(st.permutations(range(len(table))))
    assert_frame_equal(routed(job, rows[order]), expected[order])
    cut = data.draw(st.integers(0, len(table)))
    assert_frame_equal(pl.concat([routed(job, rows[:cut]), routed(job, rows[cut:])]), expected)
    texts = pl.Series("user", [data.draw(st.text(max_size=5)) for _ in table], dtype=pl.String)
    assert_frame_equal(routed(job, rows.with_columns(texts, model=texts)), expected)


def test_half_a_million_rows_take_less_than_a_second_of_cpu() -> None:
    """Batches of 8,192 rows are routed at 500,000 rows per CPU-second or more."""
    batch = rows_of(
        *(
            (task, difficulty, task == "vision", 50 * n)
            for task in TASKS
            for difficulty in Difficulty
            for n in range(390)
        )
    )
    job = a_job()
    catalogue = load_catalogue(job)
    started = time.process_time()
    for _ in range(12):
        route(batch, spec=job.route, catalogue=catalogue, max_output_tokens=100)
    assert 12 * batch.height / (time.process_time() - started) >= 500_000
