"""The reliability of every annotator, from soft labels that already use the annotators' labels as evidence.

The posterior of an image uses its given label as an average label of the data set. Taken as the truth, it would
shrink the accuracies of all annotators towards their mean: it flatters the unreliable and underrates the reliable.
So that evidence is taken out, and every label is put back with its own annotator's reliability:

    r_i(k) = q_i(k) / T(k, g_i)                      T(k, g): share of label g among images of class k, by q
    w_i(k) = r_i(k) * prod over labels of i  P_a(l | k)                                 over k, normalised
    P_a(l | k) = h_ak where l = k, else (1 - h_ak) B(k, l)

h_ak is the accuracy of annotator a on class k, shrunk to the common accuracy of annotator and class. B is the
distribution of wrong labels over all annotators. Both are re-estimated from w until they converge: Dawid & Skene
(1979) with the evidence of each image as its prior, as in Raykar et al. (2010). A trusted label is the truth.

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
# Prior strength in rows: of the common accuracy in an annotator's, and of the annotator's in that of each class.
COMMON_ROWS = 2.0
CLASS_ROWS = 8.0
MOST_STEPS = 100
TOLERANCE = 1e-4  # of an annotator's accuracy between steps
LEAST_ACCURACY = 1e-4


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
        annotator = np.where(self.annotator < 0, self.num_annotators, self.annotator)[order]
        return LabelRows(
            image=self.image[order],
            label=self.label[order].astype(np.int64),
            annotator=annotator.astype(np.int64),
            num_annotators=self.num_annotators + 1,
        )


@dataclass(frozen=True, kw_only=True)
class AnnotatorFit:
    """The fitted annotators, and the posterior of the images under them.

    Attributes
    ----------
    posterior
        (N, K) float32: the posterior over the true class, each label weighted by its annotator's reliability.
    hit
        (R,) float64: probability that the label of each row is right.
    class_accuracy
        (A, K) accuracy of each annotator on each true class, shrunk to that of the others.
    common_accuracy
        (K,) accuracy of all annotators together on each true class.
    votes
        (N, K) float32: likelihood of each image's labels under every class, rows scaled to sum to 1.
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
        (N,) the given label that the posterior uses as evidence, and the trusted one (-1: none).
    rows
        All labels of all images.
    weighed
        Whether the posterior counts every label by its own annotator's reliability
        (`labelfix.verdicts.annotator_votes`). If not, it counts the given label alone, as an average one.
    """
    labels = rows.by_image()
    image_log = _without_labels(soft_label, given, trusted, labels, weighed)
    posterior = np.asarray(soft_label)
    counts = np.maximum(np.bincount(labels.annotator, minlength=labels.num_annotators), 1)
    previous: np.ndarray = np.zeros(labels.num_annotators)
    for _ in range(MOST_STEPS):
        accuracy, log_wrong, common = _reliability(posterior, labels)
        posterior = _posterior(image_log, labels, accuracy, log_wrong)
        hit = posterior[labels.image, labels.label].astype(np.float64)
        current = np.bincount(labels.annotator, hit, labels.num_annotators) / counts
        if np.abs(current - previous).max() < TOLERANCE:
            break
        previous = current
    accuracy, log_wrong, common = _reliability(posterior, labels)
    return AnnotatorFit(
        posterior=posterior,
        hit=posterior[rows.image, rows.label].astype(np.float64),
        class_accuracy=accuracy[: rows.num_annotators],
        common_accuracy=common,
        votes=_posterior(np.zeros_like(image_log), labels, accuracy, log_wrong),
    )


def _without_labels(
    soft_label: np.ndarray, given: np.ndarray, trusted: np.ndarray, labels: LabelRows, weighed: bool
) -> np.ndarray:
    """Return log r (N, K) float32: the evidence on every image without that of its labels."""
    image_log = np.log(np.maximum(soft_label, LOG_FLOOR, dtype=np.float32))
    untrusted = trusted == NO_LABEL
    if weighed:
        accuracy, log_wrong, _ = _reliability(soft_label, labels)
        votes = _posterior(np.zeros_like(image_log), labels, accuracy, log_wrong)
        image_log[untrusted] -= np.log(np.maximum(votes[untrusted], LOG_FLOOR))
        return image_log
    counts = label_counts(soft_label[untrusted], given[untrusted])
    counts += 1.0 / len(counts)  # one row per class, so that no cell is empty
    likelihood = np.log(counts / counts.sum(1, keepdims=True)).astype(np.float32)
    image_log[untrusted] -= likelihood.T[given[untrusted]]
    return image_log


def _reliability(posterior: np.ndarray, labels: LabelRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return h (A, K), log B (K, K) with 0 for B on the diagonal, and the accuracy of all annotators (K,)."""
    num_classes, num_annotators = posterior.shape[1], labels.num_annotators
    rows_AK = np.zeros((num_annotators, num_classes))  # expected label rows of each annotator and true class
    counts_KK = np.zeros((num_classes, num_classes))  # expected rows of each true class and label
    for start in range(0, len(labels), ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        true, annotator = posterior[labels.image[chunk]], labels.annotator[chunk]
        entries = (annotator, np.arange(len(annotator)))
        rows_AK += (
            sparse.csr_matrix((np.ones(len(annotator)), entries), (num_annotators, len(annotator))) @ true
        )
        counts_KK += label_counts(true, labels.label[chunk])
    hit = posterior[labels.image, labels.label].astype(np.float64)
    hits_AK = np.bincount(labels.annotator * num_classes + labels.label, hit, num_annotators * num_classes)
    hits_AK = hits_AK.reshape(num_annotators, num_classes)
    overall = np.clip(hits_AK.sum() / len(labels), LEAST_ACCURACY, 1 - LEAST_ACCURACY)
    by_annotator = (hits_AK.sum(1) + COMMON_ROWS * overall) / (rows_AK.sum(1) + COMMON_ROWS)
    by_class = (hits_AK.sum(0) + CLASS_ROWS * overall) / (rows_AK.sum(0) + CLASS_ROWS)
    by_annotator = np.clip(by_annotator, LEAST_ACCURACY, 1 - LEAST_ACCURACY)
    by_class = np.clip(by_class, LEAST_ACCURACY, 1 - LEAST_ACCURACY)
    centre_AK = expit(logit(by_annotator)[:, None] + logit(by_class) - logit(overall))
    accuracy = (hits_AK + CLASS_ROWS * centre_AK) / (rows_AK + CLASS_ROWS)
    accuracy = np.clip(accuracy, LEAST_ACCURACY, 1 - LEAST_ACCURACY)
    wrong_KK = counts_KK + 1.0 / num_classes
    np.fill_diagonal(wrong_KK, 0.0)
    wrong_KK /= wrong_KK.sum(1, keepdims=True)
    return accuracy, np.log(np.maximum(wrong_KK, LOG_FLOOR)), by_class


def _posterior(
    image_log: np.ndarray, labels: LabelRows, accuracy: np.ndarray, log_wrong: np.ndarray
) -> np.ndarray:
    """Return w (N, K) float32: the posterior of every image given all of its labels."""
    log_hit, log_miss = np.log(accuracy), np.log1p(-accuracy)
    posterior = np.empty(image_log.shape, np.float32)
    for start in range(0, len(image_log), ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, len(image_log))
        chunk = slice(*np.searchsorted(labels.image, (start, stop)))
        annotator, label, image = labels.annotator[chunk], labels.label[chunk], labels.image[chunk] - start
        log_p = log_miss[annotator] + log_wrong[:, label].T  # of each label row under every class
        log_p[np.arange(len(annotator)), label] = log_hit[annotator, label]
        rows_of_image = sparse.csr_matrix(
            (np.ones(len(annotator)), (image, np.arange(len(annotator)))), (stop - start, len(annotator))
        )
        scores = image_log[start:stop] + rows_of_image @ log_p
        scores -= scores.max(1, keepdims=True)
        np.exp(scores, out=scores)
        posterior[start:stop] = scores / scores.sum(1, keepdims=True)
    return posterior
