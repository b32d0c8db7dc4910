"""A job whose rows are routed by a learned policy."""

from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import JobError
from pipeline.learn.commands import FitOptions, fit_policy
from pipeline.run import RunOptions, check_job, run_job
from tests.outcomes import made_up, written

JOB = """
name = "learned"
[input]
path = "{folder}/rows.parquet"
id = "prompt_id"
[prompt]
column = "prompt"
[route]
baseline = "big"
escalate = false
policy = "{folder}/p.npz"
promise = {{ reference = "big", quality = {quality} }}
[route.table.balanced]
reasoning = "big"
general = "big"
code = "big"
classification = "big"
creative = "big"
translation = "big"
[output]
path = "{folder}/out"
[compare]
references = {{ recorded = "kind" }}
[providers.past]
adapter = "recorded"
path = "{folder}/answers.parquet"
"""
MODEL = """
[models.{name}]
provider = "past"
context_tokens = 10000
input_usd_per_mtok = "{price}"
output_usd_per_mtok = "{price}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a policy, rows that it has not seen, and what each model is recorded to have answered."""
    folder = tmp_path_factory.mktemp("learned")
    tables = written(folder, 700, 1)
    fit_policy(FitOptions(*tables, "big", 0.95, folder / "p.npz", night_rows=0, cascades=False))
    fit_policy(FitOptions(*tables, "big", 0.95, folder / "cascade.npz", "pick"))
    prompts, outcomes = made_up(400, 2)
    prompts.with_columns(kind=pl.lit("grade")).write_parquet(folder / "rows.parquet")
    outcomes.select(
        "prompt_id",
        "model",
        "score",
        answer="pick",
        finish=pl.lit("stop"),
        input_tokens=pl.lit(20),
        cached_input_tokens=pl.lit(0),
        output_tokens=pl.lit(5),
        latency_s=pl.lit(None, pl.Float64),
        score_kind=pl.lit("grade"),
    ).write_parquet(folder / "answers.parquet")
    return folder


def options(folder: Path, quality: float = 0.95, *overrides: str, models: str = "small middle big") -> RunOptions:
    """Return the options of a job on *folder*."""
    prices = {"small": "0.1", "middle": "0.3", "big": "2"}
    text = JOB.format(folder=folder, quality=quality)
    text += "".join(MODEL.format(name=name, price=prices[name]) for name in models.split())
    (folder / "job.toml").write_text(text)
    return RunOptions(folder / "job.toml", overrides=overrides)


def test_a_night_follows_its_policy_and_says_whether_the_promise_held(folder):
    """Rows get the model that the policy names, and the summary sets what was reached beside what was promised."""
    report = run_job(options(folder))
    outputs = pl.read_parquet(folder / "out" / "outputs.parquet")
    dear = dict(outputs.group_by("subject").agg((pl.col("llm_model") == "big").mean()).iter_rows())
    assert set(outputs["llm_route"]) == {"policy"}
    assert dear["sums"] < 0.05
    assert dear["law"] > 0.7
    told = report.summary["promise"]
    assert told["paired"] == told["rows"] == 400
    assert told["held"] is (told["reached"] >= 0.95)
    assert told["reached_low"] < told["reached"] < told["reached_high"]
    assert told["saving"] > 0.3
    assert "policy" in report.comparison["scope"].to_pylist()


def test_where_the_wanted_model_does_not_fit_the_table_decides(folder):
    """A model that may not take a row is passed over, and the reason says so."""
    limits = 'models.small.only={subject=["law"]}'
    run_job(options(folder, 0.95, limits, f'output.path="{folder}/limited"'))
    outputs = pl.read_parquet(folder / "limited" / "outputs.parquet").filter(pl.col("subject") == "sums")
    passed_over = outputs.filter(
        pl.col("llm_route").str.contains("policy: not small (not for this subject)", literal=True)
    )
    assert passed_over["llm_model"].unique().to_list() == ["big"]
    assert len(passed_over) > 0.9 * len(outputs)
    assert "small" not in outputs["llm_model"]


@pytest.mark.parametrize(
    ("override", "models", "problem"),
    [
        ("name=x", "small big", "asks models that are not known: middle"),
        ('route.policy="{folder}/cascade.npz"', "small middle big", "asks several models a row"),
        ("route.promise.quality=0.99", "small middle big", "learned to keep 0.95 of big at confidence 0.95, not 0.99"),
        ('route.promise.reference="small"', "small middle big", "not 0.95 of small"),
        ('route.policy="{folder}/none.npz"', "small middle big", "none.npz: cannot be read"),
    ],
    ids=["unknown", "cascade", "quality", "reference", "missing"],
)
def test_a_policy_that_does_not_fit_the_job_is_refused(folder, override, models, problem):
    """What a policy can't do for a job is said before anything is sent."""
    with pytest.raises(JobError, match=problem):
        check_job(options(folder, 0.95, override.format(folder=folder), models=models))


def test_a_promise_needs_a_policy(folder):
    """A job can't promise what nothing was learned to keep."""
    job = options(folder)
    text = job.job_file.read_text().replace(f'policy = "{folder}/p.npz"\n', "")
    job.job_file.write_text(text)
    with pytest.raises(JobError, match="a promise needs a policy"):
        check_job(job)
