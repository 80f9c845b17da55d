import math

import numpy as np
import pytest
import torch

from compo_mech.stats.intervals import Interval
from compo_mech.stats.onset import MIN_POINTS, MIN_SEEDS, Course, Moment, emergence
from compo_mech.stats.over_seeds import lag, survival
from compo_mech.stats.trend import rising_over_seeds, still_rising

NEVER = math.inf
EVEN = {n: [100 * i for i in range(n)] for n in (40, 100, 200)}
UNEVEN = [0, 1, 2, 4, 8, 16, *range(24, 1440, 24)]
REMISSION = [(6, 1), (6, 1), (6, 1), (6, 0), (7, 1), (9, 0), (10, 1), (10, 0), (11, 0), (13, 1), (16, 1), (17, 0)]
REMISSION += [(19, 0), (20, 0), (22, 1), (23, 1), (25, 0), (32, 0), (32, 0), (34, 0), (35, 0)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def ramp(steps, onset, saturation):
    return [min(max((step - onset) / (saturation - onset), 0.0), 1.0) for step in steps]


def logistic(steps, onset, saturation):
    return [1 / (1 + 9 ** (1 - 2 * (step - onset) / (saturation - onset))) for step in steps]


def abrupt(steps, onset, saturation):
    return [float(step >= onset) for step in steps]


def moments(found):
    return [found.onset, found.midpoint, found.saturation]


def noisy_rise(rng, steps, curve, width, where, sd):
    """By 3 up or down, with noise of this sd of it; somewhere, or with one plateau of 2 to 5% of the steps."""
    room = (1 - width) * steps[-1]
    low, high = {"any": (0.05, 0.95 - width), "early": (0.02, 0.05), "late": (0.95 - width, 0.98 - width)}[where]
    onset = rng.uniform(low, high) * steps[-1]
    assert 0 < onset < room
    truth = onset, onset + width * steps[-1] / 2, onset + width * steps[-1]
    clean = np.array(curve(steps, truth[0], truth[2]))
    return (7 + rng.choice([-3, 3]) * (clean + sd * rng.standard_normal(len(steps)))).tolist(), truth


def coverage(n, seed, steps, *scenario):
    """Of onset, midpoint and saturation, in percent; and the median width of the midpoint's interval."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    right, widths = np.zeros(3), []
    for _ in range(n):
        values, truth = noisy_rise(rng, steps, *scenario)
        found = emergence(steps, values, generator)
        right += [moment.low <= true <= moment.high for moment, true in zip(moments(found), truth, strict=True)]
        widths.append(found.midpoint.high - found.midpoint.low)
    return 100 * right / n, float(np.median(widths))


def forgetful(rng, n, correlation):
    """AR(1) of sd 1."""
    values = rng.standard_normal(n)
    for i in range(1, n):
        values[i] = correlation * values[i - 1] + math.sqrt(1 - correlation**2) * values[i]
    return values


# ------------------------------------------------------------------------------------------- one curve


@pytest.mark.parametrize("steps", [EVEN[40], EVEN[100], UNEVEN], ids=["40", "100", "uneven"])
@pytest.mark.parametrize("curve", [ramp, logistic])
def test_a_curve_without_noise_is_found_exactly(curve, steps, generator):
    truth = 0.31 * steps[-1], 0.46 * steps[-1], 0.61 * steps[-1]
    values = curve(steps, truth[0], truth[2])
    found = emergence(steps, values, generator)
    assert found.course is Course.COMPLETE
    assert found.p_flat == 1 / 400
    for moment, true in zip(moments(found), truth, strict=True):
        assert moment.step == pytest.approx(true, abs=1e-4 * steps[-1])
        assert true - 1e-4 * steps[-1] < moment.low <= true <= moment.high < true + 1e-4 * steps[-1]
    assert found.fitted.tolist() == pytest.approx(values, abs=1e-4)
    assert found.rise == pytest.approx(values[-1] - values[0], abs=1e-4)


@pytest.mark.parametrize("steps", [EVEN[40], EVEN[200], UNEVEN], ids=["40", "200", "uneven"])
def test_an_abrupt_step_lies_anywhere_between_two_snapshots(steps, generator):
    for at in (4, len(steps) // 3, len(steps) // 2, len(steps) - 4):
        before, after = steps[at - 1], steps[at]
        found = emergence(steps, abrupt(steps, after, after), generator)
        slack = 0.1 * (after - before)
        for moment in moments(found):
            assert before - slack < moment.low < before + slack
            assert after - slack < moment.high < after + slack
            assert before < moment.step < after
        assert found.midpoint.step == pytest.approx((before + after) / 2, abs=0.1 * (after - before))
        assert found.onset.low <= before
        assert found.saturation.high >= after


def test_moments_move_with_the_steps_and_not_with_the_values():
    values, _ = noisy_rise(np.random.default_rng(0), UNEVEN, ramp, 0.4, "any", 0.05)

    def found(steps=UNEVEN, values=values):
        result = emergence(steps, values, torch.Generator().manual_seed(0))
        return [number for moment in moments(result) for number in moment], result

    plain, at_first = found()
    assert found([step + 1000 for step in UNEVEN])[0] == pytest.approx([number + 1000 for number in plain])
    assert found([step * 3 for step in UNEVEN])[0] == pytest.approx([number * 3 for number in plain])
    changed, negated = found(values=[5 - 20 * value for value in values])
    assert changed == pytest.approx(plain)
    assert negated.rise == pytest.approx(-20 * at_first.rise)
    backwards = found([1440 - step for step in reversed(UNEVEN)], values[::-1])[0]
    for moment, mirrored in zip((0, 3, 6), (6, 3, 0), strict=True):
        low, high = 1440 - backwards[mirrored + 2], 1440 - backwards[mirrored + 1]
        assert [low, high] == pytest.approx(plain[moment + 1 : moment + 3], abs=5)


def test_nothing_emerges_from_noise(generator):
    rng = np.random.default_rng(1)
    values, _ = noisy_rise(rng, EVEN[100], ramp, 0.4, "any", 0.05)
    assert emergence(EVEN[100], values, generator).course is Course.COMPLETE
    found = emergence(EVEN[100], rng.permutation(values).tolist(), generator)
    assert found.course is Course.NOTHING
    assert moments(found) == [Moment(NEVER, NEVER, NEVER)] * 3
    assert found.p_flat > 0.05
    assert found.rise == 0
    assert found.fitted.tolist() == pytest.approx([np.mean(values)] * 100)


@pytest.mark.parametrize("value", [0, 1, 0.1, -1e9])
def test_nothing_emerges_from_a_constant(value, generator):
    found = emergence(EVEN[40], [value] * 40, generator)
    assert (found.course, found.p_flat) == (Course.NOTHING, 1.0)


def test_what_lies_beyond_the_steps_is_not_seen(generator):
    noise = 0.01 * np.random.default_rng(1).standard_normal(100)
    unfinished = emergence(EVEN[100], (ramp(EVEN[100], 5000, 12000) + noise).tolist(), generator)
    assert unfinished.course is Course.UNFINISHED
    assert unfinished.saturation.high == math.inf
    assert unfinished.onset.low < 5000 < unfinished.onset.high < 6000
    begun = emergence(EVEN[100], (ramp(EVEN[100], -3000, 5000) + noise).tolist(), generator)
    assert begun.course is Course.COMPLETE
    assert begun.onset.low == -math.inf
    assert begun.saturation.low < 5000 < begun.saturation.high < 6000


@pytest.mark.parametrize(("n_high", "course"), [(1, Course.UNFINISHED), (2, Course.COMPLETE), (4, Course.COMPLETE)])
def test_a_plateau_of_one_step_may_be_none(n_high, course, generator):
    values = [0.0] * 10 + [0.6] + [1.0] * n_high
    found = emergence([20 * step for step in range(len(values))], values, generator, 0.0)
    assert found.course is course
    assert (found.saturation.high == math.inf) == (course is Course.UNFINISHED)
    assert 180 <= found.midpoint.low <= found.midpoint.high <= 220


@pytest.mark.parametrize("gone", [-0.2, -0.01, 0.1, 0.24, 0.26, 0.4, 0.51, 0.9])
def test_a_rise_of_which_much_was_gone_is_not_dated(gone, generator):
    onset, saturation = -4000 * gone, 4000 * (1 - gone)
    for low, high in ((0.0, 1.0), (5.0, -15.0)):
        values = [low + (high - low) * value for value in ramp(EVEN[100], onset, saturation)]
        found = emergence(EVEN[100], values, generator, before=low)
        seen = Course.COMPLETE if gone < 0.25 else Course.THROUGHOUT
        assert found.course is (Course.ALREADY_HIGH if gone > 0.5 else seen)
        assert found.rise == pytest.approx(values[-1] - values[0], abs=1e-4)
        if gone < 0.25:
            assert found.midpoint.low <= (onset + saturation) / 2 <= found.midpoint.high
            assert found.saturation.step == pytest.approx(saturation, abs=1)
            assert found.onset.step == pytest.approx(onset if gone < 0 else -math.inf, abs=1)


@pytest.mark.parametrize(
    ("seed", "steps", "scenario", "widest"),
    [
        (0, EVEN[100], (ramp, 0.4, "any", 0.05), 300),
        (1, UNEVEN, (ramp, 0.3, "early", 0.05), 60),
        (2, UNEVEN, (logistic, 0.1, "any", 0.1), 60),
        (3, EVEN[40], (abrupt, 0.0, "any", 0.05), 130),
        (4, EVEN[100], (ramp, 0.4, "any", 1e-4), 1),
        (5, EVEN[40], (logistic, 0.5, "any", 1e-4), 1),
    ],
)
def test_intervals_hold_the_truth(seed, steps, scenario, widest):
    covered, width = coverage(40, seed, steps, *scenario)
    assert covered.min() > 85
    assert width < widest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "steps", "scenario"),
    [
        (0, EVEN[40], (ramp, 0.15, "any", 0.05)),
        (1, EVEN[40], (ramp, 0.4, "any", 0.1)),
        (2, EVEN[100], (ramp, 0.15, "any", 0.02)),
        (3, EVEN[100], (ramp, 0.3, "late", 0.05)),
        (4, UNEVEN, (ramp, 0.3, "early", 0.05)),
        (5, EVEN[200], (ramp, 0.1, "any", 0.1)),
        (6, EVEN[40], (logistic, 0.5, "any", 0.1)),
        (7, EVEN[100], (logistic, 0.3, "early", 0.05)),
        (8, UNEVEN, (logistic, 0.1, "any", 0.1)),
        (10, EVEN[40], (abrupt, 0.0, "any", 0.05)),
        (11, UNEVEN, (abrupt, 0.0, "any", 0.1)),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(seed, steps, scenario):
    covered, _ = coverage(500, seed, steps, *scenario)
    assert covered.min() >= 92
    # a step is as likely anywhere in its gap: its intervals cannot be shorter, and cover more
    assert scenario[0] is abrupt or covered.max() <= 98


def test_the_rise_of_what_is_not_dated_is_that_of_its_line(generator):
    """Half of a logistic, which bends from the first step on and leaves no plateau."""
    values = [1 / (1 + math.exp(-step / 700)) for step in EVEN[100]]
    found = emergence(EVEN[100], values, generator, before=0.45)
    assert found.course is Course.THROUGHOUT
    assert found.rise == pytest.approx(values[-1] - values[0], abs=0.02)


FLAT = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "skewed": lambda rng, n: rng.exponential(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(2, n),
    "saturated": lambda rng, n: np.minimum(1, 1 + 0.1 * rng.standard_normal(n)),
}


def share_emerged(n, flat, seed):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    found = [emergence(UNEVEN[:40], flat(rng, 40).tolist(), generator) for _ in range(n)]
    return 100 * sum(one.course is not Course.NOTHING for one in found) / n


def test_flat_curves_seldom_emerge():
    assert share_emerged(100, FLAT["saturated"], 0) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("flat", FLAT.values(), ids=FLAT)
def test_flat_curves_emerge_no_more_often_than_they_say(flat):
    assert 1 <= share_emerged(500, flat, 1) <= 7


# ------------------------------------------------------------------------------------------- over seeds


def test_survival_is_that_of_a_textbook():
    """Remission under 6-MP of Freireich et al. 1963; intervals are those of R's survfit with conf.type = log-log."""
    at = [float(step) if event else NEVER for step, event in REMISSION]
    found = survival(at, [step for step, _ in REMISSION])
    assert found.steps.tolist() == [6, 7, 10, 13, 16, 22, 23]
    left = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert (1 - found.share).tolist() == pytest.approx(left, abs=6e-4)
    assert (1 - found.high[0], 1 - found.low[0]) == pytest.approx((0.620, 0.952), abs=6e-4)
    assert found.median == Moment(23, 13, math.inf)
    assert (found.n_runs, found.n_censored) == (21, 12)


def test_survival_by_hand():
    at = [Moment(100, 0, 200), 100, 300, NEVER, NEVER, 400]
    found = survival(at, [1000, 1000, 1000, 200, 50, 1000])
    assert found.steps.tolist() == [100, 300, 400]
    assert found.share.tolist() == pytest.approx([2 / 5, 1 - 3 / 5 / 2, 1])
    assert found.median.step == 300
    assert found.high[-1] == 1
    assert 0 < found.low[-1] == found.low[-2]
    assert (found.low < found.share).all()
    assert (found.share <= found.high).all()
    assert found.n_censored == 2


def test_survival_of_all_and_of_none():
    none = survival([NEVER] * 6, [100] * 6)
    assert len(none.steps) == len(none.low) == 0
    assert none.median == Moment(NEVER, NEVER, NEVER)
    assert none.n_censored == 6
    at_once = survival([5] * 6, [100] * 6)
    assert (at_once.share.tolist(), at_once.high.tolist()) == ([1], [1])
    assert at_once.low[0] == pytest.approx(6 / (6 + 1.96**2), abs=1e-4)
    few = survival([5, 6, NEVER, NEVER, NEVER, NEVER], [100] * 6)
    assert few.median.step == math.inf
    assert survival([-math.inf, 2, 3, 4, 5], [9] * 5).steps.tolist() == [0, 2, 3, 4, 5]


@pytest.mark.slow
def test_intervals_of_survival_hold_the_truth():
    rng, right = np.random.default_rng(0), np.zeros(2)
    for _ in range(500):
        at, ends = rng.exponential(1000, 20), rng.uniform(500, 4000, 20)
        found = survival(
            [a if a <= e else NEVER for a, e in zip(at.tolist(), ends.tolist(), strict=True)], ends.tolist()
        )
        at_500 = int((found.steps <= 500).sum()) - 1
        right[0] += found.median.low <= 1000 * math.log(2) <= found.median.high
        right[1] += at_500 >= 0 and found.low[at_500] <= 1 - math.exp(-0.5) <= found.high[at_500]
    assert (right / 5 >= 92).all()
    assert (right / 5 <= 98).all()


def test_lag_counts_runs_in_which_one_thing_never_came(generator):
    first = [100, 200, 300, 400, 500, 600, NEVER, 800, 900, NEVER]
    second = [200, 400, 300, 630, 750, NEVER, 500, Moment(900, 0, 0), 1200, NEVER]
    found = lag(first, second, generator)
    assert found.mean is not None
    assert found.median is not None
    assert found.before is not None
    assert found.mean.step == pytest.approx((100 + 200 + 0 + 230 + 250 + 100 + 300) / 7)
    assert found.median.step == 200
    assert found.before.mean == pytest.approx(7 / 8)
    assert (found.n_runs, found.n_censored, found.n_unordered) == (10, 3, 2)
    turned = lag(second, first, torch.Generator().manual_seed(0))
    assert turned.mean is not None
    assert turned.before is not None
    assert turned.mean.step == -found.mean.step
    assert turned.before.mean == pytest.approx(1 / 8)
    assert (turned.n_censored, turned.n_unordered) == (3, 2)


def test_lag_of_things_that_seldom_came(generator):
    found = lag([NEVER] * 4 + [1], [2, 3, 4, NEVER, 5], generator)
    assert found.mean is found.median is None
    assert found.before is not None
    assert found.before.mean == 1 / 4
    assert lag([NEVER] * 5, [NEVER] * 5, generator).before is None
    same = lag([10, 20, 30, 40, 50], [15, 25, 35, 45, 55], generator)
    assert same.mean == same.median == Moment(5, 5, 5)


def test_the_mean_lag_of_few_runs_is_as_uncertain_as_students_t_says(generator):
    lags = np.random.default_rng(1).standard_normal(8)
    found = lag([0] * 8, lags.tolist(), generator)
    assert found.mean is not None
    half = 2.3646 * lags.std(ddof=1) / math.sqrt(8)
    assert found.mean.high - found.mean.low == pytest.approx(2 * half, rel=0.1)


def test_lag_takes_its_randomness_from_the_generator():
    first, second = [0] * 12, np.random.default_rng(0).standard_normal(12).tolist()
    one, same, other = (lag(first, second, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.slow
@pytest.mark.parametrize("n_runs", [6, 20])
def test_intervals_of_a_lag_hold_the_truth(n_runs):
    rng, generator, right = np.random.default_rng(n_runs), torch.Generator().manual_seed(0), np.zeros(2)
    for _ in range(500):
        first = rng.uniform(0, 5000, n_runs)
        found = lag(first.tolist(), (first + rng.normal(300, 200, n_runs)).tolist(), generator)
        assert found.mean is not None
        assert found.median is not None
        right += [moment.low <= 300 <= moment.high for moment in (found.mean, found.median)]
    assert (right / 5 >= 91).all()
    assert (right / 5 <= 98).all()


# ------------------------------------------------------------------------------------------- still rising


def test_a_line_without_noise_rises_as_it_does():
    steps = [0, 1, 2, *range(1000, 3000, 100)]
    values = [9.0, -9.0, 9.0, *(0.5 + 2e-4 * step for step in range(1000, 3000, 100))]
    found = still_rising(steps, values, 1000)
    assert found.slope == pytest.approx((0.2, 0.2, 0.2), abs=1e-4)
    assert found.total == pytest.approx((0.38, 0.38, 0.38), abs=1e-4)
    flat = still_rising(steps, [0.9] * len(steps), 1000)
    assert flat.slope == flat.total == Interval(0, 0, 0)


def test_a_rise_moves_with_steps_and_values():
    rng = np.random.default_rng(0)
    steps, values = list(range(0, 3000, 100)), (np.arange(30) / 30 + forgetful(rng, 30, 0.5)).tolist()
    plain = still_rising(steps, values, 500)
    stretched = still_rising([7 + 4 * step for step in steps], values, 7 + 4 * 500)
    assert stretched.total == pytest.approx(plain.total)
    assert [4 * number for number in stretched.slope] == pytest.approx(list(plain.slope))
    turned = still_rising(steps, [3 - 2 * value for value in values], 500)
    assert list(turned.total) == pytest.approx([-2 * plain.total[i] for i in (0, 2, 1)])


def test_correlated_noise_makes_intervals_wider():
    rng, steps = np.random.default_rng(0), list(range(100))
    found = [[still_rising(steps, forgetful(rng, 100, r).tolist(), 0) for _ in range(20)] for r in (0, 0.8)]
    widths = [np.median([one.total.high - one.total.low for one in group]) for group in found]
    # the mean of n such values has (1 + r) / (1 - r) times the variance of independent ones
    assert 1.8 < widths[1] / widths[0] < 6
    correlations = [np.mean([one.correlation for one in group]) for group in found]
    assert correlations[0] < 0.2
    assert 0.7 < correlations[1] < 0.9


def false_alarms(n, seed, n_points, correlation):
    rng = np.random.default_rng(seed)
    found = [still_rising(list(range(n_points)), forgetful(rng, n_points, correlation).tolist(), 0) for _ in range(n)]
    return 100 * sum(not one.total.low <= 0 <= one.total.high for one in found) / n


def test_noise_that_drifts_seldom_rises_and_a_rise_is_seen():
    assert false_alarms(100, 0, 30, 0.8) <= 12
    rng, steps = np.random.default_rng(0), list(range(40))
    rises = [still_rising(steps, (np.arange(40) / 8 + forgetful(rng, 40, 0.5)).tolist(), 0) for _ in range(20)]
    assert sum(rise.total.low > 0 for rise in rises) >= 16


@pytest.mark.slow
@pytest.mark.parametrize(("n_points", "correlation"), [(12, 0.8), (30, 0), (30, 0.5), (30, 0.8), (100, 0.8)])
def test_noise_that_drifts_rises_no_more_often_than_it_says(n_points, correlation):
    assert false_alarms(500, n_points, n_points, correlation) <= 7


def test_rises_over_seeds_are_those_of_students_t():
    found = rising_over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764 * math.sqrt(2.5 / 5)
    assert found.mean == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)
    assert (found.verdict, found.n_runs) == ("yes", 5)


@pytest.mark.parametrize(
    ("totals", "least", "verdict"),
    [
        ((1, 2, 3, 4, 5), 0.0, "yes"),
        ((1, 2, 3, 4, 5), 1.5, "undecided"),
        ((1, 2, 3, 4, 5), 5.0, "no"),
        ((-2, -1, 0, 1, 2.5), 0.0, "undecided"),
        ((-1, -2, -3, -4, -5), 0.0, "no"),
        ((0, 0, 0, 0, 0), 0.0, "no"),
    ],
)
def test_verdicts(totals, least, verdict):
    assert rising_over_seeds([float(total) for total in totals], least).verdict == verdict


# ------------------------------------------------------------------------------------------- errors

FEW_POINTS, FEW_RUNS = list(range(MIN_POINTS - 1)), [1.0] * (MIN_SEEDS - 1)
TEN, RUNS = list(range(10)), [1.0] * MIN_SEEDS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: emergence(TEN, TEN[:-1], g), "values = 9: must be one for each of the 10 steps"),
        (lambda g: emergence(FEW_POINTS, FEW_POINTS, g), "steps = 7: must be at least 8"),
        (lambda g: emergence(TEN, [*TEN[:-1], math.nan], g), "values = nan: must be finite numbers"),
        (lambda g: emergence([*TEN[:-1], math.inf], TEN, g), "steps = inf: must be finite numbers"),
        (lambda g: emergence([*TEN[:-1], 8], TEN, g), "steps = 8 out of order: must increase"),
        (lambda g: still_rising(TEN, TEN[:-1], 0), "values = 9: must be one for each of the 10 steps"),
        (lambda g: still_rising(TEN, TEN, 3), "since = 3: must leave at least 8 points, leaves 7"),
        (lambda g: survival(FEW_RUNS, FEW_RUNS), "moments = 4 runs: must be at least 5"),
        (lambda g: survival(RUNS, RUNS[:-1]), "ends = 4 runs: must be the same 5 as the other"),
        (lambda g: survival([*RUNS[:-1], math.nan], RUNS), "moments = nan: must be steps, or inf where censored"),
        (lambda g: survival([*RUNS[:-1], 2], RUNS), "moments = 2: must be at most the run's end, 1"),
        (lambda g: survival(RUNS, [*RUNS[:-1], math.inf]), "ends = inf: must be finite"),
        (lambda g: lag(FEW_RUNS, FEW_RUNS, g), "first = 4 runs: must be at least 5"),
        (lambda g: lag(RUNS, [*RUNS, 1.0], g), "second = 6 runs: must be the same 5 as the other"),
        (lambda g: rising_over_seeds([1.0] * 4), "totals = 4 runs: must be at least 5"),
    ],
)
def test_errors_say_what_is_allowed(call, message, generator):
    with pytest.raises(ValueError, match="must") as error:
        call(generator)
    assert str(error.value) == message
