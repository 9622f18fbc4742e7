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


def test_labels_move_towards_the_truth() -> None:
    """Down the gradient of the meta-loss: wrong labels lose to the true class, and right ones keep the lead."""
    data, fold, true = planted(rows=900, trusted=300)
    config = HeadConfig(epochs=8, warmup_epochs=2, batch_size=64, trusted_batch_size=128)
    heads = _Heads(data, fold, config, torch.device("cpu"))
    before = heads.label_logits_FNK.clone()
    heads.train(0, SilentProgress())
    rows = np.arange(len(fold))
    lead = (heads.label_logits_FNK - before).numpy().sum(0)
    towards = lead[rows, true[: len(fold)]] - lead[rows, data.given]
    wrong = data.given != true[: len(fold)]
    assert np.median(towards[wrong]) > 0
    assert (towards[wrong] > 0).mean() > 0.7
