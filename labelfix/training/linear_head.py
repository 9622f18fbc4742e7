"""MSLG on a linear head over frozen features, cross-fitted: all folds train together as one batched product.

Head f trains on the rows outside fold f with their given labels, and its meta-loss sees the trusted labels of rows
outside fold f. So its probabilities for the rows of fold f use neither the given nor the trusted label of the row.
The final label logits are not used as evidence: where a row's label trained they stay close to the given one, and
held-out likelihood gained nothing from them.

Shape suffixes: N rows with a given label, E extra trusted rows, B rows of the batch, M trusted rows of a
step, K classes, D features, F folds.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.errors import TrainingError
from labelfix.mslg import head_label_gradient, head_logits, head_slopes, head_training_gradient
from labelfix.settings import HeadConfig, LearningRateSchedule
from labelfix.system.progress import Progress
from labelfix.training.learning_rate import learning_rate
from labelfix.training.standardisation import Standardisation

__all__ = ["LabelledFeatures", "cross_fit_head"]

ROWS_PER_CHUNK = 8192


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """Features with what is known of their labels: what heads and classifiers learn from.

    Attributes
    ----------
    features
        (N + E, D) float16 or float32: the rows with a given label, then the extra trusted rows.
    given
        (N,) given labels.
    trusted
        (N + E,) trusted labels, -1 where there is none.
    hashes
        (N + E,) from `labelfix.system.folds.hash_keys`; they decide folds and order.
    num_classes
        K.
    trusted_count
        (N,) what the trusted rows among them count for (`labelfix.inputs.design_weights.row_counts`); None says 1
        each.
    """

    features: np.ndarray
    given: np.ndarray
    trusted: np.ndarray
    hashes: np.ndarray
    num_classes: int
    trusted_count: np.ndarray | None = None

    def in_hash_order(self) -> tuple["LabelledFeatures", np.ndarray]:
        """Return the rows in the order of their hashes, and the (N,) order of those with a given label.

        From there on their order in the table plays no part. Extra trusted rows stay behind the others.
        """
        num_given = len(self.given)
        order_N = np.argsort(self.hashes[:num_given], kind="stable")
        order = np.concatenate([order_N, num_given + np.argsort(self.hashes[num_given:], kind="stable")])
        ordered = LabelledFeatures(
            features=self.features[order],
            given=self.given[order_N],
            trusted=self.trusted[order],
            hashes=self.hashes[order],
            num_classes=self.num_classes,
            trusted_count=None if self.trusted_count is None else self.trusted_count[order_N],
        )
        return ordered, order_N


def cross_fit_head(
    data: LabelledFeatures,
    fold: np.ndarray,
    config: HeadConfig,
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Train one head per fold with MSLG and return their out-of-fold probabilities (N, K) float32.

    Parameters
    ----------
    fold
        (N,) the fold of each row, from 0 to `config.folds` - 1.

    Raises
    ------
    TrainingError
        When the label logits or the weights stop being finite.
    """
    ordered, order_N = data.in_hash_order()
    heads = _Heads(ordered, fold[order_N], config, device)
    heads.train(seed, progress)
    probs_NK = np.empty((len(order_N), data.num_classes), np.float32)
    probs_NK[order_N] = heads.out_of_fold_probs()
    return probs_NK


class _Heads:
    """F linear heads in training: weight (F, D, K), bias (F, K), their momenta and label logits (F, N, K)."""

    def __init__(self, data: LabelledFeatures, fold_N: np.ndarray, config: HeadConfig, device: torch.device):
        self.config = config
        self.device = device
        self.num_classes = data.num_classes
        self.features = torch.from_numpy(np.ascontiguousarray(data.features))
        self.standardised = Standardisation.fit(self.features, device)
        self.given_N = torch.from_numpy(data.given.astype(np.int64)).to(device)
        folds_F1 = torch.arange(config.folds, device=device).unsqueeze(1)
        self.in_fold_FN = (torch.from_numpy(fold_N).to(device) != folds_F1).float()  # 1 where the row trains
        rows = np.flatnonzero(data.trusted >= 0)
        self.trusted_rows_M = torch.from_numpy(rows)
        self.trusted_M = torch.from_numpy(data.trusted[rows].astype(np.int64)).to(device)
        fold_M = np.append(fold_N, -1)[np.minimum(rows, len(fold_N))]  # extra trusted rows have no fold
        self.trusted_in_FM = (torch.from_numpy(fold_M).to(device) != folds_F1).float()
        shape = (config.folds, self.features.shape[1], data.num_classes)
        self.weight_FDK = torch.zeros(shape, device=device)
        self.bias_FK = torch.zeros(shape[0], shape[2], device=device)
        self.momentum_FDK, self.momentum_FK = (
            torch.zeros_like(self.weight_FDK),
            torch.zeros_like(self.bias_FK),
        )
        one_hot_NK = F.one_hot(self.given_N, data.num_classes).float()
        self.label_logits_FNK = (config.init_scale * one_hot_NK).repeat(config.folds, 1, 1)

    def inputs(self, rows: Tensor) -> Tensor:
        """Standardised features of `rows`, (B, D), scaled to one length."""
        return self.standardised(self.features[rows])

    # ------------------------------------------------------------------------------------------- training

    def train(self, seed: int, progress: Progress) -> None:
        """Warm-up on the given labels, then MSLG; without trusted rows, the warm-up alone."""
        config = self.config
        epochs = config.epochs if len(self.trusted_M) else config.warmup_epochs
        generator = torch.Generator().manual_seed(seed)
        steps = epochs * math.ceil(len(self.given_N) / config.batch_size)
        step = 0
        with progress.stage("Training heads", epochs, "epochs") as advance:
            for epoch in range(epochs):
                for batch in torch.randperm(len(self.given_N), generator=generator).split(config.batch_size):
                    rate = learning_rate(step, steps, config.learning_rate, LearningRateSchedule.COSINE)
                    features_BD = self.inputs(batch)
                    if epoch >= config.warmup_epochs:
                        self.move_labels(batch, features_BD, generator)
                    warm_up = epoch < config.warmup_epochs
                    self.move_heads(batch, features_BD, rate, warm_up=warm_up)
                    step += 1
                self.check_finite(epoch)
                advance(1)

    def move_labels(self, batch: Tensor, features_BD: Tensor, generator: torch.Generator) -> None:
        """One step of the label logits of the batch, in every fold that trains on them."""
        config = self.config
        count = min(config.trusted_batch_size, len(self.trusted_M))
        chosen = torch.randperm(len(self.trusted_M), generator=generator)[:count]
        gradient_FBK = head_label_gradient(
            self.weight_FDK,
            self.bias_FK,
            features_BD,
            self.label_logits_FNK[:, batch],
            self.inputs(self.trusted_rows_M[chosen]),
            self.trusted_M[chosen],
            alpha=config.alpha,
            reduction=config.reduction,
            trusted_weights=self.trusted_in_FM[:, chosen],
            row_weights=self.in_fold_FN[:, batch],
        )
        self.label_logits_FNK[:, batch] -= config.beta * gradient_FBK

    def move_heads(self, batch: Tensor, features_BD: Tensor, learning_rate: float, *, warm_up: bool) -> None:
        """One step of every head on the batch: cross-entropy to the given labels, or MSLG's loss."""
        config = self.config
        logits_FBK = head_logits(self.weight_FDK, self.bias_FK, features_BD)
        weights_FB = self.in_fold_FN[:, batch]
        if warm_up:
            error_FBK = logits_FBK.softmax(-1) - F.one_hot(self.given_N[batch], self.num_classes)
            slope_FBK = error_FBK * (weights_FB / weights_FB.sum(1, keepdim=True).clamp(min=1)).unsqueeze(-1)
        else:
            slope_FBK = head_training_gradient(
                logits_FBK,
                self.label_logits_FNK[:, batch],
                gamma=config.gamma,
                reduction=config.reduction,
                row_weights=weights_FB,
            )
        slope_FDK, slope_FK = head_slopes(features_BD, slope_FBK)
        self.momentum_FDK.mul_(config.momentum).add_(slope_FDK + config.weight_decay * self.weight_FDK)
        self.momentum_FK.mul_(config.momentum).add_(slope_FK)
        self.weight_FDK -= learning_rate * self.momentum_FDK
        self.bias_FK -= learning_rate * self.momentum_FK

    def check_finite(self, epoch: int) -> None:
        """Stop where a number ran away."""
        if not (torch.isfinite(self.weight_FDK).all() and torch.isfinite(self.label_logits_FNK).all()):
            raise TrainingError(
                f"training the heads, epoch {epoch + 1}: weights or label logits are not finite numbers. "
                "Lower --beta, --alpha or --learning-rate."
            )

    # -------------------------------------------------------------------------------------------- results

    def out_of_fold_probs(self) -> np.ndarray:
        """Probabilities (N, K) of every row under the head whose fold it is in."""
        chunks = []
        for rows in torch.arange(len(self.given_N)).split(ROWS_PER_CHUNK):
            fold_B = self.in_fold_FN[:, rows].argmin(0)  # the one fold in which the row does not train
            features_BD = self.inputs(rows)
            logits_BK = features_BD.new_empty(len(rows), self.num_classes)
            for fold in range(self.config.folds):
                here = fold_B == fold
                logits_BK[here] = torch.addmm(self.bias_FK[fold], features_BD[here], self.weight_FDK[fold])
            chunks.append(logits_BK.softmax(-1).cpu())
        return torch.cat(chunks).numpy()
