"""Answers of a given form from end to end: checked, repaired once, handed on, and taken apart into columns."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.process import server_process
from tests.chaos.scenarios import rules
from tests.e2e.command import MODELS, Job, make_job, run

SCHEMA = """
[output.schema]
type = "object"
required = ["why", "score"]
additionalProperties = false
[output.schema.properties]
why = { type = "string" }
score = { type = "integer", minimum = 1, maximum = 5 }
tags = { type = "array", items = { type = "string" } }
status = { enum = ["open", "closed"] }
"""
GOOD = '{"why": "clear", "score": 4, "tags": ["a", "b"], "status": "open"}'
TYPED = {
    "llm_why": pa.string(),
    "llm_score": pa.int64(),
    "llm_tags": pa.list_(pa.string()),
    "llm_answer_status": pa.string(),
}


def costs(job: Job) -> list[tuple[str, Decimal, int]]:
    """Return status, cost and attempts of each row."""
    table = job.outputs()
    names = ("llm_status", "llm_cost_usd", "llm_attempts")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def two_models(job: Job) -> None:
    """Let rows escalate from `m` to the dearer `strong`."""
    text = job.file.read_text().replace("escalate = false", "escalate = true")
    strong = '[models.strong]\nprovider = "chaos"\ncontext_tokens = 100000\ninput_usd_per_mtok = "2"\noutput_usd_per_mtok = "8"\n'
    cells = "[route.table.quality]\n" + "".join(f'{task} = "strong"\n' for task in MODELS)
    job.file.write_text(text.replace("[providers.chaos]", cells + "[providers.chaos]") + strong)


def test_a_wrong_form_is_repaired_once_and_the_fields_become_columns(tmp_path: Path) -> None:
    """A third of the rows answer wrongly first; each is asked once more, pays for both, and all have typed fields."""
    wrong = {"text": 'Sure! {"why": "clear"}'}
    with server_process(
        tmp_path, rules(({"mark": "row-0000[0-9]0", "attempt": [1]}, wrong), ({}, {"text": GOOD}))
    ) as server:
        job = make_job(tmp_path, server.base_url, rows=30, more=SCHEMA)
        done = run(job)
        asked = server.exchanges()
    assert done.returncode == 0, done.stderr
    assert len(asked) == 33
    assert (job.summary()["repairs"], job.summary()["attempts"]) == (3, 33)
    rows = costs(job)
    assert {attempts for _, _, attempts in rows} == {1, 2}
    assert min(cost for _, cost, attempts in rows if attempts == 2) > max(
        cost for _, cost, attempts in rows if attempts == 1
    )
    assert sum(cost for _, cost, _ in rows) == Decimal(job.summary()["spent_usd"])
    table = job.outputs()
    assert {name: table.schema.field(name).type for name in TYPED} == TYPED
    assert [table[name][0].as_py() for name in TYPED] == ["clear", 4, ["a", "b"], "open"]
    assert table["llm_score"].null_count == 0


def test_what_a_repair_does_not_mend_goes_to_a_stronger_model(tmp_path: Path) -> None:
    """The cheap model is wrong twice and the dear one is asked the first question; its answer and all costs are the row's."""
    script = rules(({"model": "m"}, {"text": '{"why": 7, "score": 9}'}), ({}, {"text": GOOD}))
    with server_process(tmp_path, script) as server:
        job = make_job(tmp_path, server.base_url, rows=4, more=SCHEMA)
        two_models(job)
        assert run(job).returncode == 0
        assert len(server.exchanges()) == 12
    assert (job.summary()["repairs"], job.summary()["escalations"]) == (4, 4)
    assert set(job.outputs()["llm_model"].to_pylist()) == {"strong"}
    assert [(status, attempts) for status, _, attempts in costs(job)] == [("ok", 3)] * 4


@pytest.mark.parametrize(("form", "repair"), [('choices = ["yes", "no"]', 1), (SCHEMA, 0)], ids=["repair", "none"])
def test_a_form_that_never_comes_fails_the_row_and_says_why(tmp_path: Path, form: str, repair: int) -> None:
    """The row fails with the reason, after a repair unless the job wants none, and its fields are null."""
    with server_process(tmp_path, rules(({}, {"text": '{"why": "x", "score": 9}'}))) as server:
        job = make_job(tmp_path, server.base_url, rows=2, more=form)
        assert run(job, *([] if repair else ["--set", "output.repair=false"])).returncode == 1
        assert len(server.exchanges()) == 2 * (1 + repair)
    bad = pq.read_table(job.output / "quarantine.parquet").to_pylist()
    reason = "answer.score: 9 is greater than the maximum of 5" if form is SCHEMA else "is not one of the 2 choices"
    assert all(line["status"] == "failed" and reason in line["message"] for line in bad)
    table = job.outputs()
    assert all(table[name].null_count == 2 for name in TYPED if name in table.column_names)


def test_repairs_that_never_help_come_to_an_end(tmp_path: Path) -> None:
    """Once twenty repairs have mended nothing, a wrong answer fails its row without another call."""
    with server_process(tmp_path, rules(({}, {"text": "no JSON"}))) as server:
        job = make_job(tmp_path, server.base_url, rows=30, more=SCHEMA)
        assert run(job, "--set", "providers.chaos.concurrency=1").returncode == 1
        assert len(server.exchanges()) == 30 + 20
    assert job.summary()["statuses"]["failed"] == 30
