"""The trusted images that a label issue looks like, against a plain computation."""

import numpy as np

from labelfix.report.neighbours import NO_ROW, nearest_trusted


def test_neighbours_are_the_nearest_of_their_class_and_never_the_row_itself() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6)).astype(np.float32)
    trusted = np.where(rng.random(80) < 0.5, rng.integers(0, 3, 80), -1)
    rows = np.arange(40)
    wanted = rng.integers(0, 3, 40)
    wanted[5] = trusted[np.flatnonzero(trusted >= 0)[0]]
    nearest, similarity = nearest_trusted(features, rows, wanted, trusted, count=3)
    known = np.flatnonzero(trusted >= 0)
    unit = features - features[known].mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for row, label, found, alike in zip(rows, wanted, nearest, similarity, strict=True):
        candidates = known[(trusted[known] == label) & (known != row)]
        cosine = unit[candidates] @ unit[row]
        best = candidates[np.argsort(-cosine)[:3]]
        assert found.tolist() == best.tolist()
        np.testing.assert_allclose(alike, np.sort(cosine)[::-1][:3], atol=1e-5)


def test_a_class_with_few_trusted_rows_has_few_neighbours() -> None:
    features = np.eye(5, dtype=np.float32) + 0.1
    trusted = np.array([0, 0, 1, -1, -1])
    nearest, similarity = nearest_trusted(
        features, np.array([0, 3, 4]), np.array([0, 1, 2]), trusted, count=2
    )
    assert nearest.tolist() == [[1, NO_ROW], [2, NO_ROW], [NO_ROW, NO_ROW]]
    assert (similarity[:, 1] == 0).all()
