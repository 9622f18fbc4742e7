"""The posterior over the true class, fitted on trusted rows: used by self-training and by the verdicts.

===================  ====================================================================
`transition_matrix`  T[k, j] = P(given label j | true class k)
`conditional_logit`  evidence combined with a few weights that all classes share
`stacking`           candidate models averaged by their held-out likelihood
===================  ====================================================================
"""

from labelfix.stacking.conditional_logit import CandidateModel, Posterior, TrustedRows, fit_posterior
from labelfix.stacking.stacking import fit_stacked
from labelfix.stacking.transition_matrix import LOG_FLOOR, NoiseMatrix, Transition, label_counts

__all__ = [
    "LOG_FLOOR",
    "CandidateModel",
    "NoiseMatrix",
    "Posterior",
    "Transition",
    "TrustedRows",
    "fit_posterior",
    "fit_stacked",
    "label_counts",
]
