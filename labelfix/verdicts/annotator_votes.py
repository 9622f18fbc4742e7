"""The labels of several annotators as evidence for the verdict: each counts by its annotator's reliability.

Votes for fold f use no trusted label of fold f (cross-fitting). An initial posterior, which does not tell
annotators apart, is fitted on the trusted rows outside fold f. It is calibrated, as a classifier's probabilities
are not. From it, `labelfix.verdicts.dawid_skene` estimates the reliability of every annotator, and with that the
likelihood of all labels of each image in fold f.

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
    """Return the likelihood of each image's labels under every class, (N, K) float32, rows scaled to sum to 1.

    Parameters
    ----------
    sources
        Kinds of evidence, (N, K) probabilities each, as `labelfix.verdict` takes them.
    given
        (N,) the one given label of each image.
    rows
        All labels of all images.
    trusted, fold
        (N,) trusted classes, -1 where there is none, and the fold of each image.
    trusted_count
        (N,) what each trusted row counts for: `labelfix.inputs.design_weights.row_counts`.
    prior_rows
        Strength of the transition matrix's prior in the initial posterior.
    """
    pairs = np.flatnonzero(trusted != NO_LABEL)
    trusted_rows = TrustedRows(
        log_probs=np.log(np.maximum(np.stack([probs[pairs] for probs in sources]), LOG_FLOOR)),
        given=given[pairs],
        true=trusted[pairs],
        count=trusted_count[pairs],
        fold=fold[pairs],
    )
    model = CandidateModel(tuple(range(len(sources))), local=len(pairs) > 0)
    soft_counts = label_counts(sources[0], given)
    no_trusted = np.full(len(given), NO_LABEL)
    likelihood = np.empty(sources[0].shape, np.float32)
    for held_out in (
        np.unique(fold) if len(pairs) else [None]
    ):  # without trusted rows, one fit serves all folds
        fit = fit_posterior(
            trusted_rows.only(trusted_rows.fold != held_out), soft_counts, model, prior_rows=prior_rows
        )
        initial = predict_by_fold({0: fit}, sources, given, np.zeros(len(given), np.int32))
        inside = slice(None) if held_out is None else fold == held_out
        likelihood[inside] = fit_annotators(initial, given, no_trusted, rows).votes[inside]
    return likelihood
