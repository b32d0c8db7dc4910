"""Who scores which row: the rules of `[[score]]`, scores of a whole scope, and agreement with the baseline."""

import pytest

from pipeline.compare import compare
from pipeline.errors import JobError
from pipeline.scorers import Score
from pipeline.spec import Job, validate
from tests.sandboxed import needs_sandbox
from tests.test_compare import OUTCOMES_SCHEMA, OUTPUT_SCHEMA, a_row, an_outcome, compared, pl, pq
from tests.test_compare import pa as arrow

REQUIRED = {"name": "night", "input": {"path": "in"}, "prompt": {"column": "prompt"}, "output": {"path": "out"}}


def a_job(*rules, **sections) -> Job:
    return validate(Job, REQUIRED | {"score": list(rules)} | sections, where="test")


def scored(folder, rows, *rules, outcomes=None, columns=()):
    """Return the comparison under *rules*; *columns* are further input columns."""
    schema = arrow.schema([*OUTPUT_SCHEMA, *((name, arrow.string()) for name in columns)])
    path = folder / "outputs.parquet"
    pq.write_table(arrow.Table.from_pylist(rows, schema=schema), path)
    recorded = None if outcomes is None else pl.DataFrame(outcomes, schema=OUTCOMES_SCHEMA, orient="row")
    table = compare(path, outcomes=recorded, job=a_job(*rules))
    return {(line["scope"], line["arm"]): line for line in table.to_pylist()}


def test_a_rule_may_hold_for_one_task_only(tmp_path) -> None:
    """A row takes the first rule whose task is its own and whose references it has."""
    rows = [
        a_row(0, llm_task="code", gold="YES"),
        a_row(1, llm_task="general", gold="YES"),
        a_row(2, llm_task="general", gold="YES", llm_answer="YES"),
    ]
    rules = [{"scorer": "normalised", "column": "gold", "task": "code"}, {"scorer": "exact", "column": "gold"}]
    found = scored(tmp_path, rows, *rules)
    assert [found[scope, "routed"]["metric"] for scope in ("all", "task=code", "task=general")] == [
        "mixed", "normalised", "exact",
    ]  # fmt: skip
    assert [found[scope, "routed"]["quality"] for scope in ("task=code", "task=general")] == [1, 0.5]


def test_the_short_form_says_the_same(tmp_path) -> None:
    """`[compare] references` are rules after those of `[[score]]`."""
    job = a_job({"scorer": "label", "column": "gold"}, compare={"references": {"exact": "gold"}})
    assert [(rule.scorer, rule.column) for rule in job.score_rules] == [("label", ["gold"]), ("exact", ["gold"])]
    short = compared(tmp_path, [a_row(0)], references={"label": "gold"})
    assert short == scored(tmp_path, [a_row(0)], {"scorer": "label", "column": "gold"})


def shout(answer, reference):
    return Score(float(answer == f"{reference['gold']} {reference['hint']}"), "as both columns say")


def test_a_scorer_may_take_several_columns(tmp_path) -> None:
    """A user's function gets a mapping of the columns, where the first of them is not null."""
    rows = [a_row(0, hint="sir", llm_answer="yes sir"), a_row(1, hint=None), a_row(2, gold=None, hint="sir")]
    rule = {"scorer": f"{__name__}:shout", "column": ["gold", "hint"]}
    line = scored(tmp_path, rows, rule, columns=["hint"])["all", "routed"]
    assert (line["scored"], line["quality"]) == (2, 0.5)


def test_labels_have_macro_f1_and_a_confusion_table(tmp_path) -> None:
    """The table counts pairs of label and answer, what is no label as such, and F1 is the mean over labels."""
    said = [("yes", "Yes."), ("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "perhaps"), ("no", None)]
    rows = [
        a_row(place, gold=gold, llm_answer=answer, llm_status="ok" if answer else "failed")
        for place, (gold, answer) in enumerate(said)
    ]
    outcomes = [an_outcome(place, "large", answer=gold) for place, (gold, _) in enumerate(said)]
    found = scored(tmp_path, rows, {"scorer": "label", "column": "gold"}, outcomes=outcomes)
    routed, baseline = found["all", "routed"], found["all", "baseline"]
    assert (routed["corpus_metric"], baseline["corpus_score"]) == ("macro-F1", 1)
    assert routed["corpus_score"] == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (3 + 2)) / 2)
    assert {(pair["label"], pair["answer"]): pair["rows"] for pair in routed["confusion"]} == {
        ("yes", "yes"): 2, ("yes", "no"): 1, ("no", "no"): 1, ("no", "(no label)"): 2,
    }  # fmt: skip
    assert found["all", "best_single"]["confusion"] == baseline["confusion"]


def test_a_scope_scored_by_several_has_no_score_of_the_whole(tmp_path) -> None:
    """Corpus scores of unlike things are not mixed, nor where no row was scored."""
    rules = [{"scorer": "chrf", "column": "gold", "task": "code"}, {"scorer": "label", "column": "gold"}]
    found = scored(tmp_path, [a_row(0, llm_task="code"), a_row(1), a_row(2, gold=None, set="none")], *rules)
    assert (found["all", "routed"]["metric"], found["all", "routed"]["corpus_score"]) == ("mixed", None)
    assert found["task=code", "routed"]["corpus_metric"] == "corpus chrF"
    assert found["task=code", "routed"]["corpus_score"] == pytest.approx(1)


def test_agreement_needs_no_references(tmp_path) -> None:
    """An answer agrees when it is the baseline's but for case and punctuation; rows without one are not scored."""
    rows = [a_row(0, llm_answer="Yes."), a_row(1, llm_answer="no"), a_row(2), a_row(3, llm_status="failed")]
    outcomes = [an_outcome(place, "large") for place in (0, 1, 3)]
    found = scored(tmp_path, rows, {"scorer": "agreement"}, outcomes=outcomes)
    routed = found["all", "routed"]
    assert (routed["metric"], routed["scored"], routed["quality"]) == ("agreement", 3, pytest.approx(1 / 3))
    assert found["all", "baseline"]["quality"] == 1


@needs_sandbox
def test_code_is_scored_by_its_tests(tmp_path) -> None:
    """The scorer `tests` takes a test program and the entry point from two columns."""
    test = "def check(candidate):\n    assert candidate(2) == 4"
    answers = ["def double(x): return 2 * x", "def double(x): return x"]
    rows = [a_row(place, test=test, entry="double", llm_answer=answer) for place, answer in enumerate(answers)]
    renamed = [row | {"entry_point": row.pop("entry")} for row in rows]
    rule = {"scorer": "tests", "column": ["test", "entry_point"], "task": "general"}
    assert scored(tmp_path, renamed, rule, columns=["test", "entry_point"])["all", "routed"]["quality"] == 0.5


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"scorer": "label"}, "column is required"),
        ({"scorer": "agreement", "column": "gold"}, "takes no column"),
        ({"scorer": "label", "column": "gold", "task": "poetry"}, "'code'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, said) -> None:
    """The error names the rule and what would be right."""
    with pytest.raises(JobError, match=r"test: score\.0") as raised:
        a_job(rule)
    assert said in str(raised.value)
