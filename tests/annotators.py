"""Simulated annotators on real images: who labels what, with which mistakes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import labelfix


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A finished run on simulated labels.

    `accuracy` (A,) is the chance of each annotator's label being right, `matrices` (A, K, K) is
    P_a(given | true), and `rows` (R, 3) are image, annotator, label.
    """

    result: labelfix.CleanResult
    features: np.ndarray
    true: np.ndarray
    rows: np.ndarray
    accuracy: np.ndarray
    matrices: np.ndarray


def simulate(
    folder: Path,
    features: np.ndarray,
    true: np.ndarray,
    *,
    seed: int,
    per_image: int = 1,
    num_annotators: int = 20,
    trusted_share: float = 0.1,
) -> Crowd:
    """Annotators of accuracies .55 to .98, each good at some classes and with favourite mistakes; then clean."""
    rng = np.random.default_rng(seed)
    num_classes = int(true.max()) + 1
    level = rng.permutation(np.linspace(0.55, 0.98, num_annotators))
    hits = np.clip(level[:, None] + rng.normal(0, 0.06, (num_annotators, num_classes)), 0.2, 0.995)
    matrices = np.zeros((num_annotators, num_classes, num_classes))
    for k in range(num_classes):
        elsewhere = rng.dirichlet(np.full(num_classes - 1, 0.4), num_annotators)
        matrices[:, k, np.arange(num_classes) != k] = (1 - hits[:, k, None]) * elsewhere
        matrices[:, k, k] = hits[:, k]
    who = np.argsort(rng.random((len(true), num_annotators)), axis=1)[:, :per_image]
    image = np.repeat(np.arange(len(true)), per_image)
    cumulated = matrices[who.reshape(-1), true[image]].cumsum(1)
    label = (cumulated < rng.random((len(image), 1))).sum(1).clip(max=num_classes - 1)
    rows = np.stack([image, who.reshape(-1), label], axis=1)
    trusted = rng.permutation(len(true))[: round(trusted_share * len(true))]
    names = np.array([f"i{n:05d}" for n in range(len(true))])
    folder.mkdir(parents=True, exist_ok=True)
    matrix = folder / "features.parquet"
    pd.DataFrame({"image": names, "features": list(features.astype(np.float32))}).to_parquet(matrix)
    labels = pd.DataFrame(
        {"image": names[image], "label": label, "annotator": [f"a{a:02d}" for a in rows[:, 1]]}
    )
    result = labelfix.clean(
        matrix,
        labels,
        pd.DataFrame({"image": names[trusted], "label": true[trusted]}) if len(trusted) else None,
        folder / "out",
        kind="features",
        classes=[str(k) for k in range(num_classes)],
        seed=seed,
    )
    share = np.bincount(true, minlength=num_classes) / len(true)
    return Crowd(
        result=result,
        features=features,
        true=true,
        rows=rows,
        accuracy=np.einsum("k,akk->a", share, matrices),
        matrices=matrices,
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64) and classes of scikit-learn's scanned digits."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.data, data.target


def majority(rows: np.ndarray, num_images: int, num_classes: int) -> np.ndarray:
    """Return the most frequent label (N,) of every image, the first class at a tie."""
    votes = np.zeros((num_images, num_classes))
    np.add.at(votes, (rows[:, 0], rows[:, 2]), 1)
    return votes.argmax(1)
