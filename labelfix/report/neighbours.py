"""Which trusted images a label issue looks like: the reason that a report can show with a verdict.

N images with a given label, E extra trusted ones, S label issues, D features, n neighbours of each.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sklearn.neighbors import NearestNeighbors

from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.report.writing import SUSPECTS_SHOWN
from labelfix.verdicts import Verdict

__all__ = ["issue_neighbours", "nearest_trusted", "neighbour_table"]

# Trusted images of either class that are shown with a label issue.
NEIGHBOURS = 3
# Differences between smaller probabilities say nothing of how alike two images are.
LEAST_PROBABILITY = 1e-4
NO_ROW = -1
NEIGHBOUR = pa.struct([("image", pa.string()), ("similarity", pa.float32())])


def issue_neighbours(
    table: LabelTable, verdict: Verdict, features: np.ndarray | None, probs: np.ndarray
) -> pa.Table | None:
    """Return the trusted images that the worst label issues look like; None where none can be compared.

    Parameters
    ----------
    features
        (N + E, D); None compares by `probs` (N, K), which only images with a given label have.
    """
    if features is not None:
        values, names, trusted = features, table.every_name, table.every_trusted
    else:
        values, names = np.log(np.maximum(probs, LEAST_PROBABILITY)), table.images.to_pylist()
        trusted = table.trusted
    if not (trusted != NO_LABEL).any():
        return None
    issues = np.flatnonzero(verdict.is_label_issue)
    worst = np.lexsort((verdict.label_score[issues], table.trusted[issues] != NO_LABEL))[:SUSPECTS_SHOWN]
    rows = issues[worst]
    return neighbour_table(
        values, names, rows, table.given[rows], verdict.predicted_label[rows], trusted, count=NEIGHBOURS
    )


def nearest_trusted(
    features: np.ndarray, rows: np.ndarray, wanted: np.ndarray, trusted: np.ndarray, *, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trusted rows of one class that are most like each row.

    Parameters
    ----------
    features
        (N + E, D) of all images, floating point.
    rows
        (S,) row numbers to explain.
    wanted
        (S,) the class whose trusted rows are looked up, for each of them.
    trusted
        (N + E,) trusted labels, negative where there is none.
    count
        n, how many neighbours to find.

    Returns
    -------
    neighbours, similarity
        (S, n) row numbers, most alike first, -1 where the class has fewer trusted rows; (S, n) float32 cosine of
        the features about the mean of the trusted ones, from -1 to 1. A row is never its own neighbour.
    """
    known = np.flatnonzero(trusted != NO_LABEL)
    neighbours = np.full((len(rows), count), NO_ROW, np.int64)
    similarity = np.zeros((len(rows), count), np.float32)
    if not len(known):
        return neighbours, similarity
    centre = features[known].astype(np.float32).mean(0)
    for label in np.unique(wanted).tolist():
        asked, candidates = np.flatnonzero(wanted == label), known[trusted[known] == label]
        if not len(candidates):
            continue
        # one more, because a trusted row finds itself
        search = NearestNeighbors(n_neighbors=min(count + 1, len(candidates)), metric="cosine")
        search.fit(features[candidates].astype(np.float32) - centre)
        distance, number = search.kneighbors(features[rows[asked]].astype(np.float32) - centre)
        nearest = candidates[number]
        itself = nearest == rows[asked][:, None]
        order = np.argsort(itself, axis=1, kind="stable")[:, :count]
        nearest, itself, alike = (np.take_along_axis(a, order, 1) for a in (nearest, itself, 1 - distance))
        neighbours[asked, : order.shape[1]] = np.where(itself, NO_ROW, nearest)
        similarity[asked, : order.shape[1]] = np.where(itself, 0.0, alike)
    return neighbours, similarity


def neighbour_table(
    features: np.ndarray,
    names: Sequence[str],
    rows: np.ndarray,
    given: np.ndarray,
    predicted: np.ndarray,
    trusted: np.ndarray,
    *,
    count: int,
) -> pa.Table:
    """Return a row for each of `rows` (S,): image, and its nearest trusted images of both classes.

    `names` are those of all (N + E) images; `given` and `predicted` (S,) are the classes. The columns
    ``near_given`` and ``near_predicted`` are lists of image and similarity (-1 to 1), most alike first.
    """
    columns: dict[str, pa.Array] = {"image": pa.array([names[row] for row in rows.tolist()], pa.string())}
    for title, wanted in (("near_given", given), ("near_predicted", predicted)):
        neighbours, similarity = nearest_trusted(features, rows, wanted, trusted, count=count)
        cells = [
            [
                {"image": names[row], "similarity": alike}
                for row, alike in zip(row_n, alike_n, strict=True)
                if row != NO_ROW
            ]
            for row_n, alike_n in zip(neighbours.tolist(), similarity.tolist(), strict=True)
        ]
        columns[title] = pa.array(cells, pa.list_(NEIGHBOUR))
    return pa.table(columns)
