"""Regressions on the trusted rows alone: whose label each of them has not seen."""

import numpy as np
import pytest
import torch
from test_self_training import CPU, altered, planted

from labelfix.cross_fitting.probes import Probes
from labelfix.cross_fitting.softmax_regression import Design
from labelfix.training.linear_head import LabelledFeatures

FOLDS = 5


def probes_of(data: LabelledFeatures, fold: np.ndarray) -> Probes:
    every = np.append(fold, np.full(len(data.trusted) - len(fold), -1))
    return Probes(Design(data.features, 256, CPU), data, torch.from_numpy(every.astype(np.int64)), FOLDS)


def nested(data: LabelledFeatures, fold: np.ndarray, left_out: int) -> np.ndarray:
    rows = np.flatnonzero(data.trusted[: len(fold)] >= 0)
    probs = np.full((len(fold), data.num_classes), np.nan)
    probs[rows] = probes_of(data, fold).nested(left_out, rows, fold[rows])
    return probs


@pytest.mark.parametrize(("left_out", "own"), [(0, 3), (3, 0), (2, 2)])
def test_a_nested_probe_sees_neither_the_fold_left_out_nor_that_of_the_row(left_out: int, own: int) -> None:
    data, fold, _ = planted(extra=20)
    known = data.trusted[: len(fold)] >= 0
    before = nested(data, fold, left_out)
    for hidden in {left_out, own}:
        after = nested(altered(data, np.flatnonzero(known & (fold == hidden))), fold, left_out)
        rows = known & (fold == own)
        np.testing.assert_allclose(after[rows], before[rows], atol=1e-6)
    other = next(f for f in range(FOLDS) if f not in (left_out, own))
    after = nested(altered(data, np.flatnonzero(known & (fold == other))), fold, left_out)
    assert np.nanmax(np.abs(after - before)[known & (fold == own)]) > 0.05


def test_extra_trusted_rows_teach_every_probe() -> None:
    data, fold, _ = planted(extra=20)
    before, after = (
        probes_of(one, fold).weight_WDK
        for one in (data, altered(data, np.arange(len(fold), len(data.trusted))))
    )
    assert (torch.abs(after - before).flatten(1).max(1).values > 1e-3).all()
