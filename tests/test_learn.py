import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.errors import JobError
from pipeline.learn.commands import FitOptions, fit_policy, replay_policy
from pipeline.learn.design import Design, Ridge
from pipeline.learn.metrics import aiq, mix_score, pair
from pipeline.learn.outcomes import read_table
from pipeline.learn.promise import Aim, cheapest_kept, lower_bound, sweep
from tests.outcomes import made_up, written


def test_a_left_out_prediction_is_that_of_a_ridge_without_the_fold():
    """The shortcut gives exactly what fitting again without the fold would give."""
    rng = np.random.default_rng(0)
    features, targets, folds = rng.normal(size=(30, 4)), rng.normal(size=(30, 2)), np.arange(30) % 3
    features -= features.mean(axis=0)
    expected = np.zeros((30, 2))
    for fold in range(3):
        others = np.column_stack([np.ones(20), features[folds != fold]])
        penalty = np.diag([0.0, 2.0, 2.0, 2.0, 2.0])
        weights = np.linalg.solve(others.T @ others + penalty, others.T @ targets[folds != fold])
        expected[folds == fold] = np.column_stack([np.ones(10), features[folds == fold]]) @ weights
    assert np.allclose(Ridge(features, folds).left_out(targets, 2.0), expected)


def test_the_weights_give_what_the_features_give():
    """A function of words and shapes predicts the texts it was made from as the ridge on their features does."""
    from pipeline.policy.model import linear_of

    texts = made_up(300, 3)[0]["prompt"]
    targets = np.random.default_rng(0).normal(size=(300, 2))
    design = Design(texts, np.arange(300) % 3, np.random.default_rng(0))
    weights, constant = design.ridge.weights(targets, 1.0)
    by_features = design.features @ weights + constant
    linear = design.linear([(targets, 1.0)])
    assert np.abs(linear_of(design.words, linear, texts) - by_features).max() < 1e-3


def test_a_promise_is_kept_at_less_than_half_the_cost(tmp_path):
    """On rows not seen the policy keeps its quality and saves what the easy subject allows."""
    policy = fit_policy(FitOptions(*written(tmp_path, 2_000, 1), "big", 0.95, tmp_path / "p.npz", "pick"))
    assert policy.promise.kept
    result = replay_policy(tmp_path / "p.npz", *written(tmp_path, 2_000, 2), None)
    assert result["promise_held"]
    assert result["saving"] > 0.4
    assert result["quality"] > result["beside"]["single_model_mix_at_its_cost"]["quality"]
    assert sum(result["arms"].values()) == result["rows"] == 2_000


def test_what_cannot_be_promised_goes_to_the_reference(tmp_path):
    """Where every cheaper model is far worse the policy asks the reference, and says so."""
    policy = fit_policy(FitOptions(*written(tmp_path, 600, 1, gap=0.3), "big", 1.0, tmp_path / "p.npz"))
    assert not policy.promise.kept
    assert policy.fixed == "big"
    result = replay_policy(tmp_path / "p.npz", *written(tmp_path, 300, 2, gap=0.3), None)
    assert result["quality"] == result["reference_quality"]
    assert result["saving"] == 0


def test_few_rows_promise_nothing(tmp_path):
    """Forty rows are too few to route any row away from the reference."""
    policy = fit_policy(FitOptions(*written(tmp_path, 40, 1), "big", 0.5, tmp_path / "p.npz"))
    assert policy.fixed == "big"
    with pytest.raises(JobError, match="10 are the fewest"):
        fit_policy(FitOptions(*written(tmp_path, 8, 3), "big", 0.9, tmp_path / "p.npz"))


def test_a_dominant_model_takes_every_row(tmp_path):
    """A reference that is dearer and worse than another model hands every row to that model."""
    policy = fit_policy(FitOptions(*written(tmp_path, 800, 1, gap=-0.1), "middle", 0.9, tmp_path / "p.npz"))
    result = replay_policy(tmp_path / "p.npz", *written(tmp_path, 800, 2, gap=-0.1), None)
    best = result["beside"]["best_single_at_its_cost"]
    assert result["quality"] >= best["quality"] - 0.03
    assert policy.promise.expected_cost <= policy.promise.reference_cost


def test_equal_tables_give_equal_policies(tmp_path):
    """Nothing but the tables, the aim and the seed decides what is learned."""
    paths = written(tmp_path, 300, 1)
    first, second = (fit_policy(FitOptions(*paths, "big", 0.95, tmp_path / name)) for name in ("a", "b"))
    assert first.promise == second.promise
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=60)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.01, 1.0]), min_size=1, max_size=200), st.integers(0, 500))
def test_a_bound_is_never_above_the_mean(differences, night_rows):
    """The lower bound lies at or below the mean, and a whole night to come lowers it."""
    values = np.array(differences)
    endless = lower_bound(values, confidence=0.95, night_rows=0)
    assert endless <= values.mean() + 1e-12
    assert lower_bound(values, confidence=0.95, night_rows=night_rows) <= endless + 1e-12
    assert lower_bound(values, confidence=0.99, night_rows=0) <= endless + 1e-12


def test_the_quality_promised_is_missed_in_at_most_five_percent_of_nights():
    """Of 500 nights whose operating point was chosen on other rows, at most one in twenty misses its quality."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(500):
        # A path of points, each sending more rows to a model that is right on 0.7 of them where the reference has 0.75.
        rows, aim = 1_000, Aim("big", 0.98, 0.95, 1_000)
        order = rng.random((2, rows))
        reference = (rng.random((2, rows)) < 0.75).astype(float)
        cheap = (rng.random((2, rows)) < 0.70).astype(float)
        shares = np.linspace(0, 1, 60)
        scores = np.where(order[:, None, :] < shares[None, :, None], cheap[:, None, :], reference[:, None, :])
        costs = np.broadcast_to(1 - shares[:, None], (60, rows))
        points = sweep([(share, scores[0][at], costs[at]) for at, share in enumerate(shares)], reference[0], aim)
        kept = cheapest_kept(points)
        place = 0 if kept is None else int(np.flatnonzero(shares == kept.price)[0])
        missed += scores[1][place].mean() < aim.quality * reference[1].mean()
    assert missed <= 25


def test_the_testing_ends_at_the_first_point_that_fails():
    """A point that passes after a failed one counts for nothing: it may have passed by luck."""
    ones = np.ones(400)
    points = sweep(
        [(0.0, ones, ones * 3), (1.0, ones * 0.5, ones * 2), (2.0, ones, ones)], ones, Aim("m", 0.9, 0.95, 0)
    )
    assert [point.bound >= 0 for point in points] == [True, False, True]
    assert cheapest_kept(points) == points[0]


def test_figures_of_a_pair_are_those_of_the_definition():
    """A router that knows the outcome recovers all of the gap early; one that knows nothing recovers half of it."""
    rng = np.random.default_rng(0)
    weak, strong = (rng.random(20_000) < 0.5).astype(float), (rng.random(20_000) < 0.8).astype(float)
    blind, seeing = pair(rng.random(20_000), weak, strong), pair(strong - weak + rng.random(20_000) / 9, weak, strong)
    assert blind is not None
    assert seeing is not None
    assert abs(blind.apgr - 0.5) < 0.03
    assert abs(blind.cpt50 - 0.5) < 0.06
    assert seeing.apgr > 1.0
    assert pair(weak, strong, weak) is None


def test_aiq_and_mix_are_those_of_the_hull():
    """Between two models a mixture lies on the line; AIQ is its mean height."""
    costs, scores = np.array([1.0, 3.0, 2.0]), np.array([0.4, 0.8, 0.3])
    assert mix_score(costs, scores, 2.0) == pytest.approx(0.6)
    assert aiq(costs, scores, cheapest=1.0, dearest=3.0) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda p, o: (p.rename({"prompt": "text"}), o), "no column prompt;"),
        (lambda p, o: (p, o.drop("cost_usd")), "no column cost_usd or cost"),
        (lambda p, o: (p, o.filter(pl.col("model") != "big")), "no outcome of the reference big"),
        (lambda p, o: (p, pl.concat([o, o.head(1)])), "two outcomes of one model"),
        (lambda p, o: (p, o.with_columns(cost_usd=-1.0)), "negative cost"),
        (lambda p, o: (pl.concat([p, p.head(1)]), o), "prompt_id is not unique"),
        (lambda p, o: (p.with_columns(prompt_id=pl.lit("x") + pl.col("prompt_id")), o), "no prompt_id of"),
    ],
    ids=["prompt", "cost", "reference", "twice", "negative", "ids", "join"],
)
def test_a_table_that_lacks_something_says_what(tmp_path, change, problem):
    """Each mistake in the tables is a problem that names the file and what is wrong."""
    frames = change(*made_up(20, 1))
    paths = [tmp_path / "p.parquet", tmp_path / "o.parquet"]
    for frame, path in zip(frames, paths, strict=True):
        frame.write_parquet(path)
    with pytest.raises(JobError, match=problem):
        read_table(str(paths[0]), str(paths[1]), reference="big", answer_column=None)


def test_without_costs_the_calls_of_the_reference_are_counted(tmp_path):
    """Outcomes whose costs are all null are counted in calls of the reference."""
    prompts, outcomes = made_up(30, 1)
    prompts.write_parquet(tmp_path / "p.parquet")
    outcomes.with_columns(cost_usd=pl.lit(None, pl.Float64)).write_parquet(tmp_path / "o.parquet")
    table = read_table(str(tmp_path / "p.parquet"), str(tmp_path / "o.parquet"), reference="big", answer_column=None)
    assert table.unit == "calls of big"
    assert table.recorded.costs.sum(axis=0).tolist() == [30.0, 0.0, 0.0]


def test_the_command_fits_applies_and_replays(tmp_path):
    """`rowroute route` writes a policy, decisions, and a replay with the figures that scripts read."""
    prompts, outcomes = written(tmp_path, 600, 1)
    tables, policy = ["--prompts", prompts, "--outcomes", outcomes], str(tmp_path / "p.npz")
    runner = CliRunner()
    aim = ["--reference", "big", "--quality", "0.9", "--answer-column", "pick"]
    fitted = runner.invoke(main, ["route", "fit", *tables, *aim, "--out", policy], catch_exceptions=False)
    assert fitted.exit_code == 0, fitted.output
    assert "promise: at least 90.0% of big's quality" in fitted.output
    decided = tmp_path / "d.parquet"
    applied = runner.invoke(main, ["route", "apply", "--policy", policy, "--prompts", prompts, "--out", str(decided)])
    assert applied.exit_code == 0, applied.output
    assert pl.read_parquet(decided).columns == [
        "prompt_id", "model", "arm", "expected_score", "expected_cost", "reason",
    ]  # fmt: skip
    lines = runner.invoke(main, ["route", "apply", "--policy", policy, "--prompts", prompts, "--json"]).output
    assert len([json.loads(line) for line in lines.splitlines()]) == 600
    replayed = runner.invoke(main, ["route", "replay", "--policy", policy, *tables, "--json"])
    figures = json.loads(replayed.output)
    assert {"quality", "reference_quality", "cost_usd", "reference_cost_usd", "saving"} <= figures.keys()
    assert figures["saving"] == pytest.approx(1 - figures["cost_usd"] / figures["reference_cost_usd"])
    assert "best single" in runner.invoke(main, ["route", "replay", "--policy", policy, *tables]).output
