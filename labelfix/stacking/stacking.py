"""Stacking: candidate models of the posterior, averaged by their held-out likelihood.

M trusted rows, K classes, G candidate models.
"""

from collections.abc import Sequence

import numpy as np

from labelfix.stacking.conditional_logit import (
    FULL_CLASSES,
    CandidateModel,
    Posterior,
    TrustedRows,
    fit_each,
    fit_posterior,
)
from labelfix.stacking.transition_matrix import LOG_FLOOR

__all__ = ["candidate_models", "fit_stacked", "stacking_weights"]

# Stacking weights: prior rows, spread evenly over all candidate models, and steps of expectation-maximisation.
PRIOR_ROWS = 5.0
EM_STEPS = 200
# With fewer trusted rows there is one model of all evidence and no stacking.
LEAST_ROWS = 10


def candidate_models(num_evidence: int, num_classes: int, *, votes: bool = False) -> list[CandidateModel]:
    """Return the models to average; the first uses no evidence but the given label."""
    every = tuple(range(num_evidence - votes))
    kinds = [(), *((e,) for e in every if len(every) > 1), every]
    models = []
    for with_votes in (False, True)[: 1 + votes]:
        models += [CandidateModel(evidence, votes=with_votes) for evidence in kinds]
        models.append(CandidateModel(every, local=True, votes=with_votes))
    if num_classes <= FULL_CLASSES:
        models.append(CandidateModel(every, local=True, bias=True))
    return models


def fit_stacked(trusted: TrustedRows, soft_counts: np.ndarray, *, prior_rows: float | None) -> Posterior:
    """Fit all candidate models, and average their weights by their held-out likelihood.

    Stacking weights (Yao, Vehtari, Simpson & Gelman 2018, "Using stacking to average Bayesian predictive
    distributions") maximise the likelihood of the trusted rows under the mixture of the models' cross-validated
    predictions. So a harmful model gets next to no weight, and models that do equally well share it, because a
    choice between them would rest on few rows. What is averaged are the models' own weights, that is their
    log-probabilities, so the average is a conditional logit too.
    """
    num_evidence, num_classes = len(trusted.log_probs), len(soft_counts)
    if len(np.unique(trusted.fold)) < 2 or len(trusted) < LEAST_ROWS:
        every = CandidateModel(tuple(range(num_evidence - trusted.votes)), votes=trusted.votes)
        return fit_posterior(trusted, soft_counts, every, prior_rows=prior_rows)
    models = candidate_models(num_evidence, num_classes, votes=trusted.votes)
    likelihood = _held_out_likelihood(trusted, soft_counts, models, prior_rows)
    fits = fit_each(trusted, soft_counts, models, prior_rows)
    weights = stacking_weights(likelihood, trusted.count) @ np.stack([fit.weights for fit in fits])
    return Posterior(transition=fits[0].transition, weights=weights.round(6))


def stacking_weights(likelihood: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the stacking weights (G,) of G models by expectation-maximisation; they sum to 1.

    Parameters
    ----------
    likelihood
        (G, M) held-out probability of every trusted row's true class.
    count
        (M,) what each row counts for.
    """
    weights = np.full(len(likelihood), 1 / len(likelihood))
    for _ in range(EM_STEPS):
        joint = weights[:, None] * likelihood
        rows = (joint / joint.sum(0)) @ count
        weights = (rows + PRIOR_ROWS / len(likelihood)) / (count.sum() + PRIOR_ROWS)
    return weights


def _held_out_likelihood(
    trusted: TrustedRows,
    soft_counts: np.ndarray,
    models: Sequence[CandidateModel],
    prior_rows: float | None,
) -> np.ndarray:
    """Return the probability (G, M) of every trusted row's true class under each model's fit without its fold."""
    likelihood = np.empty((len(models), len(trusted)))
    for fold in np.unique(trusted.fold):
        inside = trusted.fold == fold
        for number, fit in enumerate(fit_each(trusted.only(~inside), soft_counts, models, prior_rows)):
            q = fit.predict(list(trusted.log_probs[:, inside]), trusted.given[inside])
            likelihood[number, inside] = np.maximum(q[np.arange(len(q)), trusted.true[inside]], LOG_FLOOR)
    return likelihood
