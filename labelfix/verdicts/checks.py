"""Checks of the arguments of `labelfix.verdict`: a message names the argument, its value and what was expected.

N rows, K classes, M trusted rows.
"""

from typing import Any

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs.answers import CANNOT_TELL, UNDECIDED
from labelfix.inputs.design_weights import RANDOM_SAMPLE
from labelfix.inputs.random_draw import RandomDraw

__all__ = [
    "check_draw",
    "check_groups",
    "check_known",
    "check_labels",
    "check_probs",
    "check_trusted",
    "check_weights",
]

ROWS_PER_CHUNK = 65536


def check_labels(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return given labels (N,) int64, checked against the shape of `probs`."""
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise InputError(f"probs: has shape {probs.shape}; expected (N, K) with at least two classes.")
    if labels.shape != probs.shape[:1]:
        raise InputError(f"labels: has shape {labels.shape}; expected ({len(probs)},), one per row of probs.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels: are of type {labels.dtype}; expected integers from 0 to {probs.shape[1] - 1}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= probs.shape[1]))
    if len(wrong):
        raise InputError(
            [
                f"labels, row {i + 1}: got {labels[i]}; expected 0 to {probs.shape[1] - 1}."
                for i in wrong[:10]
            ],
            len(wrong),
        )
    return labels.astype(np.int64)


def check_probs(name: str, probs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return probabilities (N, K), checked to be of `shape` and to sum to 1."""
    probs = np.asarray(probs)
    if probs.shape != shape:
        raise InputError(f"{name}: has shape {probs.shape}; expected {shape}, as probs has.")
    for start in range(0, len(probs), ROWS_PER_CHUNK):
        chunk = probs[start : start + ROWS_PER_CHUNK]
        totals = chunk.sum(1, dtype=np.float64)
        wrong = np.flatnonzero(~(np.abs(totals - 1) < 1e-2) | ~(chunk.min(1) >= 0))
        if len(wrong):
            raise InputError(
                [
                    f"{name}, row {start + i + 1}: sums to {totals[i]:g}, least value {chunk[i].min():g}; expected "
                    "probabilities that sum to 1. Apply a softmax to logits first."
                    for i in wrong[:10]
                ],
                len(wrong),
            )
    return probs


def check_trusted(
    rows: np.ndarray, labels: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return trusted rows and labels, both (M,)."""
    rows, labels = np.asarray(rows, np.int64).reshape(-1), np.asarray(labels, np.int64).reshape(-1)
    if len(rows) != len(labels):
        raise InputError(
            f"trusted_labels: {len(labels)} labels for {len(rows)} trusted rows; expected one each."
        )
    if len(np.unique(rows)) != len(rows):
        raise InputError("trusted_rows: a row is named twice; expected every row once.")
    for name, values, limit in (("trusted_rows", rows, shape[0]), ("trusted_labels", labels, shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise InputError(
                f"{name}: values from {values.min()} to {values.max()}; expected 0 to {limit - 1}."
            )
    return rows, labels


def check_weights(weights: Any, samples: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and sample of each trusted row, both (M,)."""
    count = len(rows)
    if weights is None:
        if samples is not None:
            raise InputError("trusted_samples: came without trusted_weights; expected both, or none of them.")
        return np.ones(count), np.full(count, RANDOM_SAMPLE)
    weight = _array("trusted_weights", weights)
    if (
        weight.shape != (count,)
        or weight.dtype.kind not in "iuf"
        or not (np.isfinite(weight) & (weight > 0)).all()
    ):
        raise InputError(
            f"trusted_weights: shape {weight.shape}, type {weight.dtype}, for {count} trusted rows; expected one "
            "finite number above 0 each. Leave them out for a random sample."
        )
    sample = np.full(count, RANDOM_SAMPLE + 1) if samples is None else _array("trusted_samples", samples)
    if sample.shape != (count,) or not np.issubdtype(sample.dtype, np.integer):
        raise InputError(
            f"trusted_samples: shape {sample.shape}, type {sample.dtype}, for {count} trusted rows; expected "
            "one integer each. Leave them out where all come from one draw."
        )
    random_weight = weight[sample == RANDOM_SAMPLE]
    if len(random_weight) and np.ptp(random_weight) > 0:
        raise InputError(
            f"trusted_samples: draw {RANDOM_SAMPLE} is a simple random sample, but its weights run from "
            f"{random_weight.min():g} to {random_weight.max():g}. Number draws that go by weights from "
            f"{RANDOM_SAMPLE + 1} on."
        )
    return weight.astype(np.float64), sample


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: is no array ({error}); expected one.") from None


def check_draw(draw: RandomDraw, shape: tuple[int, ...]) -> RandomDraw:
    """Return a random draw, its rows and classes checked against the shape of the probabilities."""
    rows, true = np.asarray(draw.rows), np.asarray(draw.true)
    if len(true) > len(rows) or len(np.unique(rows)) != len(rows):
        raise InputError(
            f"trusted_draw: {len(true)} classes for {len(rows)} rows; expected every row once, and no more classes."
        )
    for what, values, least, limit in (("rows", rows, 0, shape[0]), ("true", true, CANNOT_TELL, shape[1])):
        if len(values) and not (values.min() >= least and values.max() < limit and UNDECIDED not in values):
            raise InputError(
                f"trusted_draw: {what} from {values.min()} to {values.max()}; expected 0 to {limit - 1}."
            )
    return draw


def check_groups(name: str, groups: np.ndarray | None, count: int) -> np.ndarray | None:
    """Return numbers of groups or strata, (N,) int64."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (count,) or not np.issubdtype(groups.dtype, np.integer):
        raise InputError(f"{name}: shape {groups.shape}, type {groups.dtype}; expected ({count},) integers.")
    if count and not (groups.min() >= 0 and groups.max() < count):
        raise InputError(f"{name}: values from {groups.min()} to {groups.max()}; expected 0 to {count - 1}.")
    return groups.astype(np.int64)


def check_known(
    known: np.ndarray | None, samples: np.ndarray | None, trusted_rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that were verified but took part in training, and the draw of each, both (X,)."""
    known = np.asarray([] if known is None else known, np.int64).reshape(-1)
    if len(known) and not (known.min() >= 0 and known.max() < count):
        raise InputError(
            f"known_rows: values from {known.min()} to {known.max()}; expected 0 to {count - 1}."
        )
    if np.isin(known, trusted_rows).any():
        raise InputError("known_rows: a row is among the trusted rows too; expected it in one of the two.")
    sample = np.full(len(known), RANDOM_SAMPLE) if samples is None else np.asarray(samples).reshape(-1)
    if len(sample) != len(known) or not np.issubdtype(sample.dtype, np.integer):
        raise InputError(
            f"known_samples: {len(sample)} values of type {sample.dtype} for {len(known)} known rows; expected one "
            "integer each."
        )
    return known, sample
