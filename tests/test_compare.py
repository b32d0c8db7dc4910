"""The comparison, recomputed by plain arithmetic, and at its edges."""

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compare import COMPARISON_SCHEMA, compare
from pipeline.errors import JobError
from pipeline.scorers import Score
from pipeline.spec import Job, validate

MONEY = pa.decimal128(18, 12)
OUTPUT_SCHEMA = pa.schema(
    [
        ("gold", pa.string()),
        ("graded", pa.bool_()),
        ("set", pa.string()),
        ("llm_answer", pa.string()),
        ("llm_status", pa.string()),
        ("llm_task", pa.string()),
        ("llm_model", pa.string()),
        ("llm_input_tokens", pa.int64()),
        ("llm_output_tokens", pa.int64()),
        ("llm_usage", pa.string()),
        ("llm_cost_usd", MONEY),
        ("llm_baseline_model", pa.string()),
        ("llm_baseline_cost_usd", MONEY),
        ("llm_latency_s", pa.float64()),
        ("llm_request_id", pa.string()),
    ]
)
OUTCOMES_SCHEMA = {
    "row": pl.Int64,
    "model": pl.String,
    "answer": pl.String,
    "cost_usd": pl.Decimal(18, 12),
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "latency_s": pl.Float64,
    "score": pl.Float64,
    "score_kind": pl.String,
}


def a_row(number, **changes):
    """Return a row of outputs: answered right by a small model at a tenth of the baseline's cost."""
    return {
        "gold": "yes",
        "graded": None,
        "set": "one",
        "llm_answer": "yes",
        "llm_status": "ok",
        "llm_task": "general",
        "llm_model": "small",
        "llm_input_tokens": 100,
        "llm_output_tokens": 10,
        "llm_usage": "measured",
        "llm_cost_usd": Decimal("0.001"),
        "llm_baseline_model": "large",
        "llm_baseline_cost_usd": Decimal("0.01"),
        "llm_latency_s": 1.0,
        "llm_request_id": f"{number:032x}",
    } | changes


def an_outcome(row, model, **changes):
    """Return a recorded answer: right, at a cent."""
    return {
        "row": row,
        "model": model,
        "answer": "yes",
        "cost_usd": Decimal("0.01"),
        "input_tokens": 90,
        "output_tokens": 20,
        "latency_s": 2.0,
        "score": None,
        "score_kind": None,
    } | changes


def a_job(**compare_section) -> Job:
    section = {"references": {"exact": "gold"}} | compare_section
    required = {"name": "night", "input": {"path": "in"}, "prompt": {"column": "prompt"}, "output": {"path": "out"}}
    return validate(Job, required | {"compare": section}, where="test")


def compared(folder: Path, rows, outcomes=None, **compare_section):
    """Return the comparison as {(scope, arm): line}."""
    path = folder / "outputs.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=OUTPUT_SCHEMA), path, row_group_size=5)
    recorded = None if outcomes is None else pl.DataFrame(outcomes, schema=OUTCOMES_SCHEMA, orient="row")
    table = compare(path, outcomes=recorded, job=a_job(**compare_section))
    assert table.schema.equals(COMPARISON_SCHEMA, check_metadata=True)
    return {(line["scope"], line["arm"]): line for line in table.to_pylist()}


def by_hand(rows, outcomes):
    """Return what each arm must say in scope "all": plain loops, exact arithmetic, one row at a time."""
    asked, first = set(), []
    for row in rows:
        first.append(row["llm_request_id"] not in asked)
        asked.add(row["llm_request_id"])
    recorded = {(outcome["row"], outcome["model"]): outcome for outcome in outcomes}
    pools = defaultdict(list)
    lines = {"routed": [], "baseline": [], "best_single": [], "cheapest_single": []}
    for place, row in enumerate(rows):
        if row["llm_status"] == "pending":
            lines["routed"].append((row["llm_cost_usd"], 0, None, None))
            continue
        theirs = recorded.get((place, row["llm_baseline_model"]))
        base_cost = theirs["cost_usd"] * first[place] if theirs else row["llm_baseline_cost_usd"]
        base_right = Fraction(theirs["answer"] == row["gold"]) if theirs and row["gold"] else None
        answered = row["llm_status"] in ("ok", "truncated")
        right = Fraction(answered and row["llm_answer"] == row["gold"]) if row["gold"] else None
        lines["routed"].append((row["llm_cost_usd"], base_cost * answered, right, base_right))
        lines["baseline"].append((base_cost, base_cost, base_right, base_right))
        models = tuple(sorted(model for number, model in recorded if number == place))
        if models:
            pools[models].append((place, base_cost, base_right))
    for models, members in pools.items():
        totals = {}
        for model in models:
            answers = [recorded[place, model] for place, _, _ in members]
            cost = sum(
                answer["cost_usd"] * first[place] for answer, (place, _, _) in zip(answers, members, strict=True)
            )
            scores = [
                Fraction(answer["answer"] == rows[place]["gold"])
                for answer, (place, _, _) in zip(answers, members, strict=True)
                if rows[place]["gold"]
            ]
            totals[model] = (cost, sum(scores) / len(scores) if scores else None)
        known = [model for model in models if totals[model][1] is not None]
        choices = {
            "cheapest_single": min(models, key=lambda model: (totals[model][0], -(totals[model][1] or 0), model))
        }
        if known:
            choices["best_single"] = min(known, key=lambda model: (-totals[model][1], totals[model][0], model))
        for arm, model in choices.items():
            for place, base_cost, base_right in members:
                answer = recorded[place, model]
                gold = rows[place]["gold"]
                right = Fraction(answer["answer"] == gold) if gold else None
                cost = answer["cost_usd"] * first[place]
                lines[arm].append((cost, base_cost * bool(answer["answer"]), right, base_right))
    return {arm: arm_by_hand(found, arm) for arm, found in lines.items()}


def arm_by_hand(lines, arm):
    cost = sum((line[0] for line in lines), Decimal(0))
    base = sum((line[1] for line in lines), Decimal(0))
    scores = [line[2] for line in lines if line[2] is not None]
    deltas = [line[2] - line[3] for line in lines if line[2] is not None and line[3] is not None]
    return {
        "rows": len(lines),
        "cost_usd": cost if lines or arm == "routed" else None,
        "baseline_cost_usd": base if lines or arm == "routed" else None,
        "saving": float(1 - Fraction(cost) / Fraction(base)) if base else None,
        "scored": len(scores) if lines or arm == "routed" else None,
        "quality": float(sum(scores) / len(scores)) if scores else None,
        "paired": None if arm == "baseline" else len(deltas),
        "delta": float(sum(deltas) / len(deltas)) if deltas and arm != "baseline" else None,
    }


amounts = st.integers(0, 5).map(lambda cents: Decimal(cents) / 1000 + (Decimal(cents) and Decimal("1e-12")))
answers = st.sampled_from(["yes", "no", ""])


@st.composite
def nights(draw):
    """Draw a small night: shared requests, lost and pending rows, rows without reference, partial recordings."""
    request = st.integers(0, 9) if draw(st.booleans()) else st.uuids().map(int)
    rows = [
        a_row(
            draw(request),
            gold=draw(st.sampled_from(["yes", "no", None])),
            llm_answer=draw(answers),
            llm_status=draw(st.sampled_from(["ok", "ok", "ok", "truncated", "failed", "blocked", "pending"])),
            llm_task=draw(st.sampled_from(["code", "general"])),
            llm_model=draw(st.sampled_from(["small", "middle", "large"])),
            llm_cost_usd=draw(amounts),
            llm_baseline_cost_usd=draw(amounts),
        )
        for _ in range(draw(st.integers(0, 14)))
    ]
    pools = [("small", "middle", "large"), ("small", "large"), ("middle",), ()]
    outcomes = [
        an_outcome(place, model, answer=draw(answers), cost_usd=draw(amounts))
        for place in range(len(rows))
        for model in draw(st.sampled_from(pools))
    ]
    return rows, outcomes


@given(night=nights(), random=st.randoms())
@settings(max_examples=40)
def test_every_arm_is_what_plain_arithmetic_says(tmp_path_factory, night, random) -> None:
    """Rows, exact costs, savings, quality and paired differences of all four arms, in whatever order the rows come."""
    rows, outcomes = night
    folder = tmp_path_factory.mktemp("night")
    found = compared(folder, rows, outcomes)
    for arm, expected in by_hand(rows, outcomes).items():
        line = found["all", arm]
        for name, value in expected.items():
            wanted = pytest.approx(value, abs=1e-12) if isinstance(value, float) else value
            assert line[name] == wanted, (arm, name)
        for name in ("saving", "quality", "delta"):
            if line[name] is not None and line[f"{name}_low"] is not None:
                assert line[f"{name}_low"] - 1e-9 <= line[name] <= line[f"{name}_high"] + 1e-9
    places = list(range(len(rows)))
    random.shuffle(places)
    order = {old: new for new, old in enumerate(places)}
    moved = [outcome | {"row": order[outcome["row"]]} for outcome in random.sample(outcomes, len(outcomes))]
    # Of rows that share a request the first one counts, so their order does matter.
    if len({row["llm_request_id"] for row in rows}) == len(rows):
        assert compared(folder, [rows[place] for place in places], moved) == found


def test_a_scope_is_compared_on_its_own_rows(tmp_path) -> None:
    """Each task, each model that answered and each value of the columns asked for has its four arms."""
    rows = [
        a_row(0, llm_task="code", set="one"),
        a_row(1, llm_task="code", set=None, llm_model="large", llm_answer="no"),
        a_row(2, llm_task="general", set="two", llm_status="failed", llm_model=None, llm_answer=None),
    ]
    found = compared(tmp_path, rows, by=["set"])
    scopes = list(dict.fromkeys(scope for scope, _ in found))
    assert scopes == [
        "all", "task=code", "task=general", "model=large", "model=small", "set=(none)", "set=one", "set=two",
    ]  # fmt: skip
    assert [found[scope, "routed"]["rows"] for scope in scopes] == [3, 2, 1, 1, 1, 1, 1, 1]
    assert [found[scope, "routed"]["quality"] for scope in scopes] == [pytest.approx(1 / 3), 0.5, 0, 0, 1, 0, 1, 0]
    assert found["all", "routed"]["model"] == "large, small"


def test_rows_of_each_kind_are_counted(tmp_path) -> None:
    """Every row is in exactly one count, and only answered ones bring a saving."""
    kinds = ("ok", "failed", "blocked", "truncated", "pending")
    rows = [a_row(place, llm_status=kind) for place, kind in enumerate(kinds)]
    line = compared(tmp_path, rows)["all", "routed"]
    assert [line[kind] for kind in kinds] == [1] * 5
    assert (line["rows"], line["cost_usd"]) == (5, Decimal("0.005"))
    assert line["baseline_cost_usd"] == Decimal("0.02")
    assert (line["scored"], line["quality"]) == (4, 0.5)
    assert "pending rows, left out: 1" in line["note"]
    assert "rows without an answer, at quality 0 and no baseline cost: 2" in line["note"]


def test_lost_rows_are_no_saving(tmp_path) -> None:
    """A night in which every row failed at no cost has saved nothing and answered nothing right."""
    rows = [a_row(place, llm_status="failed", llm_answer=None, llm_cost_usd=Decimal(0)) for place in range(45)]
    outcomes = [an_outcome(place, "large") for place in range(45)]
    found = compared(tmp_path, rows, outcomes)
    routed = found["all", "routed"]
    assert (routed["saving"], routed["saving_verdict"], routed["baseline_cost_usd"]) == (None, None, 0)
    assert (routed["quality"], routed["delta"], routed["verdict"]) == (0, -1, "worse")
    assert found["all", "baseline"]["cost_usd"] == Decimal("0.45")


def test_a_free_model_and_a_free_baseline_divide_nothing(tmp_path) -> None:
    """A free routed model saves all; on a free baseline there is nothing to save."""
    free = [a_row(place, llm_cost_usd=Decimal(0)) for place in range(45)]
    line = compared(tmp_path, free)["all", "routed"]
    assert (line["saving"], line["saving_verdict"]) == (1, "cheaper")
    found = compared(tmp_path, [row | {"llm_baseline_cost_usd": Decimal(0)} for row in free])
    assert found["all", "routed"]["saving"] is found["all", "baseline"]["saving"] is None


@given(costs=st.lists(st.integers(1, 10**6).map(Decimal), min_size=1, max_size=60))
@settings(max_examples=15)
def test_an_arm_like_the_baseline_saves_nothing(tmp_path_factory, costs) -> None:
    """Equal costs and answers give a saving and a difference of exactly 0, and no significant saving."""
    rows = [
        a_row(place, llm_cost_usd=cost / 10**6, llm_model="large", gold="yes" if place % 3 else "no")
        for place, cost in enumerate(costs)
    ]
    outcomes = [an_outcome(place, "large", cost_usd=cost / 10**6) for place, cost in enumerate(costs)]
    found = compared(tmp_path_factory.mktemp("night"), rows, outcomes)
    for arm in ("routed", "best_single", "cheapest_single"):
        line = found["all", arm]
        assert (line["saving"], line["delta"]) == (0, 0)
        assert line["saving_verdict"] == ("no significant saving" if len(costs) >= 40 else "too few rows to say")
        assert line["verdict"] == "too few rows to say"


def test_no_rows_at_all_make_a_comparison(tmp_path) -> None:
    """An empty night has its scope and its arms, with nothing in them."""
    found = compared(tmp_path, [])
    assert list(found) == [
        ("all", arm) for arm in ("routed", "baseline", "best_single", "cheapest_single", "single_mix")
    ]
    assert (found["all", "routed"]["rows"], found["all", "routed"]["cost_usd"]) == (0, 0)
    assert found["all", "best_single"]["cost_usd"] is None


def test_without_recorded_answers_the_baseline_is_an_estimate(tmp_path) -> None:
    """Its cost is there and marked, its quality is not, and the single-model arms say why they are empty."""
    found = compared(tmp_path, [a_row(place) for place in range(45)])
    baseline = found["all", "baseline"]
    assert (baseline["cost_usd"], baseline["cost_kind"], baseline["measured_rows"]) == (Decimal("0.45"), "estimated", 0)
    assert (baseline["ok"], baseline["quality"], baseline["latency_p50_s"]) == (None, None, None)
    assert baseline["note"] == (
        "rows estimated, the same tokens at its price: 45; rows without an answer of its own to score: 45"
    )
    routed = found["all", "routed"]
    assert (routed["saving"], routed["saving_verdict"]) == (pytest.approx(0.9), "cheaper")
    assert (routed["cost_kind"], routed["paired"], routed["verdict"]) == ("measured", 0, None)
    assert found["all", "best_single"]["note"] == "no recorded answers to choose from"


def test_a_partly_recorded_baseline_is_measured_where_it_can_be(tmp_path) -> None:
    """Recorded rows count by their own tokens and cost, the others by the estimate, and the whole is an estimate."""
    found = compared(tmp_path, [a_row(0), a_row(1)], [an_outcome(0, "large", cost_usd=Decimal("0.02"))])
    baseline = found["all", "baseline"]
    assert (baseline["cost_usd"], baseline["cost_kind"], baseline["measured_rows"]) == (Decimal("0.03"), "estimated", 1)
    assert (baseline["input_tokens"], baseline["output_tokens"]) == (190, 30)
    assert (baseline["ok"], baseline["scored"], found["all", "routed"]["paired"]) == (1, 1, 1)
    assert found["all", "best_single"]["note"] == "rows with answers to choose from: 1 of 2"


def test_a_shared_request_counts_once_in_every_arm(tmp_path) -> None:
    """Tokens and recorded costs of rows that share a request count on the first; so do what is written as 0."""
    nothing = {"llm_cost_usd": Decimal(0), "llm_baseline_cost_usd": Decimal(0)}
    rows = [a_row(7), a_row(7, **nothing), a_row(7, **nothing)]
    outcomes = [an_outcome(place, "large") for place in range(3)]
    found = compared(tmp_path, rows, outcomes)
    assert {line["cost_usd"] for (scope, arm), line in found.items() if arm == "best_single"} == {Decimal("0.01")}
    assert found["all", "baseline"]["cost_usd"] == found["all", "routed"]["baseline_cost_usd"] == Decimal("0.01")
    assert (found["all", "routed"]["input_tokens"], found["all", "baseline"]["input_tokens"]) == (100, 90)


def test_unreported_usage_makes_a_cost_an_estimate(tmp_path) -> None:
    """A bill is measured only when the usage of every row that was asked is."""
    asked = [a_row(0), a_row(1, llm_usage="missing", llm_cost_usd=None, llm_baseline_cost_usd=None)]
    line = compared(tmp_path, asked)["all", "routed"]
    assert (line["cost_kind"], line["measured_rows"], line["cost_usd"]) == ("estimated", 1, Decimal("0.001"))
    assert "answers of unknown cost, taken as 0: 1" in line["note"]
    never_asked = [a_row(0), a_row(1, llm_usage=None, llm_status="failed", llm_cost_usd=Decimal(0))]
    assert compared(tmp_path, never_asked)["all", "routed"]["cost_kind"] == "measured"


def test_a_row_is_scored_by_the_first_reference_it_has(tmp_path) -> None:
    """The order of the job file decides, and a scope with several metrics is called mixed."""
    rows = [
        a_row(0, gold="Yes", llm_task="code"),
        a_row(1, gold=None, set="YES.", llm_task="general"),
        a_row(2, gold=None),
    ]
    found = compared(tmp_path, rows[:2], references={"exact": "gold", "label": "set"})
    assert [found[scope, "routed"]["metric"] for scope in ("task=code", "task=general", "all")] == [
        "exact",
        "label",
        "mixed",
    ]
    assert [found[scope, "routed"]["quality"] for scope in ("task=code", "task=general", "all")] == [0, 1, 0.5]
    none = compared(tmp_path, rows, references={})["all", "routed"]
    assert (none["metric"], none["scored"], none["quality"]) == (None, 0, None)
    assert none["note"] == "no references to score answers with"


def test_a_recorded_grade_counts_for_the_answer_it_was_given_to(tmp_path) -> None:
    """The grade of this model on this row counts, is named by its kind, and not for another text."""
    rows = [a_row(place, graded=True) for place in range(4)]
    rows[1]["llm_answer"] = "something new"
    rows[2] |= {"llm_status": "failed", "llm_answer": None}
    outcomes = [
        an_outcome(place, model, score=score, score_kind="judge / 10")
        for place in range(4)
        for model, score in (("small", 0.25), ("large", 0.75))
    ]
    outcomes = [outcome for outcome in outcomes if (outcome["row"], outcome["model"]) != (3, "small")]
    found = compared(tmp_path, rows, outcomes, references={"recorded": "graded"})
    routed = found["all", "routed"]
    assert (routed["metric"], routed["scored"], routed["quality"]) == ("recorded grade (judge / 10)", 2, 0.125)
    assert (routed["paired"], routed["delta"]) == (2, -0.625)
    assert "answers not scored, for want of a recorded grade or a usable reference: 2" in routed["note"]
    assert found["all", "best_single"]["quality"] == 0.75


def test_a_recording_without_texts_still_has_its_costs(tmp_path) -> None:
    """Where only tokens and grades were recorded, an answer counts as given, and only its grade can score it."""
    rows = [a_row(0, graded=True, gold=None), a_row(1, graded=True, gold=None), a_row(2)]
    outcomes = [an_outcome(place, "large", answer=None, score=0.5) for place in range(3)]
    outcomes += [an_outcome(0, "small", answer=None, score=1.0)]
    found = compared(tmp_path, rows, outcomes, references={"recorded": "graded", "exact": "gold"})
    baseline, routed = found["all", "baseline"], found["all", "routed"]
    assert (baseline["cost_usd"], baseline["ok"], baseline["scored"], baseline["quality"]) == (
        Decimal("0.03"),
        3,
        2,
        0.5,
    )
    assert (routed["scored"], routed["quality"], routed["paired"]) == (2, 1, 1)


def test_an_unusable_reference_scores_no_row(tmp_path) -> None:
    """A reference without a number is left out of the quality, also of a lost row's, and said to be."""
    rows = [a_row(0, gold="12", llm_answer="12"), a_row(1, gold="twelve"), a_row(2, gold="twelve", llm_status="failed")]
    line = compared(tmp_path, rows, references={"number": "gold"})["all", "routed"]
    assert (line["scored"], line["quality"]) == (1, 1)
    assert "usable reference: 1" in line["note"]


def test_the_best_and_the_cheapest_model_are_chosen_in_each_pool(tmp_path) -> None:
    """Rows that the same models answered are a pool; each pool has its own best model, and ties go to the cheaper."""
    outcomes = [an_outcome(0, "large"), an_outcome(0, "small", cost_usd=Decimal("0.002"))]
    outcomes += [an_outcome(1, "large"), an_outcome(1, "tiny", answer="no", cost_usd=Decimal("0.001"))]
    found = compared(tmp_path, [a_row(0), a_row(1)], outcomes)
    best, cheapest = found["all", "best_single"], found["all", "cheapest_single"]
    assert (best["model"], best["cost_usd"], best["quality"]) == ("large, small", Decimal("0.012"), 1)
    assert (cheapest["model"], cheapest["cost_usd"], cheapest["quality"]) == ("small, tiny", Decimal("0.003"), 0.5)
    assert cheapest["saving"] == pytest.approx(0.85)


def test_a_blank_recorded_answer_is_a_failed_one(tmp_path) -> None:
    """What a model left blank counts as failed in its arm, at its cost and with quality 0."""
    outcomes = [an_outcome(0, "large"), an_outcome(1, "large", answer=" \n")]
    found = compared(tmp_path, [a_row(0), a_row(1), a_row(2)], outcomes)
    for arm in ("baseline", "best_single"):
        line = found["all", arm]
        assert (line["ok"], line["failed"], line["quality"]) == (1, 1, 0.5)
    assert found["all", "best_single"]["cost_usd"] == 2 * found["all", "best_single"]["baseline_cost_usd"]


def test_a_verdict_is_reached_with_enough_rows(tmp_path) -> None:
    """A thousand paired rows of equal quality at a tenth of the cost are cheaper and not worse."""
    rows = [a_row(place) for place in range(1_000)]
    line = compared(tmp_path, rows, [an_outcome(place, "large") for place in range(1_000)])["all", "routed"]
    assert (line["verdict"], line["saving_verdict"], line["paired"]) == ("not worse", "cheaper", 1_000)
    assert line["delta_low"] > -0.01


def test_latency_is_of_answered_rows(tmp_path) -> None:
    """Median and 95th percentile leave out lost rows and unknown latencies."""
    rows = [a_row(place, llm_latency_s=float(place)) for place in range(1, 22)]
    rows += [a_row(30, llm_latency_s=None), a_row(31, llm_latency_s=999.0, llm_status="failed")]
    rows += [a_row(32, llm_latency_s=0.0)]  # a recording that knows none
    line = compared(tmp_path, rows)["all", "routed"]
    assert (line["latency_p50_s"], line["latency_p95_s"]) == (11, 20)


def test_a_column_with_very_many_values_is_grouped_by_the_commonest(tmp_path) -> None:
    """Grouping by something like an id gives 200 groups, not one a row."""
    rows = [a_row(place, set=f"s{place}") for place in range(210)] + [a_row(999, set="s209")]
    found = compared(tmp_path, rows, by=["set"])
    sets = {scope for scope, _ in found if scope.startswith("set=")}
    assert len(sets) == 200
    assert found["set=s209", "routed"]["rows"] == 2
    assert found["set=(other values)", "routed"]["rows"] == 11


def test_a_reference_may_have_the_name_of_anything(tmp_path) -> None:
    """Input columns called like ours are read as what they are."""
    table = pa.Table.from_pylist([a_row(0)], schema=OUTPUT_SCHEMA)
    names = {"gold": "answer", "set": "task", "graded": "row"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    pq.write_table(table, tmp_path / "outputs.parquet")
    job = a_job(references={"exact": "answer"}, by=["task", "row"])
    lines = compare(tmp_path / "outputs.parquet", outcomes=None, job=job).to_pylist()
    assert {"task=general", "input task=one", "row=(none)"} < {line["scope"] for line in lines}
    assert {line["quality"] for line in lines if line["arm"] == "routed"} == {1}


def badly_scored(answer, reference):
    return Score(7.0, "out of ten")


def not_a_score(answer, reference):
    return 1


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"references": {"exact": "golden"}}, ["no column 'golden'", "gold"]),
        ({"by": ["sett"]}, ["no column 'sett'", "set"]),
        ({"references": {"exakt": "gold"}}, ["no scorer 'exakt'"]),
        ({"references": {f"{__name__}:badly_scored": "gold"}}, ["returned Score(value=7.0", "from 0 to 1"]),
        ({"references": {f"{__name__}:not_a_score": "gold"}}, ["returned 1;", "must return a Score"]),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, section, said) -> None:
    """A wrong column names the columns there are, a wrong scorer what is right."""
    with pytest.raises(JobError) as raised:
        compared(tmp_path, [a_row(0)], **section)
    assert [part for part in said if part not in str(raised.value)] == []


def test_a_score_out_of_range_in_a_recording_is_refused(tmp_path) -> None:
    """A grade of 7 is not taken for 700%."""
    with pytest.raises(JobError, match=r"score 7\.0 of row 3; a score is from 0 to 1"):
        compared(tmp_path, [a_row(place) for place in range(5)], [an_outcome(3, "large", score=7.0)])


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_outputs_that_cannot_be_read_are_named(tmp_path, content) -> None:
    """A missing or broken file is a JobError with its name."""
    path = tmp_path / "outputs.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError, match=r"outputs\.parquet: cannot be read as Parquet"):
        compare(path, outcomes=None, job=a_job())


def test_every_column_is_described() -> None:
    """A column of the comparison says what it is, or is the upper end of the one before."""
    silent = [field.name for field in COMPARISON_SCHEMA if not field.metadata]
    assert silent == ["saving_high", "quality_high", "delta_high", "gain_high", "latency_p95_s"]
