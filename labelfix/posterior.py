"""The verdict stage: from predicted probabilities, given labels and trusted labels to a posterior per row.

The evidence on the true class k of a row with given label g is combined as a conditional logit whose three
weights are shared by all classes,

    log q_k = a * log p_k(x) + b * log T[k, g] + c * [k = g] + constant,

fitted on the trusted rows by penalised maximum likelihood around a = b = 1, c = 0 (which is Bayes' rule for
class-conditional noise). T is the class transition matrix, T[k, g] = P(given g | true k): Dirichlet-smoothed
counts of the trusted rows. While the weights are fitted, every trusted row sees T without its own count.

Numpy in, numpy out. N rows, K classes, M trusted rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats
from scipy.special import log_softmax, logsumexp

from labelfix.config import VerdictConfig
from labelfix.errors import InputError

__all__ = ["Action", "Estimate", "NoiseMatrix", "Verdict", "verdict"]

LOG_FLOOR = 1e-12
# Standard deviation of the weights around Bayes' rule: a few dozen trusted rows outweigh it.
WEIGHT_SPREAD = 1.0


class Action:
    """What to do with a label: numbers into `Action.NAMES`."""

    NAMES = ("keep", "relabel", "review")
    KEEP, RELABEL, REVIEW = range(3)


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
class NoiseMatrix:
    """How this data set's labels go wrong.

    Attributes
    ----------
    probability, low, high
        (K, K) float64: P(given j | true k) in row k, column j, and its interval.
    rows
        (K, K) int64: trusted rows with true class k and given label j.
    """

    probability: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known about every row.

    Attributes
    ----------
    soft_label
        (N, K) float32, rows sum to 1: the posterior over the true class.
    predicted_label
        (N,) int32: its most probable class.
    confidence
        (N,) float32: the probability of `predicted_label`.
    label_score
        (N,) float32: the probability that the given label is right; lower is worse.
    is_label_issue
        (N,) bool: predicted_label differs from the given label.
    action
        (N,) int8 into `Action.NAMES`.
    noise_matrix
        The transition matrix with intervals.
    estimates
        ``noise_rate``, ``precision`` and ``recall`` of is_label_issue, ``accuracy`` of predicted_label; each
        measured on trusted rows that did not fit it. Empty without trusted rows.
    weights
        Of the three kinds of evidence: a, b and c above.
    classes
        (K,) class names.
    """

    soft_label: np.ndarray
    predicted_label: np.ndarray
    confidence: np.ndarray
    label_score: np.ndarray
    is_label_issue: np.ndarray
    action: np.ndarray
    noise_matrix: NoiseMatrix
    estimates: dict[str, Estimate]
    weights: tuple[float, float, float]
    classes: tuple[str, ...]


def verdict(
    probs: np.ndarray,
    labels: np.ndarray,
    trusted_rows: np.ndarray,
    trusted_labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    folds: np.ndarray | None = None,
    config: VerdictConfig | None = None,
) -> Verdict:
    """Judge every label from out-of-fold probabilities and a few trusted labels.

    Parameters
    ----------
    probs
        (N, K) out-of-fold class probabilities; rows sum to 1.
    labels
        (N,) given labels, integers from 0 to K - 1.
    trusted_rows
        (M,) row numbers whose true class is known; may be empty.
    trusted_labels
        (M,) their true classes.
    classes
        (K,) class names; None takes the numbers.
    folds
        (N,) folds, within which estimates are held out; None deals the trusted rows out in their order.
    config
        Smoothing and coverage of the intervals.

    Raises
    ------
    InputError
        When shapes disagree, a label is out of range, or a row of `probs` is not a distribution.
    """
    config = config or VerdictConfig()
    probs, labels = _check_probs(probs, labels)
    trusted_rows, trusted_labels = _check_trusted(trusted_rows, trusted_labels, probs.shape)
    names = tuple(str(c) for c in classes) if classes is not None else tuple(map(str, range(probs.shape[1])))
    if len(names) != probs.shape[1]:
        raise InputError(f"classes: names {len(names)} classes; probs has {probs.shape[1]} columns.")
    log_p_NK = np.log(np.maximum(probs, LOG_FLOOR))
    pairs = _Pairs(labels[trusted_rows], trusted_labels, log_p_NK[trusted_rows])
    model = _Model.fit(pairs, _confusion_prior(probs, labels, pairs), config)
    posterior_NK = model.posterior(log_p_NK, labels)
    posterior_NK[trusted_rows] = np.eye(probs.shape[1])[trusted_labels]
    return _finish(
        posterior_NK, labels, model, pairs, _held_out(pairs, model, trusted_rows, folds), names, config
    )


# ----------------------------------------------------------------------------------------------------- checks


def _check_probs(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise InputError(f"probs: has shape {probs.shape}; expected (N, K) with at least two classes.")
    if labels.shape != probs.shape[:1]:
        raise InputError(f"labels: has shape {labels.shape}; expected ({len(probs)},), one per row of probs.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels: are of type {labels.dtype}; expected integers from 0 to {probs.shape[1] - 1}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= probs.shape[1]))
    if len(wrong):
        raise InputError(
            [
                f"labels, row {i + 1}: got {labels[i]}; expected 0 to {probs.shape[1] - 1}."
                for i in wrong[:10]
            ],
            len(wrong),
        )
    totals = probs.sum(1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(totals - 1) < 1e-2) | (probs.min(1) < 0))
    if len(wrong):
        raise InputError(
            [
                f"probs, row {i + 1}: sums to {totals[i]:g}, least value {probs[i].min():g}; expected "
                "probabilities that sum to 1. Apply a softmax to logits first."
                for i in wrong[:10]
            ],
            len(wrong),
        )
    return probs, labels.astype(np.int64)


def _check_trusted(
    rows: np.ndarray, labels: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = np.asarray(rows, np.int64).reshape(-1), np.asarray(labels, np.int64).reshape(-1)
    if len(rows) != len(labels):
        raise InputError(
            f"trusted_labels: {len(labels)} labels for {len(rows)} trusted rows; expected one each."
        )
    if len(np.unique(rows)) != len(rows):
        raise InputError("trusted_rows: a row is named twice; expected every row once.")
    for name, values, limit in (("trusted_rows", rows, shape[0]), ("trusted_labels", labels, shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise InputError(
                f"{name}: values from {values.min()} to {values.max()}; expected 0 to {limit - 1}."
            )
    return rows, labels


# ------------------------------------------------------------------------------------------------ the posterior


@dataclass(frozen=True)
class _Pairs:
    """The trusted rows: given (M,), true (M,), log-probabilities (M, K)."""

    given: np.ndarray
    true: np.ndarray
    log_p: np.ndarray

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, chosen: np.ndarray) -> "_Pairs":
        return _Pairs(self.given[chosen], self.true[chosen], self.log_p[chosen])


def _confusion_prior(probs: np.ndarray, labels: np.ndarray, pairs: _Pairs) -> np.ndarray:
    """Expected transition matrix, (K, K), before trusted rows are counted class by class.

    The diagonal is the share of trusted labels that agree, the same for every class; what is left goes to the
    classes that the rows with probable class k are labelled as.
    """
    num_classes = probs.shape[1]
    soft_counts = np.zeros((num_classes, num_classes))
    for start in range(0, len(labels), 65536):
        chunk = slice(start, start + 65536)
        np.add.at(soft_counts.T, labels[chunk], probs[chunk])
    off = soft_counts + soft_counts.sum() / num_classes**3
    np.fill_diagonal(off, 0.0)
    if len(pairs):
        agree = (np.sum(pairs.given == pairs.true) + 1.0) / (len(pairs) + 2.0)
    else:
        agree = float(np.trace(soft_counts) / soft_counts.sum())
    return agree * np.eye(num_classes) + (1 - agree) * off / off.sum(1, keepdims=True)


@dataclass(frozen=True)
class _Model:
    """A fitted posterior: prior pseudo-counts and trusted counts (K, K), and the weights a, b, c."""

    pseudo: np.ndarray
    counts: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, pairs: _Pairs, prior: np.ndarray, config: VerdictConfig) -> "_Model":
        pseudo = config.prior_rows * prior
        counts = np.zeros_like(prior)
        np.add.at(counts, (pairs.true, pairs.given), 1)
        bayes = cls(pseudo, counts, np.array([1.0, 1.0, 0.0]))
        if not len(pairs):
            return bayes
        evidence = bayes.evidence(pairs.log_p, pairs.given, leave_out=pairs.true)
        return cls(pseudo, counts, _fit_weights(evidence, pairs.true, bayes.weights))

    @property
    def transition(self) -> np.ndarray:
        total = self.counts + self.pseudo
        return total / total.sum(1, keepdims=True)

    def evidence(
        self, log_p: np.ndarray, given: np.ndarray, leave_out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return (n, K, 3) evidence; `leave_out` (n,) takes each row's own count out of its true class."""
        rows = np.arange(len(given))
        joint = self.counts + self.pseudo
        likelihood, total = joint[:, given].T.copy(), np.tile(joint.sum(1), (len(given), 1))
        if leave_out is not None:
            likelihood[rows, leave_out] -= 1
            total[rows, leave_out] -= 1
        log_t = np.log(np.maximum(likelihood, LOG_FLOOR)) - np.log(total)
        return np.stack([log_p, log_t, np.eye(len(self.counts))[given]], axis=2)

    def posterior(self, log_p: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Return the posterior (n, K) float32 of rows with log-probabilities (n, K) and given labels (n,)."""
        a, b, c = self.weights
        bonus = b * np.log(self.transition) + c * np.eye(len(self.counts))  # (true, given)
        out = np.empty(log_p.shape, np.float32)
        for start in range(0, len(given), 65536):
            chunk = slice(start, start + 65536)
            scores = a * log_p[chunk] + bonus[:, given[chunk]].T
            out[chunk] = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        return out


def _fit_weights(evidence: np.ndarray, true: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Maximise the penalised likelihood of the conditional logit; evidence (M, K, 3), true (M,)."""
    rows = np.arange(len(true))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_q = log_softmax(evidence @ weights, axis=1)
        expected = np.einsum("mk,mkw->w", np.exp(log_q), evidence)
        slope = expected - evidence[rows, true].sum(0) + (weights - centre) / WEIGHT_SPREAD**2
        penalty = 0.5 * np.sum(((weights - centre) / WEIGHT_SPREAD) ** 2)
        return -log_q[rows, true].sum() + penalty, slope

    bounds = [(0.0, None), (0.0, None), (None, None)]  # more evidence never speaks for the opposite
    return optimize.minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds).x


# ----------------------------------------------------------------------------------------------- what is shown


def _held_out(pairs: _Pairs, model: _Model, rows: np.ndarray, folds: np.ndarray | None) -> np.ndarray:
    """Posterior (M, K) of every trusted row under a model that was fitted without its fold."""
    fold = folds[rows] if folds is not None else np.arange(len(pairs)) % 5
    config = VerdictConfig(prior_rows=float(model.pseudo.sum(1)[0]))
    prior = model.pseudo / config.prior_rows
    held_out = np.empty(pairs.log_p.shape, np.float32)
    for f in np.unique(fold):
        inside = fold == f
        fitted = _Model.fit(pairs[~inside], prior, config)
        held_out[inside] = fitted.posterior(pairs.log_p[inside], pairs.given[inside])
    return held_out


def share(hits: int, rows: int, coverage: float) -> Estimate:
    """Return a share with its exact binomial (Clopper–Pearson) interval."""
    if not rows:
        return Estimate(value=float("nan"), low=0.0, high=1.0, rows=0)
    interval = stats.binomtest(int(hits), int(rows)).proportion_ci(coverage, method="exact")
    return Estimate(value=hits / rows, low=float(interval.low), high=float(interval.high), rows=int(rows))


def _estimates(pairs: _Pairs, held_out: np.ndarray, coverage: float) -> dict[str, Estimate]:
    if not len(pairs):
        return {}
    predicted = held_out.argmax(1)
    wrong, flagged = pairs.given != pairs.true, predicted != pairs.given
    return {
        "noise_rate": share(wrong.sum(), len(pairs), coverage),
        "precision": share((wrong & flagged).sum(), flagged.sum(), coverage),
        "recall": share((wrong & flagged).sum(), wrong.sum(), coverage),
        "accuracy": share((predicted == pairs.true).sum(), len(pairs), coverage),
    }


def _noise_matrix(model: _Model, coverage: float) -> NoiseMatrix:
    """Posterior mean of every cell, with the interval of its Beta marginal."""
    total = model.counts + model.pseudo
    rest = total.sum(1, keepdims=True) - total
    tail = (1 - coverage) / 2
    return NoiseMatrix(
        probability=model.transition,
        low=stats.beta.ppf(tail, total, rest),
        high=stats.beta.ppf(1 - tail, total, rest),
        rows=model.counts.astype(np.int64),
    )


def _finish(
    posterior: np.ndarray,
    labels: np.ndarray,
    model: _Model,
    pairs: _Pairs,
    held_out: np.ndarray,
    classes: tuple[str, ...],
    config: VerdictConfig,
) -> Verdict:
    rows = np.arange(len(labels))
    predicted = posterior.argmax(1).astype(np.int32)
    issue = predicted != labels
    certain = posterior[rows, predicted] == 1.0
    action = np.where(issue, np.where(certain, Action.RELABEL, Action.REVIEW), Action.KEEP).astype(np.int8)
    return Verdict(
        soft_label=posterior,
        predicted_label=predicted,
        confidence=posterior[rows, predicted],
        label_score=posterior[rows, labels],
        is_label_issue=issue,
        action=action,
        noise_matrix=_noise_matrix(model, config.interval),
        estimates=_estimates(pairs, held_out, config.interval),
        weights=tuple(model.weights.tolist()),
        classes=classes,
    )
