"""The job file: what is taken, and what a mistake is told."""

import json
import tomllib
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.plan.planning import parameters_of
from pipeline.spec import Job, job_schema, load_job, load_models, validate
from tests.builders import a_job_file

FIVE_MISTAKES = """
name = "night one"
[input]
pth = "a.parquet"
[prompt]
column = "p"
user = "b"
[route]
tier = "cheap"
[models.mine]
provider = "openai"
context_tokens = 1000
input_usd_per_mtok = 0.15
output_usd_per_mtok = "0.60"
[output]
path = "out"
"""


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    """A job file with five mistakes, one of them a misspelt required key, reports each with where and what."""
    path = tmp_path / "job.toml"
    path.write_text(FIVE_MISTAKES)
    with pytest.raises(JobError) as caught:
        load_job(path)
    told = "\n".join(caught.value.problems)
    for expected in (
        "name: String should match",
        "input.pth: unknown key; did you mean path?",
        "prompt: give exactly one of column, messages or user",
        "route.tier: Input should be 'budget', 'balanced' or 'quality'",
        "models.mine.input_usd_per_mtok: write the amount in quotes",
    ):
        assert expected in told
    assert all(str(path) in problem for problem in caught.value.problems)
    assert len(caught.value.problems) == 6  # the misspelt key is also missing


def test_the_key_that_is_meant_is_named(tmp_path: Path) -> None:
    """An unknown key deep in the file names the keys known there."""
    path = a_job_file(tmp_path, models__mine='provider = "x"\ncontext_token = 1')
    with pytest.raises(JobError, match=r"models\.mine\.context_token: unknown key; did you mean context_tokens\?"):
        load_job(path)


def test_a_table_cell_must_be_a_task(tmp_path: Path) -> None:
    """A route table cell that is no task is refused with the tasks there are."""
    path = a_job_file(tmp_path, route__table__balanced='codee = "gpt-4o"\n"code.hard" = ["a", "b"]')
    with pytest.raises(JobError, match=r"no such cell: balanced\.codee; a cell is a task \(code, classification"):
        load_job(path)


def test_overrides_are_read_as_toml(tmp_path: Path) -> None:
    """--set takes numbers, lists and plain text, and quoted names with dots."""
    path = a_job_file(
        tmp_path, models='"a.b" = {provider="x", context_tokens=5, input_usd_per_mtok="0", output_usd_per_mtok="0"}'
    )
    job = load_job(
        path, ["route.tier=quality", "budget.max_usd=2.5", 'output.choices=["a"]', 'models."a.b".context_tokens=7']
    )
    assert (job.route.tier, str(job.budget.max_usd), job.output.choices) == ("quality", "2.5", ["a"])
    assert job.models["a.b"].context_tokens == 7


@pytest.mark.parametrize("override", ["novalue", "=5", "name.deep=1"], ids=["no equals", "no key", "not a section"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    """An override that can't be applied is quoted in the error."""
    with pytest.raises(JobError, match="--set"):
        load_job(a_job_file(tmp_path), [override])


@pytest.mark.parametrize(
    ("text", "told"),
    [("name = [", "is not TOML"), ("", "name: is required")],
    ids=["torn", "empty"],
)
def test_a_file_that_is_no_job_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """A torn or empty file is named in the error."""
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(JobError, match=told):
        load_job(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A job file that is not there is named."""
    with pytest.raises(JobError, match=r"nothing\.toml: cannot be read: No such file"):
        load_job(tmp_path / "nothing.toml")


def test_a_models_file_has_models_only(tmp_path: Path) -> None:
    """A file of models takes no job sections."""
    path = tmp_path / "models.toml"
    path.write_text('[input]\npath = "x"\n')
    with pytest.raises(JobError, match=r"input: unknown key \(known: models, providers\)"):
        load_models(path)


def test_the_schema_names_every_section() -> None:
    """The JSON Schema describes the keys that a job may have, and refuses others."""
    schema = json.loads(job_schema())
    assert {"name", "input", "prompt", "route", "providers", "models", "budget", "output"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert "schema" in schema["$defs"]["Output"]["properties"]


@pytest.mark.parametrize(
    "text", ["5", '{ colum = "x" }', '{ codee = "gpt-4o" }', "{}"], ids=["number", "column", "task", "empty"]
)
def test_a_baseline_has_one_of_three_forms(tmp_path: Path, text: str) -> None:
    """A baseline that is no model, column or table of tasks is refused in one sentence with the three."""
    with pytest.raises(JobError) as caught:
        load_job(a_job_file(tmp_path, route=f"baseline = {text}"))
    (problem,) = caught.value.problems
    assert 'route.baseline: a model, { column = "..." }, or a table of task = model' in problem


def test_a_schema_keeps_its_order_and_takes_what_toml_has() -> None:
    """Models write properties in the order of the schema, so it is sent as written; a date in it is its text."""
    text = """name = "t"
    input.path = "x"
    prompt.column = "p"
    output.path = "o"
    output.schema.properties.why.type = "string"
    output.schema.properties.day.const = 2026-11-25"""

    job = validate(Job, tomllib.loads(text), where="t")

    assert parameters_of(job).schema == '{"properties":{"why":{"type":"string"},"day":{"const":"2026-11-25"}}}'


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"schema": {"type": "objekt"}}, r"output\.schema: is no JSON Schema: "),
        ({"schema": {"$ref": "https://example.org/x"}}, r"output\.schema: is no JSON Schema: "),
        ({"choices": ["a"], "schema": {}}, "give choices or schema, not both"),
        ({"choices": ["a", "a"]}, r"output\.choices: must be distinct and not blank"),
        ({"choices": ["a", " "]}, r"output\.choices: must be distinct and not blank"),
    ],
)
def test_a_form_of_answers_that_can_not_be_is_refused(output: dict[str, object], said: str) -> None:
    """A mistake in the form of the answers is told before anything is asked."""
    job = {"name": "t", "input": {"path": "x"}, "prompt": {"column": "p"}, "output": {"path": "o"} | output}

    with pytest.raises(JobError, match=said):
        validate(Job, job, where="t")
