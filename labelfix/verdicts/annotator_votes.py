"""The labels of several annotators as evidence for the verdict: each counts by the annotator's own record.

In world f, a first posterior that takes all annotators for one is fitted on the trusted rows outside fold f. It is
calibrated, as a classifier's probabilities are not, and `labelfix.verdicts.dawid_skene` reads from it how reliable
every annotator is. What the labels of an image then say together is the evidence for the rows of fold f.

N images, R label rows, K classes, M trusted rows.
"""

from collections.abc import Sequence

import numpy as np

from labelfix.inputs import NO_LABEL
from labelfix.stacking.conditional_logit import CandidateModel, TrustedRows, fit_posterior
from labelfix.stacking.transition_matrix import LOG_FLOOR, label_counts
from labelfix.verdicts.dawid_skene import LabelRows, fit_annotators
from labelfix.verdicts.posterior import predict_by_fold

__all__ = ["vote_likelihood"]


def vote_likelihood(
    sources: Sequence[np.ndarray],
    given: np.ndarray,
    rows: LabelRows,
    trusted: np.ndarray,
    fold: np.ndarray,
    *,
    trusted_count: np.ndarray,
    prior_rows: float | None,
) -> np.ndarray:
    """Return how likely each image's labels are under each true class, (N, K) float32, rows summing to 1.

    Images of fold f are judged by annotators' records that know no trusted label of fold f.

    Parameters
    ----------
    sources
        Kinds of evidence, (N, K) probabilities each, as `labelfix.verdict` takes them.
    given
        (N,) the one label of each image that stands for all of its labels.
    rows
        All of them.
    trusted, fold
        (N,) trusted classes, -1 where there is none, and the fold of each image.
    trusted_count
        (N,) what each trusted row counts for: `labelfix.inputs.design_weights.row_counts`.
    prior_rows
        Strength of the transition matrix's prior in the first posterior.
    """
    pairs = np.flatnonzero(trusted != NO_LABEL)
    known = TrustedRows(
        log_probs=np.log(np.maximum(np.stack([probs[pairs] for probs in sources]), LOG_FLOOR)),
        given=given[pairs],
        true=trusted[pairs],
        count=trusted_count[pairs],
        fold=fold[pairs],
    )
    form = CandidateModel(tuple(range(len(sources))), local=len(pairs) > 0)
    soft_counts = label_counts(sources[0], given)
    nothing = np.full(len(given), NO_LABEL)
    likelihood = np.empty(sources[0].shape, np.float32)
    for number in np.unique(fold) if len(pairs) else [None]:  # without trusted rows all worlds are one
        fit = fit_posterior(known.only(known.fold != number), soft_counts, form, prior_rows=prior_rows)
        first = predict_by_fold({0: fit}, sources, given, np.zeros(len(given), np.int32))
        own = slice(None) if number is None else fold == number
        likelihood[own] = fit_annotators(first, given, nothing, rows).votes[own]
    return likelihood
