"""How well probabilities hold, estimated on a few held-out trusted rows: calibration, likelihood, Brier score.

n verified rows, N rows, K classes.
"""

import numpy as np
from scipy import stats

from labelfix.verdicts.estimates import Estimate, Population, mean_and_reach, rate

__all__ = ["calibration_error", "calibration_estimates"]

BINS = 15
MASS_BINS = 5
PROB_FLOOR = 1e-7


def calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> float:
    """Return the plain expected calibration error over equal-width bins (Guo et al. 2017); few rows read high."""
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, confidence - hits, bins)
    return float(np.abs(gap).sum() / max(len(confidence), 1))


def calibration_estimates(
    population: Population, held_out: np.ndarray, coverage: float
) -> dict[str, Estimate]:
    """Return ``calibration_gap``, ``calibration_error``, ``log_loss`` (nats) and ``brier`` (0 to 2).

    The gap is mean confidence minus accuracy: above 0 for overconfidence. The error is the mean absolute gap in
    five bins of equal mass; its interval is conservative.

    Parameters
    ----------
    held_out
        (n, K) posteriors of the verified rows under fits without them.
    """
    if not len(population.rows):
        return {}
    rows = np.arange(len(population.true))
    q = held_out.astype(np.float64)
    true = q[rows, population.true]
    loss = -np.log(np.maximum(true, PROB_FLOOR))
    brier = np.square(q).sum(1) - 2 * true + 1
    gap = confidence_gap(population, coverage)
    # what a confident prediction costs that turns out wrong: the surprise that no verified row may have shown
    doubt = np.maximum(1 - population.confidence.astype(np.float64), PROB_FLOOR)
    most_loss = max(float(-np.log(doubt).mean()), float(loss.max()))
    return {
        "calibration_gap": gap,
        "calibration_error": _binned_error(population, gap, coverage),
        "log_loss": _mean(loss, population, coverage, surprise=most_loss),
        "brier": _mean(brier, population, coverage, surprise=float(1 + np.square(1 - doubt).mean())),
    }


def confidence_gap(population: Population, coverage: float) -> Estimate:
    """Return mean confidence minus accuracy in a population, from -1 to 1."""
    hits = population.predicted[population.rows] == population.true
    accuracy = rate(hits, population.confidence, population, coverage)
    mean = float(population.confidence.mean(dtype=np.float64))
    return Estimate(
        value=mean - accuracy.value, low=mean - accuracy.high, high=mean - accuracy.low, rows=len(hits)
    )


def _binned_error(population: Population, gap: Estimate, coverage: float) -> Estimate:
    """Return the mean absolute gap over bins, with an interval that holds at least as often as it says.

    Half of the error level is shared by the intervals of the bins. The other half is for the whole: the absolute
    gap of a bin is at most its misses plus its mean 1 - confidence.
    """
    risk = 1 - coverage
    edges = np.unique(np.quantile(population.confidence, np.linspace(0, 1, MASS_BINS + 1)[1:-1]))
    place = np.searchsorted(edges, population.confidence, side="right")
    bins = [population.only(place == number) for number in np.unique(place)]
    mass = np.array([len(part.confidence) for part in bins]) / len(place)
    gaps = [confidence_gap(part, 1 - risk / 2 / len(bins)) for part in bins]
    reach = stats.norm.ppf(1 - risk / 4 / len(bins))
    # without what few rows add to a squared gap
    sizes = [
        np.sqrt(max(g.value**2 - ((g.high - g.low) / 2 / reach) ** 2, 0)) if g.rows else 0.0 for g in gaps
    ]
    low = max(float(mass @ [max(g.low, -g.high, 0.0) for g in gaps]), gap.low, -gap.high)
    doubt = 1 - float(population.confidence.mean(dtype=np.float64))
    high = min(float(mass @ [max(abs(g.low), abs(g.high)) for g in gaps]), 2 * doubt + gap.high)
    value = min(max(float(mass @ sizes), abs(gap.value), low), max(high, low))
    return Estimate(value=value, low=low, high=max(high, value), rows=len(population.rows))


def _mean(values: np.ndarray, population: Population, coverage: float, *, surprise: float) -> Estimate:
    """Return the mean of values (n,) of the verified rows, at least 0, with its interval from Student's t."""
    if len(values) < 2:
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), rows=len(values))
    value, reach = mean_and_reach(values, population, coverage, surprise=surprise)
    return Estimate(value=value, low=max(value - reach, 0.0), high=value + reach, rows=len(values))
