"""Counted tokens: exact where the vocabulary is known and the extra `tokens` is there, estimated otherwise."""

import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.cli.texts import plan_text
from pipeline.run import RunOptions, plan_job
from pipeline.tokens import estimate_tokens, find_counter
from tests.builders import a_job_file
from tests.test_tokens import OTHER, PLAIN

NIGHT = Path(__file__).parent.parent / "data" / "night"
TASKS = ("code", "classification", "reasoning", "translation", "creative", "general", "vision")


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import of the extra's package fail, as it does where it is not installed."""
    monkeypatch.setitem(sys.modules, "quicktok", None)


def recorded() -> pl.DataFrame:
    """Return the texts of data/night with the tokens of their input as recorded."""
    used = pl.read_parquet(NIGHT / "answers.parquet").group_by("prompt_id").agg(pl.col("input_tokens").max())
    return pl.read_parquet(NIGHT / "prompts.parquet").join(used, on="prompt_id").sort("prompt_id")


def test_estimates_are_never_far_below_recorded_usage() -> None:
    """Of 3,043 recorded prompts none is estimated below 0.7 of its tokens, 99% are above 0.85, and the sum is near."""
    rows = recorded()
    estimates = estimate_tokens(rows["prompt"]) + estimate_tokens(rows["system"])
    ratios = estimates / rows["input_tokens"]
    assert ratios.min() > 0.7
    assert ratios.quantile(0.01) > 0.85
    assert 0.98 < estimates.sum() / rows["input_tokens"].sum() < 1.05


def test_estimates_of_recorded_answers_are_never_far_below() -> None:
    """Of the recorded answers over 20 tokens none is estimated below half of them, and the sum is within a fiftieth."""
    answers = pl.read_parquet(NIGHT / "answers.parquet").filter(pl.col("output_tokens") > 20)
    estimates = estimate_tokens(answers["answer"])
    assert (estimates / answers["output_tokens"]).min() > 0.5
    assert estimates.sum() / answers["output_tokens"].sum() == pytest.approx(1, abs=0.02)


def test_a_count_is_that_of_the_vocabulary() -> None:
    """With the extra a count is the recorded one for every prompt, and for every text whose count is known."""
    count = find_counter("gpt-4o")
    assert count is not None
    rows = recorded()
    assert (count(rows["prompt"]) + count(rows["system"])).tolist() == rows["input_tokens"].to_list()
    texts = pl.Series([text for text, _ in (PLAIN | OTHER).values()])
    assert count(texts.to_arrow()).tolist() == [tokens for _, tokens in (PLAIN | OTHER).values()]
    assert count(pl.Series(["", None, "<|endoftext|>"])).tolist() == [0, 0, 7]


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o-mini", 2), ("openai/GPT-4o-2024-11-20", 2), ("gpt-4-turbo", 5), ("gpt-3.5-turbo-0125", 5),
        ("gpt-6", None), ("gpt-5.2", None), ("gpt-4omega", None), ("my-gpt-4o", None), ("deepseek-chat", None), ("", None),
    ],
)  # fmt: skip
def test_only_a_model_whose_vocabulary_is_known_has_a_counter(model: str, tokens: int | None) -> None:
    """A model is known by its name and those of its versions; one whose name only looks like it is estimated."""
    count = find_counter(model)
    assert (None if count is None else count(pl.Series(["안녕하세요"])).item()) == tokens


@pytest.mark.parametrize("part", ["a", " ", "\n", "価", "1", "ab!", "\0", "e\u0301"])
def test_counting_takes_time_in_proportion_to_the_text(part: str) -> None:
    """Four million characters without a break take less than a second."""
    count = find_counter("gpt-4o")
    assert count is not None
    count(pl.Series(["the vocabulary is read first"]))
    began = time.process_time()
    (tokens,) = count(pl.Series([part * (4_000_000 // len(part))]))
    assert time.process_time() - began < 1
    assert tokens > 10_000


def test_without_the_extra_nothing_is_counted(without_the_extra: None) -> None:
    """Where the extra is not installed, no model has a counter."""
    assert find_counter("gpt-4o") is None


def planned(folder: Path, **sections: str) -> tuple[dict[str, Any], Any]:
    """Plan 60 recorded prompts, code to deepseek-chat and the rest to gpt-4o-mini; return plan.json and the report."""
    folder.mkdir()
    rows = pl.read_parquet(NIGHT / "prompts.parquet").select(pl.col("prompt_id").alias("id"), "prompt")
    pq.write_table(rows.head(60).to_arrow(), folder / "in.parquet")
    table = "\n".join(f'{task} = "{"deepseek-chat" if task == "code" else "gpt-4o-mini"}"' for task in TASKS)
    job = a_job_file(folder, route="escalate = false", route__table__balanced=table, **sections)
    report = plan_job(RunOptions(job))
    return json.loads((folder / "out" / "plan.json").read_text()), report


def test_a_plan_says_which_input_is_exact(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With the extra the input of OpenAI's models is counted, has no error band, and the plan says so; routes stay."""
    system = 'column = "prompt"\nsystem = "Be short."\nmax_output_tokens = 64'
    exact, report = planned(tmp_path / "with", prompt=system)
    request.getfixturevalue("without_the_extra")
    estimated, _ = planned(tmp_path / "without", prompt=system)
    groups = {group["model"]: group for group in exact["groups"]}
    others = {group["model"]: group for group in estimated["groups"]}
    assert {name: group["input_exact"] for name, group in groups.items()} == {
        "gpt-4o-mini": True,
        "deepseek-chat": False,
    }
    assert not any(group["input_exact"] for group in others.values())
    assert groups["deepseek-chat"] == others["deepseek-chat"]
    assert groups["gpt-4o-mini"]["new"] == others["gpt-4o-mini"]["new"]
    assert "tokens in are exact for gpt-4o-mini, and estimated for the others" in plan_text(report.plan)
    assert spooled(tmp_path / "with").drop("input_tokens").equals(spooled(tmp_path / "without").drop("input_tokens"))


def test_the_input_of_a_request_is_its_texts_and_what_the_chat_adds(tmp_path: Path) -> None:
    """A counted request has the tokens of its texts, 4 for each message and 3 for the beginning of the answer."""
    plain, _ = planned(tmp_path / "plain")
    planned(tmp_path / "both", prompt='column = "prompt"\nsystem = "Be short."\nmax_output_tokens = 64')
    count = find_counter("gpt-4o-mini")
    assert count is not None
    rows = spooled(tmp_path / "plain")
    assert rows["input_tokens"].to_list() == (count(rows["user"]) + 4 + 3).tolist()
    with_system = spooled(tmp_path / "both")["input_tokens"] - rows["input_tokens"]
    assert set(with_system) == {4 + count(pl.Series(["Be short."])).item()}
    (group,) = (group for group in plain["groups"] if group["input_exact"])
    assert group["input_tokens"] == rows["input_tokens"].sum()
    # At 0.15 USD per million tokens in and 0.60 out, of which at least one and at most 64 are written.
    least = Decimal(group["input_tokens"]) * Decimal("0.15") + rows.height * Decimal("0.60")
    assert Decimal(group["cost_low_usd"]) == least / 1_000_000
    assert Decimal(group["cost_high_usd"]) == (least + rows.height * 63 * Decimal("0.60")) / 1_000_000


@pytest.mark.parametrize(
    "sections",
    [
        {"prompt": 'column = "prompt"\nexamples = [{ user = "a", assistant = "b" }]'},
        {"output": 'path = "{folder}/out"\nchoices = ["yes", "no"]'},
    ],
)
def test_what_a_provider_spells_out_itself_is_estimated(sections: dict[str, str], tmp_path: Path) -> None:
    """Where turns or a schema go along, no input is called exact."""
    told = {name: text.replace("{folder}", str(tmp_path / "job")) for name, text in sections.items()}
    plan, report = planned(tmp_path / "job", **told)
    assert not any(group["input_exact"] for group in plan["groups"])
    assert "exact" not in plan_text(report.plan)


def spooled(folder: Path) -> pl.DataFrame:
    """Return the planned requests of gpt-4o-mini."""
    return pl.read_parquet(folder / "out" / "state" / "plan" / "gpt-4o-mini" / "*.parquet")
