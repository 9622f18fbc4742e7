"""MSLG on linear heads: what a row's probabilities have not seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_self_training import altered, planted

from labelfix.settings import HeadConfig
from labelfix.system.progress import SilentProgress
from labelfix.training.linear_head import LabelledFeatures, _Heads

CONFIG = HeadConfig(epochs=6, warmup_epochs=2, batch_size=64, trusted_batch_size=32)


def out_of_fold(data: LabelledFeatures, fold: np.ndarray) -> np.ndarray:
    heads = _Heads(data, fold, CONFIG, torch.device("cpu"))
    heads.train(0, SilentProgress())
    return heads.out_of_fold_probs()


@pytest.mark.parametrize("kind", ["trusted", "given"])
def test_no_label_reaches_its_own_fold(kind: str) -> None:
    data, fold, _ = planted()
    mine = fold == 2
    known = data.trusted[: len(fold)] >= 0
    other = (
        altered(data, np.flatnonzero(mine & known))
        if kind == "trusted"
        else replace(data, given=np.where(mine, (data.given + 1) % 3, data.given))
    )
    before, after = out_of_fold(data, fold), out_of_fold(other, fold)
    np.testing.assert_allclose(before[mine], after[mine], atol=1e-6)
    assert np.abs(before[~mine] - after[~mine]).max() > 0.01
