"""Intervals and verdicts: against published examples, against coverage by simulation, and at the edges."""

from functools import lru_cache

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


@given(st.lists(st.floats(1, 1e6), min_size=40, max_size=60), st.floats(0.01, 2))
def test_a_saving_by_price_alone_is_exact(baseline_costs, price) -> None:
    """Where every row costs the same share of the baseline's price, so would any other row."""
    costs = np.array(baseline_costs) * price
    low, high = intervals.of_saving(costs, np.array(baseline_costs))
    assert (low, high) == pytest.approx((1 - price, 1 - price), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 10**12)), min_size=40, max_size=60))
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


def share(low, high, *rows):
    """Nights whose share of right answers is itself drawn: for one share, counts of few rows jump past 95%."""

    def draw(random):
        truth = random.uniform(low, high)
        return truth, ((random.random(random.choice(rows)) < truth).astype(float),)

    return draw


def pairs(most, *rows):
    """Nights in which gained and lost answers are drawn up to *most* each."""

    def draw(random):
        gained, lost = random.uniform(0, most, 2)
        return gained - lost, (
            random.choice([1.0, -1.0, 0.0], random.choice(rows), p=[gained, lost, 1 - gained - lost]),
        )

    return draw


def skewed(a, b, *rows):
    return lambda random: (a / (a + b), (random.beta(a, b, random.choice(rows)),))


def overlaps(*rows):
    return lambda random: (-0.01, (np.clip(random.normal(-0.01, 0.12, random.choice(rows)), -1, 1),))


def half_alike(*rows):
    def draw(random):
        n = random.choice(rows)
        return -0.005, (np.where(random.random(n) < 0.5, 0, random.normal(-0.01, 0.12, n)),)

    return draw


def bills(*rows):
    """Long-tailed baseline costs, of which a router pays a tenth on 70% of the rows."""

    def draw(random):
        costs = random.lognormal(0, 1.2, random.choice(rows))
        return 1 - (0.3 + 0.07), (np.where(random.random(len(costs)) < 0.3, costs, 0.1 * costs), costs)

    return draw


def sampled(random):
    """Thirty rows each of a stratum of 300 and one of 100, whose losses differ."""
    values = [random.choice([1.0, -1.0, 0.0], 30, p=p) for p in ([0.1, 0.2, 0.7], [0.3, 0.1, 0.6])]
    return 0.75 * -0.1 + 0.25 * 0.2, (np.concatenate(values), np.repeat([10.0, 10 / 3], 30))


def held(draw, interval, nights=2_000):
    """Return the share of simulated nights whose interval holds the truth."""
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(nights):
        truth, arguments = draw(random)
        low, high = interval(*arguments)
        hits += low <= truth <= high
    return hits / nights


@pytest.fixture(autouse=True)
def _once_each(monkeypatch) -> None:
    """Work out an interval of counts once, however many nights have them."""
    for name in ("wilson", "tango"):
        monkeypatch.setattr(intervals, name, lru_cache(maxsize=None)(getattr(intervals, name)))


MEAN, DIFFERENCE, SAVING = intervals.of_mean, intervals.of_difference, intervals.of_saving


@pytest.mark.parametrize(
    ("draw", "interval"),
    [
        pytest.param(share(0.2, 0.8, 20, 50, 200), MEAN, id="share"),
        pytest.param(share(0.9, 1.0, 10, 20, 50), MEAN, id="share-near-1-few"),
        pytest.param(share(0.0, 0.1, 10, 20, 50), MEAN, id="share-near-0-few"),
        pytest.param(share(0.97, 1.0, 50, 200), MEAN, id="share-nearer-1"),
        pytest.param(skewed(8, 1, 20, 50), MEAN, id="scores-near-1-few"),
        pytest.param(skewed(1, 8, 20, 50), MEAN, id="scores-near-0-few"),
        pytest.param(pairs(0.3, 20, 50, 200), DIFFERENCE, id="pairs"),
        pytest.param(pairs(0.1, 50, 200, 400), DIFFERENCE, id="pairs-rare"),
        pytest.param(overlaps(20, 50), DIFFERENCE, id="overlap-few"),
        pytest.param(half_alike(30, 50), DIFFERENCE, id="half-alike-few"),
        pytest.param(sampled, DIFFERENCE, id="sampled"),
        pytest.param(bills(40, 50), SAVING, id="bills-few"),
        pytest.param(bills(50, 100), SAVING, id="bills"),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(draw, interval) -> None:
    """Of 2,000 simulated nights, 93% to 97% have the truth in their 95% interval, with few rows and near 0 and 1 too."""
    assert 0.93 <= held(draw, interval) <= 0.97


def test_where_rows_are_nearly_all_alike_intervals_err_on_the_safe_side() -> None:
    """With a gain or a loss in fifty pairs, an interval holds the truth in 93% of nights at least."""
    assert held(pairs(0.02, 20, 50), DIFFERENCE) >= 0.93


@pytest.mark.parametrize(
    ("gained", "rows"), [(0.0, 381), (0.0, 1_000), (0.002, 500), (0.05, 1_000), (0.05, 4_000), (0.2, 1_000)]
)
def test_a_false_not_worse_is_rare(gained, rows) -> None:
    """Where quality is worse by the very margin, "not worse" is said in at most 5% of 2,000 simulated nights."""
    random = np.random.default_rng(11)
    counts = random.multinomial(rows, [gained, gained + intervals.MARGIN, 0.99 - 2 * gained], 2_000)
    said = [intervals.verdict(intervals.tango(int(up), int(down), rows)) for up, down, _ in counts]
    assert sum(verdict in (Verdict.NOT_WORSE, Verdict.BETTER) for verdict in said) <= 0.05 * len(said)


def test_a_false_not_worse_of_scores_is_rare() -> None:
    """The same of scores between 0 and 1, whose differences are resampled."""
    random = np.random.default_rng(11)
    nights = (np.clip(random.normal(-intervals.MARGIN, 0.05, 60), -1, 1) for _ in range(1_000))
    said = [intervals.verdict(intervals.of_difference(night)) for night in nights]
    assert sum(verdict in (Verdict.NOT_WORSE, Verdict.BETTER) for verdict in said) <= 0.05 * len(said)


@pytest.mark.parametrize(("freedom", "value"), [(9, 2.262), (10, 2.228), (19, 2.093), (49, 2.010), (999, 1.962)])
def test_students_t_is_that_of_the_tables(freedom, value) -> None:
    """The 97.5% points that every table prints."""
    assert intervals.student_t(freedom) == pytest.approx(value, abs=1e-3)


def test_a_further_error_widens_an_interval_on_both_sides() -> None:
    """Independent errors add as squares: 3 and 4 give 5."""
    low, high = intervals.widened(Interval(0.2, 0.8), 0.5, 0.4 / 1.959963984540054)
    assert (low, high) == (pytest.approx(0.0), pytest.approx(1.0))


def test_rows_of_equal_weight_count_one_by_one() -> None:
    """Weights that are all alike change nothing, and a heavy row makes the others count for less."""
    scores = np.array([1.0] * 18 + [0.0] * 6)
    assert intervals.of_mean(scores, np.full(24, 7.0)) == pytest.approx(intervals.of_mean(scores))
    assert intervals.effective_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
