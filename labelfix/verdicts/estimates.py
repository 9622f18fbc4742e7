"""How well probabilities hold, estimated on a few held-out trusted rows: calibration error, likelihood, Brier.

The plain calibration error of a few rows is biased upwards, because the noise of every bin counts as error. Here
the true gaps of the bins have a normal prior whose spread is estimated from the same bins (empirical Bayes,
integrated over the spread). The posterior of the gaps gives the expected error and its interval.

n held-out trusted rows, K classes.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from labelfix.stacking import TrustedRows

__all__ = [
    "Estimate",
    "calibration_error",
    "calibration_estimates",
    "clopper_pearson",
    "estimates_per_class",
    "mean_estimate",
    "share",
    "verdict_estimates",
]

BINS = 15
PROB_FLOOR = 1e-7
SPREADS = np.concatenate([[1e-4], np.geomspace(1e-3, 0.5, 80)])
POSTERIOR_SAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure estimated on trusted rows, with its interval.

    Attributes
    ----------
    value, low, high
        The figure and its interval; NaN where no row supports it.
    rows
        How many trusted rows it rests on.
    """

    value: float
    low: float
    high: float
    rows: int


def share(hits: np.ndarray, weight: np.ndarray, coverage: float) -> Estimate:
    """Return the share of rows that `hits` (n,) bool marks, weighted, with its interval.

    Equal weights give the exact binomial (Clopper–Pearson) interval; else it is taken at the effective number of
    rows, (sum w)^2 / sum w^2 (Korn & Graubard 1998).
    """
    hits, weight = np.asarray(hits, bool), np.asarray(weight, np.float64)
    if not len(hits) or weight.sum() <= 0:
        return Estimate(value=float("nan"), low=0.0, high=1.0, rows=0)
    value = float(weight[hits].sum() / weight.sum())
    rows = float(weight.sum() ** 2 / np.square(weight).sum())
    low, high = clopper_pearson(value * rows, rows, coverage)
    return Estimate(value=value, low=low, high=high, rows=len(hits))


def clopper_pearson(hits: float, rows: float, coverage: float) -> tuple[float, float]:
    """Return the exact two-sided binomial interval; `hits` and `rows` may be fractional (Beta quantiles)."""
    tail = (1 - coverage) / 2
    hits = min(max(hits, 0.0), rows)
    low = stats.beta.ppf(tail, hits, rows - hits + 1) if hits > 1e-9 else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, rows - hits) if rows - hits > 1e-9 else 1.0
    return float(low), float(high)


def mean_estimate(values: np.ndarray, weight: np.ndarray, coverage: float) -> Estimate:
    """Return the weighted mean of values (n,), with its interval from Student's t."""
    if len(values) < 2:
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), rows=len(values))
    shares = weight / weight.sum()
    value = float(shares @ values)
    rows = 1.0 / float(np.square(shares).sum())
    error = np.sqrt(float(shares @ np.square(values - value)) / max(rows - 1, 1e-9))
    margin = float(stats.t.ppf((1 + coverage) / 2, max(rows - 1, 1.0)) * error)
    return Estimate(value=value, low=max(value - margin, 0.0), high=value + margin, rows=len(values))


def calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> float:
    """Return the plain expected calibration error over equal-width bins (Guo et al. 2017), high for few rows."""
    gap = np.bincount(_bins(confidence, bins), confidence - hits, bins)
    return float(np.abs(gap).sum() / max(len(confidence), 1))


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def corrected_calibration_error(
    confidence: np.ndarray, hits: np.ndarray, weight: np.ndarray, coverage: float
) -> Estimate:
    """Return the expected calibration error without its upward bias for few rows, with its interval.

    Parameters
    ----------
    confidence, hits, weight
        (n,) probability of the predicted class, whether it was right, weight of the row.
    coverage
        Of the interval.
    """
    confidence = np.asarray(confidence, np.float64)
    if not len(confidence):
        return Estimate(value=float("nan"), low=0.0, high=1.0, rows=0)
    bin_of_row = _bins(confidence, BINS)
    total = np.bincount(bin_of_row, weight, BINS)
    used = total > 0
    gap = np.bincount(bin_of_row, weight * (confidence - hits), BINS)[used] / total[used]
    rows = total[used] ** 2 / np.bincount(bin_of_row, np.square(weight), BINS)[used]
    mean = np.bincount(bin_of_row, weight * confidence, BINS)[used] / total[used]
    # one pseudo-row at the claimed confidence keeps the variance of a bin without misses above zero
    rate = np.clip((rows * (mean - gap) + mean) / (rows + 1), 1e-4, 1 - 1e-4)
    variance = rate * (1 - rate) / rows
    spread_S1 = np.square(SPREADS)[:, None]
    log_likelihood = stats.norm.logpdf(gap, 0.0, np.sqrt(spread_S1 + variance)).sum(1)
    spread_likelihood = np.exp(log_likelihood - log_likelihood.max())
    rng = np.random.default_rng(0)
    spread_number = rng.choice(len(SPREADS), POSTERIOR_SAMPLES, p=spread_likelihood / spread_likelihood.sum())
    shrink = spread_S1[spread_number] / (spread_S1[spread_number] + variance)
    noise = rng.standard_normal((POSTERIOR_SAMPLES, len(gap)))
    true_gap = shrink * gap + np.sqrt(shrink * variance) * noise
    error = np.abs(true_gap) @ (total[used] / total.sum())
    low, high = np.quantile(error, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Estimate(value=float(error.mean()), low=float(low), high=float(high), rows=len(confidence))


def calibration_estimates(
    posterior: np.ndarray, true: np.ndarray, weight: np.ndarray, coverage: float
) -> dict[str, Estimate]:
    """Return ``calibration_error``, ``log_loss`` (nats) and ``brier`` (0 to 2) of held-out posteriors.

    Parameters
    ----------
    posterior
        (n, K) held-out posteriors of trusted rows.
    true, weight
        (n,) their true classes and weights.
    """
    rows = np.arange(len(true))
    predicted = posterior.argmax(1)
    q = posterior.astype(np.float64)
    loss = -np.log(np.maximum(q[rows, true], PROB_FLOOR))
    brier = np.square(q).sum(1) - 2 * q[rows, true] + 1
    return {
        "calibration_error": corrected_calibration_error(
            q[rows, predicted], predicted == true, weight, coverage
        ),
        "log_loss": mean_estimate(loss, weight, coverage),
        "brier": mean_estimate(brier, weight, coverage),
    }


# ------------------------------------------------------------------------------------------ of a whole verdict


def verdict_estimates(trusted: TrustedRows, held_out: np.ndarray, coverage: float) -> dict[str, Estimate]:
    """Return the estimates of `labelfix.Verdict` by name, from held-out posteriors (M, K) of the trusted rows."""
    if not len(trusted):
        return {}
    predicted = held_out.argmax(1)
    wrong, flagged = trusted.given != trusted.true, predicted != trusted.given
    everything = np.ones(len(trusted), bool)
    return {
        "noise_rate": _share(wrong, everything, trusted, coverage),
        "precision": _share(wrong, flagged, trusted, coverage),
        "recall": _share(flagged, wrong, trusted, coverage),
        "accuracy": _share(predicted == trusted.true, everything, trusted, coverage),
        **calibration_estimates(held_out, trusted.true, trusted.count, coverage),
    }


def _share(hits: np.ndarray, among: np.ndarray, trusted: TrustedRows, coverage: float) -> Estimate:
    """Estimate the share of `hits` (M,) bool in the set that `among` (M,) bool marks."""
    return share(hits[among], trusted.count[among], coverage)


def estimates_per_class(
    trusted: TrustedRows, held_out: np.ndarray, classes: tuple[str, ...], coverage: float
) -> dict[str, dict[str, Estimate]]:
    """Return noise rate, precision and recall of every class, as `labelfix.Verdict.per_class`."""
    estimates: dict[str, dict[str, Estimate]] = {}
    wrong, flagged = trusted.given != trusted.true, held_out.argmax(1) != trusted.given
    for k, name in enumerate(classes if len(trusted) else ()):
        given = trusted.given == k
        estimates[name] = {
            "noise_rate": _share(wrong, given, trusted, coverage),
            "precision": _share(wrong, given & flagged, trusted, coverage),
            "recall": _share(flagged, wrong & (trusted.true == k), trusted, coverage),
        }
    return estimates
