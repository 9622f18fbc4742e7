"""The posterior over the true class as a conditional logit: weights shared by all classes, fitted on trusted rows.

For a row with given label g and evidence p^1 … p^E (class probabilities from E sources),

    log q_k = sum_e a_e log p^e_k + b log T[k, g] + [k = g] (c + d_1 log p^1_g + d_2 max_j log p^1_j) + bias_k,

up to a constant. a_e = 1/E, b = 1 and all else 0 is Bayes' rule for class-conditional noise: the centre of the
penalty. The terms in d let the given label count for less where the image is hard, because people and networks err
more often there. A `CandidateModel` names the terms to use; `labelfix.stacking.stacking` averages several.

M trusted rows, n rows of a chunk, K classes, C candidate classes of a row, E kinds of evidence, P terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.stacking.transition_matrix import Transition

__all__ = ["FULL_CLASSES", "CandidateModel", "Posterior", "TrustedRows", "fit_each", "fit_posterior"]

# Prior standard deviations of the weights around Bayes' rule: a few dozen trusted rows outweigh them. The weight of
# the given label beyond T has the widest.
WEIGHT_SPREAD = 1.0
GIVEN_SPREAD = 3.0
BIAS_SPREAD = 0.3
# With more classes than this, the likelihood of a trusted row is over its most probable classes only.
FULL_CLASSES = 64
CANDIDATES = 48
NEWTON_STEPS = 25


@dataclass(frozen=True, kw_only=True)
class TrustedRows:
    """The evidence on the trusted rows, and their labels.

    Attributes
    ----------
    log_probs
        (E, M, K) float32: log-probabilities of each kind of evidence, which do not depend on the row's own truth.
    votes
        Whether the last kind of evidence is the likelihood of the labels of several annotators.
    given, true
        (M,) int64.
    count
        (M,) float64: what each row counts for in estimates for the data set, from
        `labelfix.inputs.design_weights.row_counts`.
    fold
        (M,) the fold of each row.
    """

    log_probs: np.ndarray
    given: np.ndarray
    true: np.ndarray
    count: np.ndarray
    fold: np.ndarray
    votes: bool = False

    def __len__(self) -> int:
        return len(self.given)

    def only(self, chosen: np.ndarray) -> "TrustedRows":
        """Return the rows that `chosen` (M,) bool marks."""
        return TrustedRows(
            log_probs=self.log_probs[:, chosen],
            given=self.given[chosen],
            true=self.true[chosen],
            count=self.count[chosen],
            fold=self.fold[chosen],
            votes=self.votes,
        )


@dataclass(frozen=True)
class CandidateModel:
    """The terms of a model: kinds of evidence by number, the terms in d, a bias per class, annotators' votes.

    With `votes`, the last kind of evidence is the likelihood of all labels of the row. Bayes' rule then has it in
    the place of the transition matrix.
    """

    evidence: tuple[int, ...]
    local: bool = False
    bias: bool = False
    votes: bool = False

    def columns(self, num_evidence: int, num_classes: int) -> np.ndarray:
        """Return the columns of `_terms` that the model uses."""
        columns = [*self.evidence, num_evidence, num_evidence + 1]
        columns += [num_evidence - 1] if self.votes else []
        columns += [num_evidence + 2, num_evidence + 3] if self.local else []
        columns += list(range(num_evidence + 4, num_evidence + 4 + num_classes)) if self.bias else []
        return np.array(columns)


# -------------------------------------------------------------------------------------------------- the fit


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """A fitted posterior: T, and the weights (E + 4 + K,) of all terms, 0 for unused ones."""

    transition: Transition
    weights: np.ndarray

    @property
    def is_local(self) -> bool:
        """Whether the terms in d are used."""
        num_evidence = len(self.weights) - 4 - len(self.transition.counts)
        return bool(self.weights[num_evidence + 2 : num_evidence + 4].any())

    def uses(self, evidence: int) -> bool:
        """Return whether the prediction depends on evidence number `evidence`."""
        return bool(self.weights[evidence]) or (evidence == 0 and self.is_local)

    def predict(self, log_probs: Sequence[np.ndarray | None], given: np.ndarray) -> np.ndarray:
        """Return the posterior (n, K) float32 of rows with log-probabilities E x (n, K) and labels (n,).

        Evidence that is not used may be None.
        """
        num_classes, num_evidence = len(self.transition.counts), len(log_probs)
        w = self.weights.astype(np.float32)
        b, c, d1, d2 = w[num_evidence : num_evidence + 4]
        bonus = b * np.log(self.transition.probability) + w[num_evidence + 4 :][:, None]  # (true, given)
        bonus += c * np.eye(num_classes)
        scores = bonus.T.astype(np.float32)[given]
        for weight, log_p in zip(w[:num_evidence], log_probs, strict=True):
            if weight and log_p is not None:
                scores += weight * log_p
        if self.is_local:
            rows = np.arange(len(given))
            first = log_probs[0]
            assert first is not None
            scores[rows, given] += d1 * _given_score(first[rows, given]) + d2 * _best_score(first.max(1))
        scores -= scores.max(1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(1, keepdims=True)
        return scores


def _given_score(log_p: np.ndarray) -> np.ndarray:
    return 0.5 * log_p + 1.0


def _best_score(log_p: np.ndarray) -> np.ndarray:
    return log_p + 1.0


def fit_posterior(
    trusted: TrustedRows, soft_counts: np.ndarray, model: CandidateModel, *, prior_rows: float | None
) -> Posterior:
    """Fit the weights by penalised maximum likelihood; without trusted rows they stay at Bayes' rule.

    T is a property of the data set, so rows count for it by `TrustedRows.count`. The weights describe how the truth
    depends on the evidence. Rows are selected for verification by that evidence and by little else, so the
    selection is ignorable (Rubin 1976), and the likelihood counts all rows alike.

    Parameters
    ----------
    trusted
        The rows to fit on.
    soft_counts
        (K, K) from `labelfix.stacking.transition_matrix.label_counts`.
    model
        Which terms to use.
    prior_rows
        Strength of the transition matrix's prior; None takes the one of maximum likelihood.
    """
    return fit_each(trusted, soft_counts, [model], prior_rows)[0]


def fit_each(
    trusted: TrustedRows, soft_counts: np.ndarray, models: Sequence[CandidateModel], prior_rows: float | None
) -> list[Posterior]:
    """Fit several candidate models, which share T and the terms; arguments as in `fit_posterior`."""
    num_evidence, num_classes = len(trusted.log_probs), len(soft_counts)
    transition = Transition.fit(trusted.true, trusted.given, trusted.count, soft_counts, prior_rows)
    if len(trusted):
        log_t = transition.log_leave_one_out(trusted.true, trusted.given, trusted.count)
        terms, true = _terms(trusted, log_t, any(model.bias for model in models))
    fits = []
    for model in models:
        columns = model.columns(num_evidence, num_classes)
        weights = np.zeros(num_evidence + 4 + num_classes)
        weights[list(model.evidence)] = 1.0 / max(len(model.evidence), 1)
        weights[num_evidence - 1 if model.votes else num_evidence] = 1.0
        if len(trusted):
            spread = np.where(columns >= num_evidence + 4, BIAS_SPREAD, WEIGHT_SPREAD)
            spread[columns == num_evidence + 1] = GIVEN_SPREAD
            weights[columns] = _maximise(terms[:, :, columns], true, weights[columns], spread)
        fits.append(Posterior(transition=transition, weights=weights))
    return fits


def _candidates(trusted: TrustedRows) -> np.ndarray:
    """Return the candidate classes (M, C) of each row: all, or the most probable, the given and the true one."""
    num_classes = trusted.log_probs.shape[2]
    if num_classes <= FULL_CLASSES:
        return np.tile(np.arange(num_classes), (len(trusted), 1))
    rank = trusted.log_probs.mean(0)
    rows = np.arange(len(trusted))
    rank[rows, trusted.given] = np.inf
    rank[rows, trusted.true] = np.inf
    return np.argpartition(-rank, CANDIDATES, axis=1)[:, :CANDIDATES]


def _terms(trusted: TrustedRows, log_t: np.ndarray, bias: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all terms (M, C, E + 4 [+ K]) and the position (M,) of the true class among each row's candidates."""
    classes = _candidates(trusted)
    rows = np.arange(len(trusted))
    first = trusted.log_probs[0] if len(trusted.log_probs) else np.zeros(log_t.shape)
    is_given = (classes == trusted.given[:, None]).astype(np.float64)
    columns = [np.take_along_axis(log_p, classes, axis=1) for log_p in trusted.log_probs]
    columns += [np.take_along_axis(log_t, classes, axis=1), is_given]
    columns.append(is_given * _given_score(first[rows, trusted.given])[:, None])
    columns.append(is_given * _best_score(first.max(1))[:, None])
    terms = np.stack(columns, axis=2)
    if bias:
        terms = np.concatenate([terms, np.eye(log_t.shape[1])[classes]], axis=2)
    return terms, (classes == trusted.true[:, None]).argmax(1)


def _maximise(terms: np.ndarray, true: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Maximise the penalised likelihood by Newton's method with halved steps.

    terms (M, C, P); true (M,); centre and spread (P,) of the penalty.
    """
    rows = np.arange(len(true))
    precision = spread**-2.0

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = terms @ weights
        scores -= scores.max(1, keepdims=True)
        q = np.exp(scores)
        total = q.sum(1, keepdims=True)
        q /= total
        loss = float((np.log(total[:, 0]) - scores[rows, true]).sum())
        return loss + 0.5 * float(precision @ (weights - centre) ** 2), q

    weights, (loss, q) = centre, objective(centre)
    observed = terms[rows, true].sum(0)
    for _ in range(NEWTON_STEPS):
        mean = np.matmul(q[:, None, :], terms)[:, 0]  # (M, P)
        gradient = mean.sum(0) - observed + precision * (weights - centre)
        root = (terms * np.sqrt(q)[:, :, None]).reshape(-1, terms.shape[2])
        step = np.linalg.solve(root.T @ root - mean.T @ mean + np.diag(precision), gradient)
        length = 1.0
        while length > 1e-4:
            candidate = weights - length * step
            new_loss, new_q = objective(candidate)
            if new_loss <= loss:
                break
            length /= 2
        else:
            break
        weights, loss, q = candidate, new_loss, new_q
        if np.abs(length * step).max() < 1e-4:
            break
    return weights.round(6)  # the order of summation leaves no trace
