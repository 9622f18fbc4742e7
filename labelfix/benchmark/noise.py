"""Planted label noise of several kinds, and its measured properties.

Every function takes true labels (N,) int64 of K classes and a share of rows, gives exactly ``round(ratio * N)``
rows another class, and returns a `PlantedNoise` with the achieved share and transition matrix. Numpy, no torch.

N rows, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from labelfix.errors import SettingError

__all__ = [
    "NOISES",
    "PlantedNoise",
    "Ties",
    "feature_dependent_noise",
    "pair_noise",
    "pairs_to_next",
    "uniform_noise",
]


class Ties(StrEnum):
    """Which of the classes with equal scores counts as the best.

    ``random``: each with equal probability, by the seed. ``last``: the one with the highest number, as in the last
    entry of an ascending sort; where scores are saturated, most of the noise then goes to one class.
    """

    RANDOM = "random"
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class PlantedNoise:
    """Noisy labels and their measured noise.

    Attributes
    ----------
    labels
        (N,) int64 noisy labels.
    ratio
        Achieved share of rows whose label is wrong.
    transition
        (K, K) shares P(noisy label | true label); the row of a class that does not occur is that of the identity.
    tied_rows
        Rows whose score equals the lowest one of the flipped rows, where only some of them are flipped; 0 without
        such a tie.
    tied_classes
        Flipped rows in which another class has exactly the score of the new class.
    """

    labels: np.ndarray
    ratio: float
    transition: np.ndarray = field(repr=False)
    tied_rows: int = 0
    tied_classes: int = 0

    @classmethod
    def measure(
        cls,
        true: np.ndarray,
        noisy: np.ndarray,
        num_classes: int,
        *,
        tied_rows: int = 0,
        tied_classes: int = 0,
    ) -> "PlantedNoise":
        """Compare noisy with true labels, (N,) each."""
        counts = np.zeros((num_classes, num_classes))
        np.add.at(counts, (true, noisy), 1)
        counts += np.diag(counts.sum(1) == 0)
        return cls(
            labels=noisy,
            ratio=float((true != noisy).mean()),
            transition=counts / counts.sum(1, keepdims=True),
            tied_rows=tied_rows,
            tied_classes=tied_classes,
        )


def uniform_noise(labels: np.ndarray, ratio: float, *, num_classes: int, seed: int) -> PlantedNoise:
    """Give a random share of the rows one of the other classes, each with equal probability.

    Raises
    ------
    SettingError
        A ratio outside [0, 1], or fewer than two classes.
    """
    chosen, rng = _random_rows(len(labels), ratio, num_classes, seed)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, num_classes, len(chosen))) % num_classes
    return PlantedNoise.measure(labels, noisy, num_classes)


def pairs_to_next(num_classes: int) -> np.ndarray:
    """Return (K,) partners: every class is mistaken for the next one, the last for the first."""
    return (np.arange(num_classes) + 1) % num_classes


def pair_noise(
    labels: np.ndarray,
    ratio: float,
    *,
    num_classes: int,
    seed: int,
    partners: Sequence[int] | np.ndarray | None = None,
) -> PlantedNoise:
    """Give a random share of the rows the partner of their class: noise that depends on the class alone.

    Parameters
    ----------
    partners
        (K,) class that each class is mistaken for, `pairs_to_next` by default. A class that is its own partner
        stays clean; the share is then of the rows of the other classes.

    Raises
    ------
    SettingError
        A ratio outside [0, 1], fewer than two classes, or partners that are not K classes.
    """
    partner_K = pairs_to_next(num_classes) if partners is None else np.asarray(partners)
    if partner_K.shape != (num_classes,) or partner_K.min() < 0 or partner_K.max() >= num_classes:
        raise SettingError(
            f"partners: got {partner_K.tolist()}; expected one class from 0 to {num_classes - 1} for each of the "
            f"{num_classes} classes."
        )
    eligible = np.flatnonzero(partner_K[labels] != labels)
    chosen, _ = _random_rows(len(eligible), ratio, num_classes, seed)
    noisy = labels.copy()
    noisy[eligible[chosen]] = partner_K[labels[eligible[chosen]]]
    return PlantedNoise.measure(labels, noisy, num_classes)


def feature_dependent_noise(
    labels: np.ndarray, ratio: float, *, scores: np.ndarray, seed: int, ties: Ties = Ties.RANDOM
) -> PlantedNoise:
    """Give a share of the rows the class that a classifier confuses them with.

    Rows whose top class under `scores` (N, K) is wrong get that class, the most confident first. If these are too
    few, the other rows with the largest second scores get their second class. Source: Algan & Ulusoy, "Label
    Noise Types and Their Effects on Deep Learning", arXiv 2003.10471, and the code of arXiv 2007.05836, where the
    sorting routine breaks ties. Here `seed` breaks ties among rows and `ties` those among the classes of a row;
    both are counted.

    Raises
    ------
    SettingError
        A ratio outside [0, 1], or scores of another shape or that are not finite.
    """
    if scores.ndim != 2 or len(scores) != len(labels) or scores.shape[1] < 2:
        raise SettingError(
            f"scores: shape {scores.shape}; expected one row of classes per label ({len(labels)})."
        )
    if not np.isfinite(scores).all():
        raise SettingError("scores: some are not finite numbers; expected scores of a classifier.")
    remaining = _num_noisy(len(labels), ratio)
    best, second = _two_best(scores, seed, Ties(ties))
    rows = np.arange(len(labels))
    priority = np.random.default_rng([seed, 2]).permutation(len(labels))
    noisy, tied_rows = labels.copy(), 0
    for candidates, target in ((rows[best != labels], best), (rows[best == labels], second)):
        flipped, tied = _highest(candidates, scores[candidates, target[candidates]], remaining, priority)
        noisy[flipped] = target[flipped]
        remaining, tied_rows = remaining - len(flipped), tied_rows + tied
    return PlantedNoise.measure(
        labels,
        noisy,
        scores.shape[1],
        tied_rows=tied_rows,
        tied_classes=_tied_classes(labels, noisy, scores),
    )


NOISES: dict[str, Callable[..., PlantedNoise]] = {
    "uniform": uniform_noise,
    "pair": pair_noise,
    "feature_dependent": feature_dependent_noise,
}
"""The planted kinds by name."""


def _num_noisy(rows: int, ratio: float) -> int:
    if not 0 <= ratio <= 1:
        raise SettingError(f"ratio: got {ratio}; expected a share from 0 to 1.")
    return round(ratio * rows)


def _random_rows(
    rows: int, ratio: float, num_classes: int, seed: int
) -> tuple[np.ndarray, np.random.Generator]:
    if num_classes < 2:
        raise SettingError(
            f"num_classes: got {num_classes}; expected at least 2, as labels must become wrong."
        )
    rng = np.random.default_rng(seed)
    return rng.permutation(rows)[: _num_noisy(rows, ratio)], rng


def _two_best(scores: np.ndarray, seed: int, ties: Ties) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes (N,) of the largest and of the second largest score."""
    if ties is Ties.RANDOM:
        order = np.random.default_rng([seed, 1]).random(scores.shape)
    else:
        order = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    ranked = np.lexsort((order, scores), axis=1)
    return ranked[:, -1], ranked[:, -2]


def _highest(
    rows: np.ndarray, values: np.ndarray, count: int, priority: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the rows of the `count` largest values, and the number of rows that tie with the next one."""
    if count <= 0 or not len(rows):
        return rows[:0], 0
    order = np.lexsort((priority[rows], values))[::-1]
    if count >= len(rows):
        return rows, 0
    last, next_ = values[order[count - 1]], values[order[count]]
    return rows[order[:count]], int((values == last).sum()) if last == next_ else 0


def _tied_classes(labels: np.ndarray, noisy: np.ndarray, scores: np.ndarray) -> int:
    """Count the flipped rows where a class other than the true one has exactly the score of the new one."""
    flipped = np.flatnonzero(noisy != labels)
    rival = scores[flipped] == scores[flipped, noisy[flipped]][:, None]
    rival[np.arange(len(flipped)), noisy[flipped]] = False
    rival[np.arange(len(flipped)), labels[flipped]] = False
    return int(rival.any(1).sum())
