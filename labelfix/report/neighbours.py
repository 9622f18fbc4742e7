"""Which trusted images a suspect looks like: the reason that a report can show beside a verdict.

N images with a given label, E extra trusted ones, S suspects, D features, n neighbours of each.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

__all__ = ["nearest_trusted", "neighbour_table"]

ROWS_PER_CHUNK = 512
NO_ROW = -1
NEIGHBOUR = pa.struct([("image", pa.string()), ("similarity", pa.float32())])


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
    known = np.flatnonzero(trusted >= 0)
    neighbours = np.full((len(rows), count), NO_ROW, np.int64)
    similarity = np.zeros((len(rows), count), np.float32)
    if not len(known):
        return neighbours, similarity
    known_MD = features[known].astype(np.float32)
    centre = known_MD.mean(0)
    known_MD = _unit(known_MD - centre)
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        here = slice(start, start + ROWS_PER_CHUNK)
        asked = _unit(features[rows[here]].astype(np.float32) - centre)
        for k in np.unique(wanted[here]).tolist():
            mine, those = np.flatnonzero(wanted[here] == k), np.flatnonzero(trusted[known] == k)
            if not len(those):
                continue
            alike = asked[mine] @ known_MD[those].T
            alike[rows[here][mine][:, None] == known[those]] = -np.inf
            order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(alike, order, axis=1)
            places = np.where(np.isfinite(best), known[those][order], NO_ROW)
            neighbours[start + mine, : order.shape[1]] = places
            similarity[start + mine, : order.shape[1]] = np.where(np.isfinite(best), best, 0.0)
    return neighbours, similarity


def _unit(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, 1e-12)


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
        found, similarity = nearest_trusted(features, rows, wanted, trusted, count=count)
        cells = [
            [
                {"image": names[row], "similarity": alike}
                for row, alike in zip(row_n, alike_n, strict=True)
                if row != NO_ROW
            ]
            for row_n, alike_n in zip(found.tolist(), similarity.tolist(), strict=True)
        ]
        columns[title] = pa.array(cells, pa.list_(NEIGHBOUR))
    return pa.table(columns)
