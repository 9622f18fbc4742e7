"""What the labels of several annotators say together: one transition matrix per annotator.

The model is that of Dawid & Skene (1979) with a posterior from the images in the place of their prior (Raykar et
al. 2010): given its true class k, an image gets label j from annotator a with chance T_a[k, j], whoever else
labelled it. A first posterior, which takes all annotators for one, is fitted on the trusted rows; it is calibrated,
as a classifier's probabilities are not. Expectation-maximisation starts from there. Every T_a is a Dirichlet
posterior mean around the matrix that all annotators have in common, so that someone with ten labels is taken for an
average annotator.

N images, R label rows, K classes, A annotators, M trusted rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.evidence import Form, TrustedRows, fit_posterior
from labelfix.posterior import predict_by_fold
from labelfix.transition import LOG_FLOOR, label_counts

__all__ = ["Annotations", "fit_annotators", "vote_likelihood"]

ROUNDS = 3
# How many labels of a class the common matrix stands for in an annotator's own row of it.
COMMON_ROWS = 10.0
# Pseudo-labels of each class in the common matrix, from the first posterior's.
PRIOR_ROWS = 1.0
# Beyond so many numbers in all matrices together, every annotator gets the common one.
MOST_CELLS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Who gave which label to which image: (R,) integers each; annotator -1 is one whose name is not known."""

    image: np.ndarray
    label: np.ndarray
    annotator: np.ndarray

    @property
    def num_annotators(self) -> int:
        """A, with the unnamed one as the last."""
        return int(self.annotator.max(initial=-1)) + 2

    @property
    def who(self) -> np.ndarray:
        """(R,) annotator numbers from 0 on; unnamed ones are the last."""
        return np.where(self.annotator < 0, self.num_annotators - 1, self.annotator)


def vote_likelihood(
    sources: Sequence[np.ndarray],
    given: np.ndarray,
    annotations: Annotations,
    trusted: np.ndarray,
    fold: np.ndarray,
    *,
    prior_rows: float,
) -> np.ndarray:
    """Return how likely each image's labels are under each true class, (N, K) float32, rows summing to 1.

    Images of fold f are judged by matrices that know no trusted label of fold f.

    Parameters
    ----------
    sources
        Kinds of evidence, (N, K) probabilities each, as `labelfix.verdict` takes them.
    given
        (N,) the one label of each image that stands for all of its labels.
    annotations
        All of them.
    trusted, fold
        (N,) trusted classes, -1 where there is none, and the fold of each image.
    prior_rows
        Strength of the transition matrix's prior in the first posterior.
    """
    rows = np.flatnonzero(trusted >= 0)
    known = TrustedRows(
        log_probs=np.log(np.maximum(np.stack([probs[rows] for probs in sources]), LOG_FLOOR)),
        given=given[rows],
        true=trusted[rows],
        weight=np.ones(len(rows)),
        sample=np.zeros(len(rows), np.int64),
        fold=fold[rows],
    )
    soft_counts = label_counts(sources[0], given)
    likelihood = np.empty(sources[0].shape, np.float32)
    for number in np.unique(fold).tolist() if len(rows) else [None]:
        others = known.only(known.fold != number)
        form = Form(tuple(range(len(sources))), local=len(rows) > 0)
        fit = fit_posterior(others, soft_counts, form, prior_rows=prior_rows)
        first = predict_by_fold({0: fit}, sources, given, np.zeros(len(given), np.int32))
        log_given = np.log(fit.transition.probability).T[given]
        matrices = fit_annotators(first, log_given, annotations, fit.transition.probability)
        own = slice(None) if number is None else fold == number
        likelihood[own] = _normalise(_log_votes(matrices, annotations, len(given)))[own]
    return likelihood


def fit_annotators(
    first: np.ndarray, log_given: np.ndarray, annotations: Annotations, start: np.ndarray
) -> np.ndarray:
    """Return the transition matrix of every annotator, (A, K, K): P(label j | true class k) in row k.

    The last is that of unnamed annotators. With too many classes and annotators to hold, all get the common one.

    Parameters
    ----------
    first, log_given
        (N, K) the first posterior, and what one label per image added to its logarithm: the labels of all
        annotators take the place of that.
    annotations
        The label rows.
    start
        (K, K) the transition matrix of the first posterior.
    """
    image_part = np.log(np.maximum(first, LOG_FLOOR)) - log_given
    matrices = _matrices(first, annotations, start)
    for _ in range(ROUNDS - 1):
        chances = _normalise(_log_votes(matrices, annotations, len(first)) + image_part)
        matrices = _matrices(chances, annotations, start)
    return matrices


def _matrices(chances: np.ndarray, annotations: Annotations, start: np.ndarray) -> np.ndarray:
    """Count labels by the images' chances (N, K) of being of each class; shrink towards what is common."""
    num_classes, num_annotators = chances.shape[1], annotations.num_annotators
    if num_annotators * num_classes**2 > MOST_CELLS:
        num_annotators = 1
    cell = np.minimum(annotations.who, num_annotators - 1) * num_classes + annotations.label
    counts = np.empty((num_annotators, num_classes, num_classes))
    for k in range(num_classes):
        weight = chances[annotations.image, k]
        counts[:, k] = np.bincount(cell, weight, num_annotators * num_classes).reshape(-1, num_classes)
    common = counts.sum(0) + PRIOR_ROWS * start
    own = counts + COMMON_ROWS * common / common.sum(1, keepdims=True)
    return own / own.sum(2, keepdims=True)


def _log_votes(matrices: np.ndarray, annotations: Annotations, num_images: int) -> np.ndarray:
    """Return the log-likelihood (N, K) of each image's labels."""
    who = np.minimum(annotations.who, len(matrices) - 1)
    log_rows = np.log(matrices[who, :, annotations.label])  # (R, K)
    order = np.argsort(annotations.image, kind="stable")
    starts = np.searchsorted(annotations.image[order], np.arange(num_images))
    return np.add.reduceat(log_rows[order], starts, axis=0)


def _normalise(log_scores: np.ndarray) -> np.ndarray:
    scores = np.exp(log_scores - log_scores.max(1, keepdims=True))
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)
