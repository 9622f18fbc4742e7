"""Several annotators: one transition matrix each, shrunk to what they have in common."""

import numpy as np
import pytest

from labelfix.verdicts.annotator_votes import vote_likelihood
from labelfix.verdicts.arrays import verdict
from labelfix.verdicts.dawid_skene import LabelRows

K, IMAGES = 4, 3000


@pytest.fixture(scope="module")
def crowd() -> dict[str, np.ndarray]:
    """Eight annotators, accuracies .5 to .95, wrong labels always the next class; three labels per image."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, K, IMAGES)
    accuracy = np.linspace(0.5, 0.95, 8)
    image = np.repeat(np.arange(IMAGES), 3)
    annotator = np.concatenate([rng.permutation(8)[:3] for _ in range(IMAGES)])
    right = rng.random(len(image)) < accuracy[annotator]
    label = np.where(right, true[image], (true[image] + 1) % K)
    scores = rng.normal(size=(IMAGES, K)) + 1.5 * np.eye(K)[true]
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return {
        "true": true,
        "accuracy": accuracy,
        "probs": probs,
        "image": image,
        "label": label,
        "annotator": annotator,
        "fold": rng.integers(0, 5, IMAGES),
    }


def labels_of(crowd: dict[str, np.ndarray]) -> LabelRows:
    return LabelRows(
        image=crowd["image"], label=crowd["label"], annotator=crowd["annotator"], num_annotators=8
    )


def first_labels(crowd: dict[str, np.ndarray]) -> LabelRows:
    """One label per image: that of the first of its annotators."""
    some = slice(None, None, 3)
    return LabelRows(
        image=np.arange(IMAGES),
        label=crowd["label"][some],
        annotator=crowd["annotator"][some],
        num_annotators=8,
    )


def votes_of(
    crowd: dict[str, np.ndarray], rows: LabelRows, trusted: np.ndarray, count: np.ndarray | None = None
) -> np.ndarray:
    given = crowd["label"][::3]
    return vote_likelihood(
        [crowd["probs"]],
        given,
        rows,
        trusted,
        crowd["fold"],
        trusted_count=np.ones(len(trusted)) if count is None else count,
        prior_rows=5.0,
    )


def test_votes_favour_the_class_that_reliable_annotators_name(crowd: dict[str, np.ndarray]) -> None:
    trusted = np.where(np.arange(IMAGES) < 400, crowd["true"], -1)
    votes = votes_of(crowd, labels_of(crowd), trusted)
    np.testing.assert_allclose(votes.sum(1), 1.0, rtol=1e-5)
    counts = np.zeros((IMAGES, K))
    np.add.at(counts, (crowd["image"], crowd["label"]), 1)
    by_majority = (counts.argmax(1) == crowd["true"]).mean()
    assert (votes.argmax(1) == crowd["true"]).mean() > by_majority + 0.05


def loss_with(crowd: dict[str, np.ndarray], votes: np.ndarray | None) -> float:
    """Mean negative log-likelihood of the truth of rows that nobody verified."""
    judged = verdict(
        crowd["probs"],
        crowd["label"][::3],
        np.arange(400),
        crowd["true"][:400],
        folds=crowd["fold"],
        votes=votes,
    )
    others = np.arange(400, IMAGES)
    return float(-np.log(judged.soft_label[others, crowd["true"][others]]).mean())


def test_the_posterior_is_better_for_knowing_who_labelled(crowd: dict[str, np.ndarray]) -> None:
    """One label per image: only its annotator's record tells how far it can be trusted."""
    trusted = np.where(np.arange(IMAGES) < 400, crowd["true"], -1)
    votes = votes_of(crowd, first_labels(crowd), trusted)
    assert loss_with(crowd, votes) < loss_with(crowd, None) - 0.015


def test_votes_that_say_nothing_do_no_harm(crowd: dict[str, np.ndarray]) -> None:
    noise = np.random.default_rng(1).dirichlet(np.ones(K), IMAGES)
    assert loss_with(crowd, noise) < loss_with(crowd, None) + 0.01


def test_counts_soften_a_biased_choice(crowd: dict[str, np.ndarray]) -> None:
    """Verified were mostly wrong labels: as a random sample they would put the annotators in a bad light."""
    chance = np.where(crowd["label"][::3] != crowd["true"], 0.4, 0.04)
    gains = []
    for seed in range(3):
        drawn = np.random.default_rng(seed).random(IMAGES) < chance
        trusted = np.where(drawn, crowd["true"], -1)
        weighted, plain = (
            -np.log(
                votes_of(crowd, first_labels(crowd), trusted, count)[np.arange(IMAGES), crowd["true"]]
            ).mean()
            for count in (0.1 / chance, None)
        )
        gains.append(plain - weighted)
    assert min(gains) > 0.001, gains


def test_a_trusted_label_has_no_part_in_the_votes_of_its_fold(crowd: dict[str, np.ndarray]) -> None:
    trusted = np.where(np.arange(IMAGES) < 400, crowd["true"], -1)
    before = votes_of(crowd, first_labels(crowd), trusted)
    inside = crowd["fold"] == 0
    changed = np.where(inside & (trusted >= 0), (trusted + 1) % K, trusted)
    after = votes_of(crowd, first_labels(crowd), changed)
    np.testing.assert_array_equal(before[inside], after[inside])
    assert np.abs(before[~inside] - after[~inside]).max() > 1e-4


def test_without_trusted_labels_there_are_votes_too(crowd: dict[str, np.ndarray]) -> None:
    votes = votes_of(crowd, labels_of(crowd), np.full(IMAGES, -1))
    assert (votes.argmax(1) == crowd["true"]).mean() > 0.85
