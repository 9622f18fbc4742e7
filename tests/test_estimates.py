"""Estimates of the whole data set from verified rows: right on average, with intervals that hold."""

import numpy as np
import pytest
from scipy import stats

from labelfix.verdicts.calibration import calibration_estimates
from labelfix.verdicts.estimates import Population, estimates_per_class, rate_estimates, share

K = 10
FIGURES = (
    "noise_rate", "precision", "recall", "accuracy", "calibration_gap", "calibration_error", "log_loss", "brier",
)  # fmt: skip


class DataSet:
    """Labels and posteriors of N rows, whose truth is known here.

    `noise` says where labels go wrong: ``class`` everywhere alike, ``feature`` on hard images, ``rare`` is
    ``class`` with confident errors of the posterior in one row of a hundred. Confidence is `excess` too high.
    """

    def __init__(self, noise: str, rows: int, excess: float = 0.0, seed: int = 0):
        rng = np.random.default_rng(seed)
        every = np.arange(rows)
        self.true, hard = rng.integers(0, K, rows), rng.random(rows) ** 3
        flip = rng.random(rows) < (0.02 + 0.5 * hard if noise == "feature" else 0.18)
        self.given = np.where(flip, (self.true + rng.integers(1, K, rows)) % K, self.true)
        right = 1 - 0.45 * hard
        mistaken = (self.given != self.true) & (rng.random(rows) < 0.6)
        elsewhere = np.where(mistaken, self.given, (self.true + rng.integers(1, K, rows)) % K)
        best = np.where(rng.random(rows) < right, self.true, elsewhere)
        confidence = np.minimum(right + excess, 0.999)
        self.posterior = np.tile((0.3 * (1 - confidence) / K)[:, None], (1, K))
        self.posterior[every, best] += confidence
        self.posterior[every, np.where(best != self.given, self.given, (self.given + 1) % K)] += 0.7 * (
            1 - confidence
        )
        self.posterior /= self.posterior.sum(1, keepdims=True)
        if noise == "rare":
            surprising = rng.random(rows) < 0.01
            self.true[surprising] = (best[surprising] + 1) % K

    def population(self, rows: np.ndarray, count: np.ndarray | None = None) -> Population:
        every, predicted = np.arange(len(self.given)), self.posterior.argmax(1)
        return Population(
            given=self.given,
            predicted=predicted,
            confidence=self.posterior[every, predicted],
            label_score=self.posterior[every, self.given],
            rows=rows,
            true=self.true[rows],
            count=np.ones(len(rows)) if count is None else count,
        )

    def estimates(self, rows: np.ndarray, count: np.ndarray | None = None) -> dict:
        population = self.population(rows, count)
        return rate_estimates(population, 0.95) | calibration_estimates(
            population, self.posterior[rows], 0.95
        )

    def truth(self) -> dict[str, float]:
        every, predicted = np.arange(len(self.given)), self.posterior.argmax(1)
        wrong, issue, hit = self.given != self.true, predicted != self.given, predicted == self.true
        confidence, of_true = self.posterior.max(1), self.posterior[every, self.true]
        place = np.searchsorted(np.quantile(confidence, [0.2, 0.4, 0.6, 0.8]), confidence, side="right")
        return {
            "noise_rate": wrong.mean(),
            "precision": wrong[issue].mean(),
            "recall": issue[wrong].mean(),
            "accuracy": hit.mean(),
            "calibration_gap": confidence.mean() - hit.mean(),
            "calibration_error": np.abs(np.bincount(place, confidence - hit)).sum() / len(every),
            "log_loss": -np.log(of_true).mean(),
            "brier": (np.square(self.posterior).sum(1) - 2 * of_true + 1).mean(),
        }


def covered(
    data: DataSet, verified: int, replicates: int, seed: int = 1
) -> dict[str, tuple[float, float, float]]:
    """Return coverage, mean width and bias of every interval over random samples."""
    rng, truth = np.random.default_rng(seed), data.truth()
    held, width, off = (dict.fromkeys(FIGURES, 0.0) for _ in range(3))
    for _ in range(replicates):
        found = data.estimates(np.sort(rng.permutation(len(data.given))[:verified]))
        for name in FIGURES:
            held[name] += (found[name].low - 1e-12 <= truth[name] <= found[name].high + 1e-12) / replicates
            width[name] += (found[name].high - found[name].low) / replicates
            off[name] += (found[name].value - truth[name]) / replicates
    return {name: (held[name], width[name], off[name]) for name in FIGURES}


@pytest.mark.parametrize("noise", ["class", "feature"])
def test_estimates_are_right_on_average_and_intervals_hold(noise: str) -> None:
    found = covered(DataSet(noise, 3000), 300, 200)
    for name in ("noise_rate", "precision", "recall", "accuracy", "calibration_gap", "brier"):
        assert found[name][0] >= 0.9, name
        assert abs(found[name][2]) < 0.01, name
    assert found["calibration_error"][0] >= 0.93


def test_predictions_make_intervals_shorter_than_counting_does() -> None:
    data = DataSet("class", 5000)
    rows = np.random.default_rng(0).permutation(5000)[:300]
    found = data.estimates(rows)["noise_rate"]
    plain = share((data.given != data.true)[rows], np.ones(300), 0.95)
    assert found.high - found.low < 0.65 * (plain.high - plain.low)


def test_the_formula_against_a_plain_computation() -> None:
    data = DataSet("class", 400)
    rows = np.arange(0, 400, 2)
    found = data.estimates(rows)["noise_rate"]
    f = 1 - data.posterior[np.arange(400), data.given]
    y = (data.given != data.true)[rows].astype(float)
    tuned = min(max(np.cov(f[rows], y, ddof=0)[0, 1] / f[rows].var(), 0), 1)
    residual = y - tuned * f[rows]
    value = tuned * f.mean() + residual.mean()
    variance = (np.square(residual - residual.mean()).sum() + 1) / 199 / 200 * (1 - 200 / 400)
    reach = stats.t.ppf(0.975, 199) * np.sqrt(variance)
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((value - reach, value + reach))


def test_what_is_verified_altogether_is_known() -> None:
    data = DataSet("feature", 300)
    found, truth = data.estimates(np.arange(300)), data.truth()
    for name in ("noise_rate", "precision", "recall", "accuracy", "calibration_gap", "brier", "log_loss"):
        assert found[name].value == pytest.approx(truth[name])
    assert found["noise_rate"].high - found["noise_rate"].low < 1e-9


def test_few_events_get_the_exact_interval() -> None:
    data = DataSet("class", 100_000)
    rows = np.arange(40)  # seven wrong labels or so
    wrong = (data.given != data.true)[rows]
    assert 0 < wrong.sum() < 10
    found = data.estimates(rows)["noise_rate"]
    exact = share(wrong, np.ones(40), 0.95)
    assert found.value == exact.value
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-3)


def test_design_weights_undo_unequal_chances() -> None:
    data = DataSet("class", 20_000)
    issue = data.posterior.argmax(1) != data.given
    chance = np.where(issue, 0.05, 0.01)
    rng, values, truth = np.random.default_rng(2), [], data.truth()
    for _ in range(60):
        rows = np.flatnonzero(rng.random(20_000) < chance)
        values.append(
            [data.estimates(rows, 1 / chance[rows])[name].value for name in ("noise_rate", "recall")]
        )
    for value, name in zip(np.mean(values, axis=0), ("noise_rate", "recall"), strict=True):
        assert value == pytest.approx(truth[name], abs=0.01)


def test_classes_are_estimated_from_their_own_rows() -> None:
    data = DataSet("class", 4000)
    rows = np.random.default_rng(0).permutation(4000)[:2000]
    found = estimates_per_class(data.population(rows), tuple("abcdefghij"), 0.95)
    for k, name in enumerate("abcdefghij"):
        mine = data.given == k
        assert found[name]["noise_rate"].rows == mine[rows].sum()
        wrong = (data.given != data.true)[mine].mean()
        assert found[name]["noise_rate"].value == pytest.approx(wrong, abs=0.04)
        lost = (data.true == k) & (data.given != data.true)
        assert found[name]["recall"].rows == lost[rows].sum()


def test_overconfidence_is_told_with_its_sign() -> None:
    rows = np.random.default_rng(0).permutation(4000)[:1000]
    over, under = (DataSet("class", 4000, excess).estimates(rows) for excess in (0.08, -0.2))
    assert over["calibration_gap"].low > 0
    assert under["calibration_gap"].high < 0
    for found in (over, under):
        assert found["calibration_error"].low > 0
        assert found["calibration_error"].value >= abs(found["calibration_gap"].value) - 1e-12


CELLS = [
    *((noise, 0.0) for noise in ("class", "feature", "rare")), *(("class", excess) for excess in (0.03, 0.06, 0.1)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_coverage_of_every_interval() -> None:
    """Prints the table of docs/estimates.md: run with -s."""
    print("\nconfidence too high by, noise, verified of rows: coverage in per cent, " + ", ".join(FIGURES))
    short = []
    for noise, excess in CELLS:
        for verified in (100, 200, 500, 1000):
            for rows in (2 * verified, 20 * verified):
                found = covered(DataSet(noise, rows, excess), verified, 2000)
                cells = " | ".join(f"{100 * found[name][0]:.1f}" for name in FIGURES)
                print(f"| {noise} | {excess:g} | {verified:,} of {rows:,} | {cells} |", flush=True)
                short += [(noise, excess, verified, rows, n) for n in FIGURES[:6] if found[n][0] < 0.93]
    assert not short
