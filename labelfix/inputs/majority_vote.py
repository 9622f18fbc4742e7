"""One given label per image from the labels of several annotators.

N images, R label rows, K classes, A annotators.
"""

import numpy as np

__all__ = ["majority_labels"]

# Prior strength of each annotator's reliability, in rows.
PRIOR_ROWS = 4.0


def majority_labels(
    row_image: np.ndarray,
    row_label: np.ndarray,
    row_annotator: np.ndarray,
    trusted: np.ndarray,
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most frequent label of every image; a tie goes to the more reliable annotator.

    Reliability is an annotator's agreement with the trusted labels, shrunk to their agreement with other annotators
    of the same images; without trusted labels it is the latter alone. The trusted label of an image has no part in
    its own tie, so that its given label stays evidence. Among equally reliable annotators, the first class in class
    order is taken.

    Parameters
    ----------
    row_image, row_label, row_annotator
        (R,) image number, class number, annotator number (-1: not named; all of these count as one annotator).
    trusted
        (N,) trusted class numbers, -1 where there is none.
    num_classes
        K.

    Returns
    -------
    given, tied
        (N,) int32 class numbers, and (N,) bool, whether the majority was tied.
    """
    num_images = len(trusted)
    pairs, pair_of_row, votes = np.unique(
        row_image.astype(np.int64) * num_classes + row_label, return_inverse=True, return_counts=True
    )
    image, label = np.divmod(pairs, num_classes)
    starts = np.searchsorted(image, np.arange(num_images))
    leads = votes == np.maximum.reduceat(votes, starts)[image]
    tied = np.add.reduceat(leads, starts) > 1
    strength = np.zeros(len(pairs))
    rows = np.flatnonzero(tied[row_image])
    if len(rows):
        reliability = _reliability(row_image, row_label, row_annotator, trusted, votes[pair_of_row])
        # rounded, so that the order of summation does not decide a tie
        np.maximum.at(strength, pair_of_row[rows], np.round(reliability[rows], 9))
    order = np.lexsort((label, -strength, ~leads, image))
    return label[order[starts]].astype(np.int32), tied


def _reliability(
    row_image: np.ndarray,
    row_label: np.ndarray,
    row_annotator: np.ndarray,
    trusted: np.ndarray,
    row_votes: np.ndarray,
) -> np.ndarray:
    """Return, (R,), the reliability of every row's annotator, without the trusted label of that row's image."""
    num_annotators = int(row_annotator.max(initial=-1)) + 1
    annotator = np.where(row_annotator < 0, num_annotators, row_annotator)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(annotator, values, minlength=num_annotators + 1)

    others = np.bincount(row_image)[row_image] - 1
    agreement = np.divide(row_votes - 1, others, out=np.zeros(len(annotator)), where=others > 0)
    common = (agreement.sum() + 1) / ((others > 0).sum() + 2)
    with_others = (total(agreement) + PRIOR_ROWS * common) / (total(others > 0) + PRIOR_ROWS)
    known = (trusted[row_image] >= 0).astype(np.float64)
    right = known * (trusted[row_image] == row_label)
    return (total(right)[annotator] - right + PRIOR_ROWS * with_others[annotator]) / (
        total(known)[annotator] - known + PRIOR_ROWS
    )
