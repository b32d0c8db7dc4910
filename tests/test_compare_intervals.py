"""Intervals and verdicts: against published examples, against coverage by simulation, and at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare import intervals
from pipeline.compare.intervals import Interval, SavingVerdict, Verdict

shares = st.floats(0, 1)


def test_wilson_is_what_newcombe_prints() -> None:
    """Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20 and 1 of 29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), expected in published.items():
        assert intervals.wilson(successes, n) == pytest.approx(expected, abs=5e-5)


def test_tango_solves_the_score_equation() -> None:
    """At each end, the data lie 1.96 standard errors away under the likeliest multinomial with that difference."""
    gained, lost, n = 12, 5, 60
    for end, sign in zip(intervals.tango(gained, lost, n), (1, -1), strict=True):
        # The likeliest loss rate q given the difference, found by trying many.
        tried = np.linspace(max(0.0, -end) + 1e-9, (1 - end) / 2 - 1e-9, 400_001)
        likelihood = (
            gained * np.log(tried + end) + lost * np.log(tried) + (n - gained - lost) * np.log(1 - 2 * tried - end)
        )
        rate = tried[likelihood.argmax()]
        error = np.sqrt(n * (2 * rate + end - end * end))
        assert (gained - lost - n * end) / error == pytest.approx(sign * 1.96, abs=1e-3)


def test_tango_without_any_difference_is_not_certain() -> None:
    """Twenty equal pairs leave room for z^2 / (n + z^2) either way."""
    room = 1.959964**2 / (20 + 1.959964**2)
    assert intervals.tango(0, 0, 20) == pytest.approx((-room, room), abs=1e-6)


@given(st.lists(shares, min_size=1, max_size=60), st.randoms())
def test_the_interval_of_a_mean_holds_it_and_stays_in_bounds(scores, random) -> None:
    """Probabilities stay in 0..1, the mean is inside, and the order of rows does not matter."""
    low, high = intervals.of_mean(np.array(scores))
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= sum(scores) / len(scores) <= high + 1e-12
    random.shuffle(scores)
    assert intervals.of_mean(np.array(scores)) == pytest.approx((low, high), abs=1e-12)


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=60), st.randoms())
def test_the_interval_of_a_difference_holds_it_and_turns_round(pairs, random) -> None:
    """It stays in -1..1, holds the mean difference, and does not depend on the order of rows."""
    differences = np.array([ours - theirs for ours, theirs in pairs])
    low, high = intervals.of_difference(differences)
    assert -1 <= low <= high <= 1
    assert low - 1e-9 <= differences.mean() <= high + 1e-9
    random.shuffle(pairs)
    again = intervals.of_difference(np.array([ours - theirs for ours, theirs in pairs]))
    assert again == pytest.approx((low, high), abs=1e-9)


@given(st.lists(st.floats(1, 1e6), min_size=20, max_size=60), st.floats(0.01, 2))
def test_a_saving_by_price_alone_is_exact(baseline_costs, price) -> None:
    """Where every row costs the same share of the baseline's price, so would any other row."""
    costs = np.array(baseline_costs) * price
    low, high = intervals.of_saving(costs, np.array(baseline_costs))
    assert (low, high) == pytest.approx((1 - price, 1 - price), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 10**12)), min_size=20, max_size=40))
def test_the_interval_of_a_saving_holds_it_and_is_finite(rows) -> None:
    """It holds the saving, and no row that was drawn makes it endless."""
    costs, baseline_costs = np.array(rows, dtype=np.float64).T
    low, high = intervals.of_saving(costs, baseline_costs)
    saving = 1 - costs.sum() / baseline_costs.sum()
    assert low <= saving + 1e-9
    assert saving - 1e-9 <= high <= 1
    assert np.isfinite(low)


def test_lost_rows_widen_the_interval_of_a_saving_but_do_not_drown_it() -> None:
    """Two billed rows without an answer in 124 cost a point or so of an eighty-percent saving."""
    costs = np.full(124, 2.0)
    baseline_costs = np.concatenate([np.full(122, 10.0), np.zeros(2)])
    low, high = intervals.of_saving(costs, baseline_costs)
    assert 0.7 < low < 1 - 248 / 1220 < high <= 0.8 + 1e-9


@pytest.mark.parametrize("baseline_costs", [np.ones(19), np.zeros(50)])
def test_a_saving_on_few_rows_or_on_a_free_baseline_has_no_interval(baseline_costs) -> None:
    """Too little to say is said as None, and judged so."""
    assert intervals.of_saving(np.ones(len(baseline_costs)), baseline_costs) is None
    assert intervals.saving_verdict(None) == SavingVerdict.TOO_FEW


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.1, Verdict.BETTER),
        (-0.009, 0.1, Verdict.NOT_WORSE),
        (-0.009, -0.001, Verdict.NOT_WORSE),
        (-0.01, 0.1, Verdict.TOO_FEW),
        (-0.1, -0.001, Verdict.WORSE),
        (-0.1, 0.0, Verdict.TOO_FEW),
    ],
)
def test_a_verdict_on_quality_follows_from_the_interval(low, high, expected) -> None:
    """Better above 0, not worse above the margin of a point, worse below 0, otherwise undecided."""
    assert intervals.verdict(Interval(low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.9, SavingVerdict.CHEAPER),
        (-0.1, 0.9, SavingVerdict.NONE),
        (0.0, 0.0, SavingVerdict.NONE),
        (-0.9, -0.1, SavingVerdict.DEARER),
    ],
)
def test_a_saving_is_none_when_its_interval_holds_0(low, high, expected) -> None:
    """ "No significant saving" is said when so."""
    assert intervals.saving_verdict(Interval(low, high)) == expected


def coverage(draw, truth, interval, nights=400):
    """Return the share of simulated nights whose interval holds the truth."""
    held = 0
    for _ in range(nights):
        low, high = interval(*draw())
        held += low <= truth <= high
    return held / nights


def binary(random, n, share):
    return lambda: ((random.random(n) < share).astype(float),)


def paired(random, n, gained, lost):
    return lambda: (random.choice([1.0, -1.0, 0.0], n, p=[gained, lost, 1 - gained - lost]),)


def skewed_bill(random, n):
    """Return long-tailed baseline costs, of which a router pays a tenth on 70% of the rows."""

    def draw():
        costs = random.lognormal(0, 1.2, n)
        return np.where(random.random(n) < 0.3, costs, 0.1 * costs), costs

    return draw


@pytest.mark.parametrize(
    ("case", "truth", "interval"),
    [
        (lambda random: binary(random, 30, 0.8), 0.8, intervals.of_mean),
        (lambda random: binary(random, 200, 0.95), 0.95, intervals.of_mean),
        (lambda random: lambda: (random.beta(8, 1, 30),), 8 / 9, intervals.of_mean),
        (lambda random: lambda: (random.normal(-0.01, 0.12, 30),), -0.01, intervals.of_difference),
        (lambda random: paired(random, 60, 0.1, 0.12), -0.02, intervals.of_difference),
        (lambda random: paired(random, 400, 0.02, 0.05), -0.03, intervals.of_difference),
        (lambda random: skewed_bill(random, 50), 1 - (0.3 + 0.07), intervals.of_saving),
        (lambda random: skewed_bill(random, 3_000), 1 - (0.3 + 0.07), intervals.of_saving),
    ],
    ids=["binary", "near-one", "skewed", "chrf", "paired", "paired-rare", "bill", "large-bill"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(case, truth, interval) -> None:
    """About 95% of simulated nights hold the truth: 400 nights tell 92% to 98% from anything much else."""
    assert 0.92 <= coverage(case(np.random.default_rng(7)), truth, interval) <= 0.985


def test_a_false_not_worse_is_rare() -> None:
    """Where quality is worse by the very margin, "not worse" is said in at most 5% of simulated nights."""
    random = np.random.default_rng(11)
    said = [
        intervals.verdict(intervals.of_difference(*paired(random, 1_000, 0.05, 0.05 + intervals.MARGIN)()))
        for _ in range(400)
    ]
    assert sum(verdict in (Verdict.NOT_WORSE, Verdict.BETTER) for verdict in said) <= 0.05 * len(said)
