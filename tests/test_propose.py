"""`rowroute route propose`: a policy from the nights of a job, for a person to accept."""

import polars as pl
import pytest

from pipeline.cli.proposing import propose
from pipeline.errors import JobError
from pipeline.run import RunOptions, rows_per_model, run_job
from tests.outcomes import made_up
from tests.test_learned_route import JOB, MODEL


@pytest.fixture
def job(tmp_path):
    """Return a job without a policy that ran one night on recorded answers, every row asked of `big`."""
    prompts, outcomes = made_up(400, 2)
    prompts.with_columns(kind=pl.lit("grade")).write_parquet(tmp_path / "rows.parquet")
    columns = {"finish": "stop", "input_tokens": 20, "cached_input_tokens": 0, "output_tokens": 5, "latency_s": 1.0}
    literals = {name: pl.lit(value) for name, value in columns.items()}
    outcomes.select("prompt_id", "model", "score", answer="pick", score_kind=pl.lit("grade"), **literals).write_parquet(
        tmp_path / "answers.parquet"
    )
    text = JOB.format(folder=tmp_path, quality=0.9)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("policy =", "promise =")))
    prices = {"small": "0.1", "middle": "0.3", "big": "2"}
    text += "".join(MODEL.format(name=name, price=price) for name, price in prices.items())
    file = tmp_path / "job.toml"
    file.write_text(text)
    return file


def test_a_proposal_moves_rows_and_changes_nothing_until_accepted(job):
    """The file is new each time, the job routes as before, and the accepted policy routes as the diff said."""
    run_job(RunOptions(job))
    told = propose(job, None, None, 0.9)
    accepted = job.with_name("job-proposed-1.npz")
    assert "big: 400 -> " in told
    assert "promise: at least 90.0% of big's quality" in told
    assert rows_per_model(RunOptions(job)) == {"big": 400}
    before = accepted.read_bytes()
    propose(job, None, None, 0.9)
    assert job.with_name("job-proposed-2.npz").exists()
    assert accepted.read_bytes() == before
    run_job(RunOptions(job, overrides=(f'route.policy="{accepted}"',)))
    outputs = pl.read_parquet(job.parent / "out" / "outputs.parquet")
    for name, rows in outputs["llm_model"].value_counts().iter_rows():
        assert f"{name}: {400 if name == 'big' else 0} -> {rows}" in told


def test_where_too_few_rows_were_seen_twice_nothing_is_written(job):
    """A night whose rows only one model answered teaches nothing, and says so."""
    answers = job.with_name("answers.parquet")
    pl.read_parquet(answers).filter(pl.col("model") == "big").write_parquet(answers)
    run_job(RunOptions(job))
    with pytest.raises(JobError, match="0 rows have a score of big and of another model; 50 are the fewest"):
        propose(job, None, None, 0.9)
    assert not list(job.parent.glob("*.npz"))


def test_where_nothing_cheaper_is_sure_nothing_is_written(job):
    """A policy that would send every row to the reference is told of, and no file is made of it."""
    answers = job.with_name("answers.parquet")
    right = pl.col("model") == "big"
    pl.read_parquet(answers).with_columns(score=right.cast(pl.Float64)).write_parquet(answers)
    run_job(RunOptions(job))
    told = propose(job, None, None, 0.9)
    assert "no cheaper way keeps 90.0% of big's quality" in told
    assert "nothing is written: the only policy would be big for every row" in told
    assert not list(job.parent.glob("*.npz"))


def test_a_job_that_never_ran_teaches_nothing(job):
    """Without a night the command says what to do first."""
    with pytest.raises(JobError, match="no finished night to learn from"):
        propose(job, None, None, 0.9)
