"""Planted noise: exact shares, the classes that it hits, and ties that are reported."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.benchmark.noise import (
    NOISES,
    PlantedNoise,
    Ties,
    feature_dependent_noise,
    pair_noise,
    uniform_noise,
)
from labelfix.errors import SettingError

K = 10


def labels_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, K, rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 99), st.sampled_from(sorted(NOISES)))
def test_the_share_is_exact_and_measured(rows: int, ratio: float, seed: int, name: str) -> None:
    labels = labels_of(rows, seed)
    scores = np.random.default_rng(seed).random((rows, K))
    more = {"scores": scores} if name == "feature_dependent" else {"num_classes": K}
    drawn = NOISES[name](labels, ratio, seed=seed, **more)
    assert (drawn.labels != labels).sum() == round(ratio * rows)
    assert drawn.ratio == pytest.approx(round(ratio * rows) / rows)
    assert ((drawn.labels >= 0) & (drawn.labels < K)).all()
    np.testing.assert_allclose(drawn.transition.sum(1), 1)
    again = NOISES[name](labels, ratio, seed=seed, **more)
    np.testing.assert_array_equal(drawn.labels, again.labels)


def test_uniform_noise_is_uniform_and_follows_the_seed() -> None:
    labels = np.repeat(np.arange(K), 3000)
    drawn = uniform_noise(labels, 0.4, num_classes=K, seed=1)
    off = drawn.transition[~np.eye(K, dtype=bool)]
    assert np.abs(off - 0.4 / 9).max() < 5 * np.sqrt(0.4 / 9 / 3000)
    assert (drawn.labels != uniform_noise(labels, 0.4, num_classes=K, seed=2).labels).any()


def test_pair_noise_goes_to_the_partner_alone() -> None:
    labels = labels_of(2000)
    drawn = pair_noise(labels, 0.3, num_classes=K, seed=0)
    changed = drawn.labels != labels
    np.testing.assert_array_equal(drawn.labels[changed], (labels[changed] + 1) % K)
    partners = np.arange(K)
    partners[9], partners[2] = 1, 0
    drawn = pair_noise(labels, 0.5, num_classes=K, seed=0, partners=partners)
    changed = drawn.labels != labels
    assert set(labels[changed]) == {2, 9}
    assert changed.sum() == round(0.5 * np.isin(labels, [2, 9]).sum())


def test_feature_dependent_noise_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    scores = np.array(
        [[0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.8, 0.15, 0.05], [0.1, 0.5, 0.4], [0.25, 0.05, 0.7]]
    )
    # wrong: row 2 (class 0, .8), then row 1 (class 1, .5); right by second score: 3 (.4), 0 (.3), 4 (.25)
    expected = {0: [], 1: [2], 2: [1, 2], 3: [1, 2, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4]}
    new = {2: 0, 1: 1, 3: 2, 0: 1, 4: 0}
    for count, rows in expected.items():
        drawn = feature_dependent_noise(labels, count / 5, scores=scores, seed=3)
        assert np.flatnonzero(drawn.labels != labels).tolist() == rows
        assert all(drawn.labels[row] == new[row] for row in rows)
        assert (drawn.tied_rows, drawn.tied_classes) == (0, 0)


def test_ties_are_broken_by_the_seed_and_counted() -> None:
    labels = np.zeros(100, np.int64)
    scores = np.tile([0.7, 0.1, 0.1, 0.1], (100, 1))
    one, other = (feature_dependent_noise(labels, 0.5, scores=scores, seed=seed) for seed in (0, 1))
    assert one.tied_rows == 100
    assert one.tied_classes == 50
    assert (one.labels != other.labels).any()
    assert set(one.labels) == {0, 1, 2, 3}
    last = feature_dependent_noise(labels, 0.5, scores=scores, seed=0, ties=Ties.LAST)
    assert set(last.labels) == {0, 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ratio": 1.2, "num_classes": K, "seed": 0}, "ratio: got 1.2"),
        ({"ratio": 0.2, "num_classes": 1, "seed": 0}, "num_classes: got 1"),
    ],
)
def test_bad_settings(arguments: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        uniform_noise(labels_of(10), **arguments)


def test_bad_scores_and_partners() -> None:
    with pytest.raises(SettingError, match="scores: shape"):
        feature_dependent_noise(labels_of(10), 0.2, scores=np.zeros((9, K)), seed=0)
    with pytest.raises(SettingError, match="not finite"):
        feature_dependent_noise(labels_of(10), 0.2, scores=np.full((10, K), np.nan), seed=0)
    with pytest.raises(SettingError, match="partners"):
        pair_noise(labels_of(10), 0.2, num_classes=K, seed=0, partners=[0, 1])


def authors_rule(labels: np.ndarray, scores: np.ndarray, wanted: int) -> tuple[np.ndarray, float]:
    """Flipped rows by the procedure in words, and the second score at the border; an independent formulation."""
    top, second = np.sort(scores, 1)[:, -1], np.sort(scores, 1)[:, -2]
    misread = scores.argmax(1) != labels
    if misread.sum() >= wanted:
        border = np.sort(top[misread])[-wanted]
        return misread & (top >= border), border
    border = np.sort(second[~misread])[::-1][wanted - misread.sum() - 1]
    return misread | (second >= border), border


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
@pytest.mark.parametrize("percent", [20, 40, 60, 80])
def test_feature_dependent_noise_is_that_of_the_authors(data_folder, name: str, percent: int) -> None:
    """The flipped rows are the authors', but for the rows that tie at the border, whose number is reported."""
    table = pq.read_table(data_folder / f"{name}.parquet", columns=["split", "label"])
    labels = table["label"].to_numpy()[np.asarray(table["split"]) == "train"].astype(np.int64)
    scores = np.load(data_folder / f"student_logits_{name}.npy")
    wanted = len(labels) * percent // 100
    drawn = feature_dependent_noise(labels, percent / 100, scores=scores, seed=0)
    flipped = drawn.labels != labels
    assert flipped.sum() == wanted
    candidates, border = authors_rule(labels, scores, wanted)  # all rows at the border among them
    at_border = candidates & (np.sort(scores, 1)[:, -2] == border) & (scores.argmax(1) == labels)
    np.testing.assert_array_equal(flipped[~at_border], candidates[~at_border])
    assert drawn.tied_rows == (at_border.sum() if candidates.sum() > wanted else 0)
    ranked = np.sort(scores, 1)
    misread = scores.argmax(1) != labels
    expected = np.where(misread, scores.argmax(1), np.argsort(scores, 1)[:, -2])
    tied = ~misread & (ranked[:, -2] == ranked[:, -3])
    sure = flipped & ~tied
    np.testing.assert_array_equal(drawn.labels[sure], expected[sure])
    assert drawn.tied_classes == (flipped & tied).sum()


def test_measure_of_a_class_that_does_not_occur() -> None:
    measured = PlantedNoise.measure(np.array([0, 0]), np.array([0, 1]), 3)
    np.testing.assert_array_equal(measured.transition, [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])
