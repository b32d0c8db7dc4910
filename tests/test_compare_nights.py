"""Nights beside each other: what changed, what drifts, and the exit code that cron acts on."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.compare import drift
from pipeline.compare.intervals import wilson
from pipeline.compare.nights import Level, change

ROOT = Path(__file__).parent.parent
NIGHT = ("run", "jobs/night.toml", "--limit", "300", "--quiet", "--output")


def a_night(quality=0.8, *, ok=1_000, saving=0.5, metric="label"):
    low, high = wilson(quality * 1_000, 1_000)
    return {
        "rows": 1_000, "ok": ok, "metric": metric,
        "quality": quality, "quality_low": low, "quality_high": high,
        "saving": saving, "saving_low": None if saving is None else saving - 0.02,
        "saving_high": None if saving is None else saving + 0.02,
    }  # fmt: skip


def test_the_interval_of_a_change_is_newcombes() -> None:
    """Newcombe (1998), two independent proportions, method 10: 56 of 70 less 48 of 80 is 0.0524 to 0.3339."""
    before, after = Level(48 / 80, *wilson(48, 80)), Level(56 / 70, *wilson(56, 70))
    assert change(before, after) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (a_night(), []),
        (a_night(0.81), []),
        (a_night(0.7), ["quality: 70.0%, -10.0 points"]),
        (a_night(0.9), ["quality: 90.0%, +10.0 points"]),
        (a_night(saving=0.3), ["saving: 30.0%, -20.0 points"]),
        (a_night(saving=None), []),
        (a_night(ok=950), ["share of failed rows: 5.0%, +5.0 points"]),
        (a_night(0.2, metric="exact"), []),
    ],
    ids=["same", "noise", "worse", "better", "dearer", "unknown", "failures", "other-scorer"],
)
def test_a_drift_is_what_noise_does_not_explain(last, said) -> None:
    """The last night is measured by those before it, each figure at 99%, and only like by like."""
    found = drift([a_night()] * 5 + [last])
    assert [sentence.split(" [")[0] for sentence in found] == said
    assert all("from the mean of 5 earlier nights (99%)" in sentence for sentence in found)


def test_a_first_night_can_not_drift() -> None:
    """There is nothing to measure it by, nor for a second that nobody scored."""
    unscored = a_night() | dict.fromkeys(("quality", "quality_low", "quality_high", "metric"))
    assert drift([]) == drift([a_night(0.1)]) == drift([unscored, unscored]) == []


def test_false_alarms_are_rare() -> None:
    """In 1,000 jobs whose quality never changes, at most 2% of the last nights raise an alarm."""
    random = np.random.default_rng(3)
    nights = random.binomial(1_000, 0.8, (1_000, 6)) / 1_000
    assert sum(bool(drift([a_night(share) for share in job])) for job in nights) <= 20


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return a function that runs the command in the project's folder; out/a and out/b hold two nights."""
    folder = tmp_path_factory.mktemp("nights")

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            return CliRunner().invoke(main, [argument.format(out=folder) for argument in arguments])

    assert run(*NIGHT, "{out}/a").exit_code == 0
    assert run(*NIGHT, "{out}/b", "--set", "route.tier=budget").exit_code == 0
    return run


def test_two_nights_stand_side_by_side(command) -> None:
    """Each scope and arm has its cost and quality in both, with the interval of the change."""
    lines = json.loads(command("compare", "{out}/a", "{out}/b", "--json").stdout)
    routed = next(line for line in lines if (line["scope"], line["arm"]) == ("all", "routed"))
    assert routed["change"] == pytest.approx(routed["quality_b"] - routed["quality_a"])
    assert (routed["rows_a"], routed["verdict"]) == (300, "worse")
    assert routed["change_low"] < routed["change"] < routed["change_high"] < 0
    baseline = next(line for line in lines if (line["scope"], line["arm"]) == ("all", "baseline"))
    assert (baseline["change"], baseline["verdict"]) == (0, "no difference to be seen")
    for form in ([], ["--markdown"]):
        shown = command("compare", "{out}/a", "{out}/b", *form).stdout
        assert f"{100 * routed['change']:+.1f} [" in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compare", "{out}/a", "--fail-if", "worse"], 0),
        (["compare", "{out}/b", "--fail-if", "worse"], 6),
        (["compare", "{out}/b"], 0),
        (["compare", "{out}/a", "{out}/b", "--fail-if", "worse"], 6),
        (["compare", "{out}/b", "{out}/a", "--fail-if", "worse"], 0),
        ([*NIGHT, "{out}/b", "--set", "route.tier=budget", "--fail-if", "worse"], 6),
        (["compare", "{out}/c"], 2),
    ],
)
def test_cron_can_act_on_worse_answers(command, arguments, code) -> None:
    """Exit code 6 says worse, and only where it was asked for."""
    assert command(*arguments).exit_code == code


def test_the_history_tells_each_night(command) -> None:
    """Runs of one night are one line, with what it spent and how good it was."""
    told = json.loads(command("history", "jobs/night.toml", "--output", "{out}/b", "--json").stdout)
    assert told["nights"][0]["comparison"]["verdict"] == "worse"
    assert float(told["nights"][0]["spent_tonight_usd"]) > 0
    assert told["drift"] == []
    shown = command("history", "jobs/night.toml", "--output", "{out}/b").stdout
    assert "no drift to be seen" in shown
    assert command("history", "jobs/night.toml", "--output", "{out}/nowhere").exit_code == 2
