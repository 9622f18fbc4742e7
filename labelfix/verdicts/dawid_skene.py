"""How reliable every annotator is, given soft labels that already lean on the annotators' own labels.

The posterior of an image holds its given label as evidence, weighed as an average label of this data set. Taken
as truth, it flatters unreliable annotators and shortchanges reliable ones: their accuracies shrink towards the
mean. So that evidence is taken out again, and each label is put back with its own annotator's reliability:

    r_i(k) = q_i(k) / T(k, g_i)                      T(k, g): share of label g among images of class k, as q says
    w_i(k) = r_i(k) * prod over labels of i  P_a(l | k)                                 over k, normalised
    P_a(l | k) = h_ak where l = k, else (1 - h_ak) B(k, l)

h_ak is the share of right labels of annotator a on class k, shrunk to what annotator and class have in common; B
says where wrong labels go, over all annotators. Both are re-estimated from w until nothing moves: Dawid & Skene
(1979) with what each image says as its prior, as in Raykar et al. (2010). A trusted label is the truth.

N images, R label rows, K classes, A annotators.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit

from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.stacking.transition_matrix import LOG_FLOOR, label_counts

__all__ = ["AnnotatorFit", "LabelRows", "fit_annotators"]

ROWS_PER_CHUNK = 65536
# How many rows the common accuracy weighs in an annotator's, and the annotator's in each of his classes.
COMMON_ROWS = 2.0
CLASS_ROWS = 8.0
MOST_STEPS = 100
STILL = 1e-4  # an accuracy that moves less has settled
LEAST = 1e-4


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """Who labelled what.

    Attributes
    ----------
    image, label, annotator
        (R,) numbers of the image, the class and the annotator; annotator -1 where none is named.
    num_annotators
        A.
    """

    image: np.ndarray
    label: np.ndarray
    annotator: np.ndarray
    num_annotators: int

    @classmethod
    def of(cls, table: LabelTable) -> "LabelRows":
        """Return the label rows of a table."""
        return cls(
            image=table.row_image,
            label=table.row_label,
            annotator=table.row_annotator,
            num_annotators=len(table.annotators),
        )

    def __len__(self) -> int:
        return len(self.image)

    def by_image(self) -> "LabelRows":
        """Return the rows in the order of their images; rows without a name belong to one more annotator, A."""
        order = np.argsort(self.image, kind="stable")
        who = np.where(self.annotator < 0, self.num_annotators, self.annotator)[order]
        return LabelRows(
            image=self.image[order],
            label=self.label[order].astype(np.int64),
            annotator=who.astype(np.int64),
            num_annotators=self.num_annotators + 1,
        )


@dataclass(frozen=True, kw_only=True)
class AnnotatorFit:
    """What the labels say together with the images.

    Attributes
    ----------
    posterior
        (N, K) float32: the truth of every image, each label weighed as its annotator deserves.
    hit
        (R,) float64: probability that the label of each row is right.
    class_accuracy
        (A, K) share of right labels of each annotator on each true class, shrunk to the others.
    common_accuracy
        (K,) the same over all annotators.
    votes
        (N, K) float32: how likely each image's labels are under every class, rows summing to 1.
    """

    posterior: np.ndarray
    hit: np.ndarray
    class_accuracy: np.ndarray
    common_accuracy: np.ndarray
    votes: np.ndarray


def fit_annotators(
    soft_label: np.ndarray,
    given: np.ndarray,
    trusted: np.ndarray,
    rows: LabelRows,
    *,
    weighed: bool = False,
) -> AnnotatorFit:
    """Fit the reliability of every annotator.

    Parameters
    ----------
    soft_label
        (N, K) the published posterior; one-hot where there is a trusted label.
    given, trusted
        (N,) the given label that the posterior leans on, and the trusted one (-1: none).
    rows
        The labels behind the given ones.
    weighed
        Whether the posterior has counted every label by its own annotator's record
        (`labelfix.verdicts.annotator_votes`); if not, it has counted the given label alone, the same for everyone.
    """
    own = rows.by_image()
    image_log = _without_labels(soft_label, given, trusted, own, weighed)
    posterior = np.asarray(soft_label)
    counts = np.maximum(np.bincount(own.annotator, minlength=own.num_annotators), 1)
    settled: np.ndarray = np.zeros(own.num_annotators)
    for _ in range(MOST_STEPS):
        accuracy, elsewhere, common = _reliability(posterior, own)
        posterior = _judge_images(image_log, own, accuracy, elsewhere)
        hit = posterior[own.image, own.label].astype(np.float64)
        now = np.bincount(own.annotator, hit, own.num_annotators) / counts
        if np.abs(now - settled).max() < STILL:
            break
        settled = now
    accuracy, elsewhere, common = _reliability(posterior, own)
    return AnnotatorFit(
        posterior=posterior,
        hit=posterior[rows.image, rows.label].astype(np.float64),
        class_accuracy=accuracy[: rows.num_annotators],
        common_accuracy=common,
        votes=_judge_images(np.zeros_like(image_log), own, accuracy, elsewhere),
    )


def _without_labels(
    soft_label: np.ndarray,
    given: np.ndarray,
    trusted: np.ndarray,
    own: LabelRows,
    weighed: bool,
) -> np.ndarray:
    """Return log r (N, K) float32: what is known of every image but for its labels."""
    image_log = np.log(np.maximum(soft_label, LOG_FLOOR, dtype=np.float32))
    open_rows = trusted == NO_LABEL
    if weighed:
        accuracy, elsewhere, _ = _reliability(soft_label, own)
        votes = _judge_images(np.zeros_like(image_log), own, accuracy, elsewhere)
        image_log[open_rows] -= np.log(np.maximum(votes[open_rows], LOG_FLOOR))
        return image_log
    counts = label_counts(soft_label[open_rows], given[open_rows])
    counts += 1.0 / len(counts)  # one row per class, so that no cell is empty
    likelihood = np.log(counts / counts.sum(1, keepdims=True)).astype(np.float32)
    image_log[open_rows] -= likelihood.T[given[open_rows]]
    return image_log


def _reliability(posterior: np.ndarray, own: LabelRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return h (A, K), log B (K, K) with nothing on the diagonal, and the accuracy of all together (K,)."""
    num_classes, num_annotators = posterior.shape[1], own.num_annotators
    seen = np.zeros((num_annotators, num_classes))
    moves = np.zeros((num_classes, num_classes))
    for start in range(0, len(own), ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        weights, who = posterior[own.image[chunk]], own.annotator[chunk]
        places = (who, np.arange(len(who)))
        seen += sparse.csr_matrix((np.ones(len(who)), places), (num_annotators, len(who))) @ weights
        moves += label_counts(weights, own.label[chunk])
    hit = posterior[own.image, own.label].astype(np.float64)
    hits = np.bincount(own.annotator * num_classes + own.label, hit, num_annotators * num_classes)
    hits = hits.reshape(num_annotators, num_classes)
    all_of_us = np.clip(hits.sum() / len(own), LEAST, 1 - LEAST)
    mine = (hits.sum(1) + COMMON_ROWS * all_of_us) / (seen.sum(1) + COMMON_ROWS)
    common = (hits.sum(0) + CLASS_ROWS * all_of_us) / (seen.sum(0) + CLASS_ROWS)
    mine, common = (np.clip(values, LEAST, 1 - LEAST) for values in (mine, common))
    centre = expit(logit(mine)[:, None] + logit(common) - logit(all_of_us))
    accuracy = np.clip((hits + CLASS_ROWS * centre) / (seen + CLASS_ROWS), LEAST, 1 - LEAST)
    elsewhere = moves + 1.0 / num_classes
    np.fill_diagonal(elsewhere, 0.0)
    elsewhere /= elsewhere.sum(1, keepdims=True)
    return accuracy, np.log(np.maximum(elsewhere, LOG_FLOOR)), common


def _judge_images(
    image_log: np.ndarray, own: LabelRows, accuracy: np.ndarray, elsewhere: np.ndarray
) -> np.ndarray:
    """Return w (N, K) float32: every image under all its labels."""
    right, wrong = np.log(accuracy), np.log1p(-accuracy)
    posterior = np.empty(image_log.shape, np.float32)
    for start in range(0, len(image_log), ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, len(image_log))
        first, last = np.searchsorted(own.image, (start, stop))
        chunk = slice(first, last)
        who, label, place = own.annotator[chunk], own.label[chunk], own.image[chunk] - start
        likelihood = wrong[who] + elsewhere[:, label].T
        likelihood[np.arange(len(who)), label] = right[who, label]
        several = sparse.csr_matrix(
            (np.ones(len(who)), (place, np.arange(len(who)))), (stop - start, len(who))
        )
        scores = image_log[start:stop] + several @ likelihood
        scores -= scores.max(1, keepdims=True)
        np.exp(scores, out=scores)
        posterior[start:stop] = scores / scores.sum(1, keepdims=True)
    return posterior
