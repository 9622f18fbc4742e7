"""Rates of the whole data set from a few verified rows: prediction-powered, or exact where events are rare.

A verified row says what is true, and a prediction f exists for every row. With outcomes y of n verified rows drawn
at random from N, and out-of-fold predictions f that use none of these outcomes,

    theta = lambda * mean_N(f) + mean_n(y - lambda f)

is unbiased for the rate of the N rows whatever f is worth (prediction-powered inference, Angelopoulos et al. 2023,
arXiv 2301.09633; lambda as in PPI++, arXiv 2311.01453: the survey literature's difference and regression
estimators). With residuals r = y - lambda f its variance is

    [sum (r - mean r)^2 + 1] / (n - 1) / n * (1 - n / N),

where the 1 is one outcome that contradicts its prediction, beyond those seen: without it, intervals are too short
where confident errors are rare. Quantiles are Student's. With fewer than 10 events or 10 others the exact binomial
interval is taken, at the number of rows that sampling without replacement makes them worth.

n verified rows, N rows, K classes.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from labelfix.inputs.design_weights import effective_rows

__all__ = [
    "Estimate",
    "Population",
    "clopper_pearson",
    "estimates_per_class",
    "mean_and_reach",
    "rate",
    "rate_estimates",
    "share",
]

LEAST_EVENTS = 10


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


@dataclass(frozen=True, kw_only=True)
class Population:
    """What is predicted of every row by fits without its own trusted label, and which rows are verified.

    Attributes
    ----------
    given, predicted
        (N,) given labels, and the most probable classes.
    confidence, label_score
        (N,) probabilities of `predicted` and of `given`.
    rows, true, count
        (n,) numbers of the verified rows, their true classes, and what each counts for
        (`labelfix.inputs.design_weights.row_counts`).
    """

    given: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    label_score: np.ndarray
    rows: np.ndarray
    true: np.ndarray
    count: np.ndarray

    def only(self, kept: np.ndarray) -> "Population":
        """Return the rows that `kept` (N,) bool marks."""
        number = np.cumsum(kept) - 1
        verified = kept[self.rows]
        return Population(
            given=self.given[kept],
            predicted=self.predicted[kept],
            confidence=self.confidence[kept],
            label_score=self.label_score[kept],
            rows=number[self.rows[verified]],
            true=self.true[verified],
            count=self.count[verified],
        )

    @property
    def is_issue(self) -> np.ndarray:
        """(N,) bool: another class than the given one is the most probable."""
        return self.predicted != self.given

    @property
    def wrong(self) -> np.ndarray:
        """(n,) bool: the given label of a verified row is wrong."""
        return self.given[self.rows] != self.true


def clopper_pearson(hits: float, rows: float, coverage: float) -> tuple[float, float]:
    """Return the exact two-sided binomial interval; `hits` and `rows` may be fractional (Beta quantiles)."""
    tail = (1 - coverage) / 2
    hits = min(max(hits, 0.0), rows)
    low = stats.beta.ppf(tail, hits, rows - hits + 1) if hits > 1e-9 else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, rows - hits) if rows - hits > 1e-9 else 1.0
    return float(low), float(high)


def share(hits: np.ndarray, weight: np.ndarray, coverage: float, population: float = np.inf) -> Estimate:
    """Return the share of rows that `hits` (n,) bool marks, weighted, with its exact binomial interval.

    It is taken at the effective number of rows, (sum w)^2 / sum w^2 (Korn & Graubard 1998), over 1 - n / N where
    the rows are drawn from a `population` of N.
    """
    hits, weight = np.asarray(hits, bool), np.asarray(weight, np.float64)
    if not len(hits) or weight.sum() <= 0:
        return Estimate(value=float("nan"), low=0.0, high=1.0, rows=0)
    value = float(weight[hits].sum() / weight.sum())
    unseen = 1 - len(hits) / max(population, len(hits))
    if not unseen:
        return Estimate(value=value, low=value, high=value, rows=len(hits))
    rows = effective_rows(weight) / unseen
    low, high = clopper_pearson(value * rows, rows, coverage)
    return Estimate(value=value, low=low, high=high, rows=len(hits))


def rate(outcome: np.ndarray, prediction: np.ndarray, population: Population, coverage: float) -> Estimate:
    """Return the rate of `outcome` (n,) bool in the population, with `prediction` (N,) of its probability."""
    events = int(outcome.sum())
    if min(events, len(outcome) - events) < LEAST_EVENTS:
        return share(outcome, population.count, coverage, len(prediction))
    value, reach = _prediction_powered(
        outcome.astype(np.float64), prediction.astype(np.float64), population, coverage, surprise=1.0
    )
    return Estimate(
        value=min(max(value, 0.0), 1.0),
        low=max(value - reach, 0.0),
        high=min(value + reach, 1.0),
        rows=len(outcome),
    )


def _prediction_powered(
    outcome: np.ndarray, prediction: np.ndarray, population: Population, coverage: float, *, surprise: float
) -> tuple[float, float]:
    """Return the mean of an outcome over the population, and half the width of its interval.

    outcome (n,); prediction (N,); `surprise` as in `mean_and_reach`.
    """
    verified, weight = prediction[population.rows], population.count / population.count.sum()
    spread = verified - weight @ verified
    variance = float(weight @ spread**2)
    tuned = float(weight @ (spread * outcome)) / variance if variance > 1e-12 else 0.0
    tuned = min(max(tuned, 0.0), 1.0)
    mean, reach = mean_and_reach(outcome - tuned * verified, population, coverage, surprise=surprise)
    return tuned * float(prediction.mean()) + mean, reach


def mean_and_reach(
    values: np.ndarray, population: Population, coverage: float, *, surprise: float
) -> tuple[float, float]:
    """Return the weighted mean of values (n,) of the verified rows, and half the width of its interval (Student).

    `surprise` is the size of one value beyond those seen.
    """
    weight, rows = population.count / population.count.sum(), effective_rows(population.count)
    mean = float(weight @ values)
    squares = rows * float(weight @ np.square(values - mean)) + surprise**2
    unseen = max(1 - len(values) / len(population.given), 0.0)
    error = float(np.sqrt(squares / max(rows - 1, 1e-9) / rows * unseen))
    return mean, float(stats.t.ppf((1 + coverage) / 2, max(rows - 1, 1.0))) * error


# ------------------------------------------------------------------------------------------ of a whole verdict


def rate_estimates(population: Population, coverage: float) -> dict[str, Estimate]:
    """Return ``noise_rate``, ``precision`` and ``recall`` of label issues, and ``accuracy`` of predicted labels."""
    if not len(population.rows):
        return {}
    hits = population.predicted[population.rows] == population.true
    return {
        "noise_rate": _noise_rate(population, coverage),
        "precision": _noise_rate(population.only(population.is_issue), coverage),
        "recall": _recall(population, np.ones(len(population.rows), bool), coverage),
        "accuracy": rate(hits, population.confidence, population, coverage),
    }


def estimates_per_class(
    population: Population, classes: tuple[str, ...], coverage: float
) -> dict[str, dict[str, Estimate]]:
    """Return noise rate, precision and recall of every class, as `labelfix.Verdict.per_class`."""
    if not len(population.rows):
        return {}
    estimates = {}
    for k, name in enumerate(classes):
        of_class = population.only(population.given == k)
        estimates[name] = {
            "noise_rate": _noise_rate(of_class, coverage),
            "precision": _noise_rate(of_class.only(of_class.is_issue), coverage),
            "recall": _recall(population, population.true == k, coverage),
        }
    return estimates


def _noise_rate(population: Population, coverage: float) -> Estimate:
    return rate(population.wrong, 1 - population.label_score, population, coverage)


def _recall(population: Population, among: np.ndarray, coverage: float) -> Estimate:
    """Return the share of label issues among wrong labels, of the verified rows that `among` (n,) marks.

    The ratio of two prediction-powered means, linearised, on the logit scale. Of some rows alone, where no
    prediction says which unverified rows are among them, and with few events: the exact interval.
    """
    wrong = population.wrong & among
    found = wrong & population.is_issue[population.rows]
    if not among.all() or min(found.sum(), wrong.sum() - found.sum()) < LEAST_EVENTS:
        return share(found[wrong], population.count[wrong], coverage)
    chance = (1 - population.label_score).astype(np.float64)
    part, _ = _prediction_powered(
        found.astype(np.float64), chance * population.is_issue, population, coverage, surprise=1.0
    )
    whole, _ = _prediction_powered(wrong.astype(np.float64), chance, population, coverage, surprise=1.0)
    ratio = min(max(part / whole, 1e-6), 1 - 1e-6)
    outcome = (found - ratio * wrong) / whole
    prediction = chance * (population.is_issue - ratio) / whole
    surprise = max(ratio, 1 - ratio) / whole
    _, reach = _prediction_powered(outcome, prediction, population, coverage, surprise=surprise)
    reach /= ratio * (1 - ratio)
    low, high = expit(logit(ratio) - reach), expit(logit(ratio) + reach)
    return Estimate(value=ratio, low=float(low), high=float(high), rows=int(wrong.sum()))
