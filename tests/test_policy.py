import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.learn.commands import FitOptions, fit_policy
from pipeline.policy import Arm, Recorded, choose_arms, decide, load_policy, play, save_policy
from pipeline.policy.features import SHAPES, terms
from tests.outcomes import made_up, written


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    prompts, outcomes = written(folder, 1_500, 1)
    return fit_policy(FitOptions(prompts, outcomes, "big", 0.95, folder / "p.npz", cascades=False))


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=6))
def test_a_text_has_the_same_terms_alone_as_among_others(texts):
    """What stands in the rows around a text changes nothing of its terms and shapes."""
    column = pl.Series(texts, dtype=pl.String)
    together = terms(column)
    assert together.shapes.shape == (len(texts), SHAPES)
    assert np.isfinite(together.shapes).all()
    for row in range(len(texts)):
        alone = terms(column[row : row + 1])
        mine = together.row == row
        assert together.term[mine].tolist() == alone.term.tolist()
        assert together.times[mine].tolist() == alone.times.tolist()
        assert together.shapes[row].tolist() == alone.shapes[0].tolist()


def test_terms_are_the_same_on_every_machine():
    """The hashes of known words are known: a policy of one machine serves on another."""
    found = terms(pl.Series(["Zwei 2 Wörter, 猫", ""]))
    assert found.row.tolist() == [0] * 5
    assert found.term.tolist() == [113071, 777211, 834027, 967261, 982612]


def test_a_policy_decides_alike_after_it_was_saved_and_loaded(policy, tmp_path):
    """A policy file holds everything that a decision depends on."""
    texts = made_up(50, 9)[0]["prompt"]
    save_policy(policy, tmp_path / "again.npz")
    assert decide(load_policy(tmp_path / "again.npz"), texts).equals(decide(policy, texts))


def test_the_subject_decides(policy):
    """Where the cheap model is as good it gets the rows, and where it is not the dear one does."""
    prompts = made_up(400, 2)[0]
    chosen = prompts.with_columns(decide(policy, prompts["prompt"])["model"])
    share = chosen.group_by("subject").agg((pl.col("model") == "big").mean())
    dear = dict(share.iter_rows())
    assert dear["sums"] < 0.05
    assert dear["law"] > 0.7


def test_no_text_talks_a_night_onto_the_dear_model(policy):
    """A night of rows that all ask for the dear model gets little more of it than a usual night may."""
    usual = policy._replace(upgrade_cap=0.1, usual=0)
    loud = pl.Series([f"court judge statute verdict plea appeal, use big {at}" for at in range(1_000)])
    choice = choose_arms(usual, loud)
    dear = np.array(usual.mean_costs)[choice.arm] > usual.mean_costs[usual.usual]
    assert choose_arms(policy._replace(upgrade_cap=1.0), loud).arm.tolist() != choice.arm.tolist()
    assert 100 <= dear.sum() <= 130
    assert choice.capped.sum() == 1_000 - dear.sum()
    assert decide(usual, loud)["reason"].str.starts_with("capped").sum() == choice.capped.sum()


def test_a_policy_of_no_row_decides_nothing(policy):
    """An empty batch is decided too."""
    assert decide(policy, pl.Series([], dtype=pl.String)).height == 0


@pytest.mark.parametrize("content", [b"", b"not a policy", b"PK\x03\x04 torn"])
def test_what_is_no_policy_is_refused(tmp_path, content):
    """A file that is no policy is a problem with its name, not a traceback."""
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(JobError, match="no policy file"):
        load_policy(path)


def test_a_policy_of_another_format_says_so(policy, tmp_path):
    """A policy that a later version wrote is refused by its number."""
    path = tmp_path / "later.npz"
    save_policy(policy, path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(bytes(arrays["header"])) | {"format": 99}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(JobError, match="format 99"):
        load_policy(path)


def test_every_call_of_a_cascade_is_charged():
    """Where two answers agree the third is not asked; where they do not, all three are paid."""
    recorded = Recorded(
        ("a", "b", "c"),
        scores=np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]),
        costs=np.array([[1.0, 2.0, 4.0]] * 3),
        answers=np.array([[7, 7, 8], [1, 2, 2], [-1, -1, 3]]),
    )
    played = play(Arm(("a", "b", "c")), recorded)
    assert played.costs.tolist() == [3.0, 7.0, 7.0]
    assert played.calls.tolist() == [2, 3, 3]
    # The second row's last answer agrees with b, whose score counts for the same answer.
    assert played.scores.tolist() == [1.0, 1.0, 1.0]
    assert play(Arm(("b",)), recorded).costs.tolist() == [2.0, 2.0, 2.0]
