"""The fit against posteriors whose construction is known."""

import numpy as np
import pytest

from labelfix.verdicts.dawid_skene import LabelRows, fit_annotators

ANNOTATORS, CLASSES = 8, 4


def planted(rows: int = 6000, per_image: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Images that say something about their class, and annotators of known quality."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(CLASSES, 0.4), rows)
    true = (prior.cumsum(1) > rng.random((rows, 1))).argmax(1)
    accuracy = np.linspace(0.5, 0.95, ANNOTATORS)
    image = np.repeat(np.arange(rows), per_image)
    who = np.argsort(rng.random((rows, ANNOTATORS)), axis=1)[:, :per_image].reshape(-1)
    wrong = rng.random(len(image)) >= accuracy[who]
    label = np.where(wrong, (true[image] + rng.integers(1, CLASSES, len(image))) % CLASSES, true[image])
    matrices = np.where(
        np.eye(CLASSES, dtype=bool), accuracy[:, None, None], (1 - accuracy)[:, None, None] / 3
    )
    return {
        "prior": prior, "true": true, "image": image, "who": who, "label": label, "accuracy": accuracy,
        "matrices": matrices,
    }  # fmt: skip


def rows_of(data: dict[str, np.ndarray]) -> LabelRows:
    return LabelRows(
        image=data["image"], label=data["label"], annotator=data["who"], num_annotators=ANNOTATORS
    )


def normal(joint: np.ndarray) -> np.ndarray:
    return (joint / joint.sum(1, keepdims=True)).astype(np.float32)


def accuracies(data: dict[str, np.ndarray], hit: np.ndarray) -> np.ndarray:
    return np.bincount(data["who"], hit, ANNOTATORS) / np.bincount(data["who"], minlength=ANNOTATORS)


def real(data: dict[str, np.ndarray]) -> np.ndarray:
    return accuracies(data, data["true"][data["image"]] == data["label"])


def test_average_evidence_is_taken_out() -> None:
    data = planted()
    pooled = data["matrices"].mean(0)
    soft = normal(data["prior"] * pooled[:, data["label"]].T)
    nobody = np.full(len(soft), -1)
    fit = fit_annotators(soft, data["label"], nobody, rows_of(data))
    naive = accuracies(data, soft[data["image"], data["label"]])
    assert np.abs(naive - real(data)).max() > 0.08
    assert np.abs(accuracies(data, fit.hit) - real(data)).max() < 0.04


@pytest.mark.parametrize("per_image", [1, 3])
def test_evidence_per_annotator_is_not_counted_twice(per_image: int) -> None:
    """A posterior that has weighed each label by its annotator must not weigh it twice."""
    data = planted(per_image=per_image)
    joint = np.log(data["prior"])
    np.add.at(joint, data["image"], np.log(data["matrices"])[data["who"], :, data["label"]])
    soft = normal(np.exp(joint))
    first = np.unique(data["image"], return_index=True)[1]
    nobody = np.full(len(soft), -1)
    given = data["label"][first]
    fit = fit_annotators(soft, given, nobody, rows_of(data), weighed=True)
    assert np.abs(accuracies(data, fit.hit) - real(data)).max() < 0.04
    np.testing.assert_allclose(fit.posterior.sum(1), 1, atol=1e-5)
    assert np.abs(fit.posterior - soft).mean() < 0.02


def test_trusted_labels_are_the_truth() -> None:
    data = planted()
    soft = normal(data["prior"] * data["matrices"].mean(0)[:, data["label"]].T)
    trusted = np.full(len(soft), -1)
    trusted[:3000] = data["true"][:3000]
    soft[:3000] = np.eye(CLASSES)[data["true"][:3000]]
    fit = fit_annotators(soft, data["label"], trusted, rows_of(data))
    known = data["image"] < 3000
    np.testing.assert_allclose(fit.hit[known], (data["true"] == data["label"])[:3000], atol=1e-4)


def test_the_order_of_rows_does_not_matter_and_nameless_rows_count_for_nobody() -> None:
    data = planted(rows=500, per_image=2)
    data["who"] = np.where(data["who"] == 7, -1, data["who"])
    soft = normal(data["prior"])
    nobody, given = np.full(500, -1), data["label"][::2]
    fit = fit_annotators(soft, given, nobody, rows_of(data))
    assert fit.class_accuracy.shape == (ANNOTATORS, CLASSES)
    order = np.random.default_rng(1).permutation(len(data["image"]))
    shuffled = data | {name: data[name][order] for name in ("image", "who", "label")}
    again = fit_annotators(soft, given, nobody, rows_of(shuffled))
    np.testing.assert_allclose(again.hit, fit.hit[order], atol=1e-4)
