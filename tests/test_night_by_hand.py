"""The night's comparison, worked out once more from the recordings alone: plain loops, fractions and decimals."""

import tomllib
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.run import ExitCode, RunOptions, run_job
from pipeline.scorers import find_scorer

ROOT = Path(__file__).parent.parent
NIGHT = ROOT / "data" / "night"
PICO = Decimal("1e-12")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[tuple[str, str], Any]]:
    """Run the job; return its outputs and its comparison as {(scope, arm): line}."""
    out = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        report = run_job(RunOptions(ROOT / "jobs" / "night.toml", output=str(out)))
    assert report.exit_code == ExitCode.OK
    lines = pq.read_table(out / "comparison.parquet").to_pylist()
    planned = pq.read_table(out / "state" / "plan" / "rows.parquet")["model"].to_pylist()
    outputs = pq.read_table(out / "outputs.parquet").to_pylist()
    rows = [row | {"planned": model} for row, model in zip(outputs, planned, strict=True)]
    return rows, {(line["scope"], line["arm"]): line for line in lines}


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Any]]:
    """Return {prompt id: {model: (cost in USD, quality)}} of the recordings."""
    prices = tomllib.loads((NIGHT / "models.toml").read_text())["models"]
    prompts = {row["prompt_id"]: row for row in pq.read_table(NIGHT / "prompts.parquet").to_pylist()}
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in pq.read_table(NIGHT / "answers.parquet").to_pylist():
        cost = bill(prices[row["model"]], row)
        found[row["prompt_id"]][row["model"]] = (
            cost,
            quality(prompts[row["prompt_id"]], row),
            bool(row["answer"].strip()),
        )
    return found


def bill(price: dict[str, str], row: dict[str, Any]) -> Decimal:
    """Return tokens times list prices; nothing of the night was cached."""
    assert not row["cached_input_tokens"]
    tokens = {"input_usd_per_mtok": row["input_tokens"], "output_usd_per_mtok": row["output_tokens"]}
    return sum((Decimal(price[name]) * count for name, count in tokens.items()), Decimal(0)) / 1_000_000


def quality(prompt: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Return the grade: the authors' own, but for numbers and letters, which their parsers sometimes missed."""
    for name, column in (("number", "gold_number"), ("choice", "gold_choice")):
        if prompt[column] is not None:
            return find_scorer(name)(row["answer"], prompt[column]).value
    return row["score"]


def arms_by_hand(rows: list[Any], recorded: dict[str, dict[str, Any]]) -> dict[str, list[Any]]:
    """Return (cost, quality, baseline's quality) of each row in each arm, and what the baseline cost on answered ones."""
    pools: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    arms: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        answers = recorded[row["prompt_id"]]
        pools[tuple(sorted(answers))].append(row)
        base = answers[row["llm_baseline_model"]]
        cost, *said = answers[row["llm_model"]]
        if row["llm_attempts"] > 1:  # the weak answer before the escalation is billed, too
            cost += answers[row["planned"]][0]
        arms["routed"].append((cost, *said, base))
        arms["baseline"].append((*base, base))
    for models, members in pools.items():
        sums = {}
        for model in models:
            scores = [answer[1] for row in members if (answer := recorded[row["prompt_id"]][model])[1] is not None]
            cost = sum(recorded[row["prompt_id"]][model][0] for row in members)
            sums[model] = (cost, round(float(sum(map(Fraction, scores)) / len(scores)), 12) if scores else None)
        graded = [model for model in models if sums[model][1] is not None]
        best = min(graded, key=lambda model: (-sums[model][1], sums[model][0], model))
        cheapest = min(models, key=lambda model: (sums[model][0], -(sums[model][1] or 0), model))
        for row in members:
            answers = recorded[row["prompt_id"]]
            base = answers[row["llm_baseline_model"]]
            arms["best_single"].append((*answers[best], base))
            arms["cheapest_single"].append((*answers[cheapest], base))
    return arms


SCOPES = [
    "all",
    "set=banking77",
    "set=humaneval",
    "set=wmt24",
    "set=simpleqa",
    "task=reasoning",
    "task=code",
    "model=gpt-4",
]


@pytest.mark.parametrize("scope", SCOPES)
def test_each_arm_of_the_night_is_what_a_person_would_work_out(scope, night, recorded) -> None:
    """Cost to the last pico-dollar, rows, saving, quality and difference of all arms follow from the recordings."""
    outputs, comparison = night
    name, _, value = scope.partition("=")
    column = {"set": "set", "task": "llm_task", "model": "llm_model"}.get(name)
    rows = [row for row in outputs if column is None or row[column] == value]
    arms = arms_by_hand(rows, recorded)
    for arm, lines in arms.items():
        found = comparison[scope, arm]
        cost = sum(line[0] for line in lines)
        base_cost = sum(line[3][0] for line in lines if line[2])
        scores = [Fraction(line[1]) for line in lines if line[1] is not None]
        deltas = [
            Fraction(line[1]) - Fraction(line[3][1]) for line in lines if line[1] is not None and line[3][1] is not None
        ]
        assert (found["rows"], found["cost_usd"], found["scored"]) == (len(lines), cost, len(scores)), arm
        assert found["cost_kind"] == "measured"
        assert found["quality"] == pytest.approx(float(sum(scores) / len(scores)), abs=2e-5)
        if arm != "baseline":
            assert found["baseline_cost_usd"] == base_cost
            assert found["saving"] == pytest.approx(float(1 - cost / base_cost), abs=1e-12)
            assert found["paired"] == len(deltas)
            assert found["delta"] == pytest.approx(float(sum(deltas) / len(deltas)), abs=2e-5)
    check_mix(comparison[scope, "single_mix"], arms, found_cost=sum(line[0] for line in arms["routed"]))


def check_mix(found: dict[str, Any], arms: dict[str, list[Any]], *, found_cost: Decimal) -> None:
    """Check that the mix costs what routing cost, and has the quality that the same odds give."""
    dear, cheap = (sum(line[0] for line in arms[arm]) for arm in ("best_single", "cheapest_single"))
    share = (
        Fraction(1)
        if dear <= cheap
        else min(max(Fraction((found_cost - cheap) / (dear - cheap)), Fraction(0)), Fraction(1))
    )
    pairs = [
        (Fraction(best[1]), Fraction(cheapest[1]))
        for best, cheapest in zip(arms["best_single"], arms["cheapest_single"], strict=True)
        if best[1] is not None and cheapest[1] is not None
    ]
    expected = sum(share * best + (1 - share) * cheapest for best, cheapest in pairs) / len(pairs)
    assert found["quality"] == pytest.approx(float(expected), abs=2e-5)
    wanted = Fraction(dear) * share + Fraction(cheap) * (1 - share)
    assert abs(Fraction(found["cost_usd"]) - wanted) <= Fraction(PICO) * found["rows"]


def test_the_baseline_costs_what_it_did(night) -> None:
    """Whatever the routes, the baseline's bill is that of its recordings."""
    _, comparison = night
    assert comparison["all", "baseline"]["cost_usd"].quantize(Decimal("1e-6")) == Decimal("19.819648")
