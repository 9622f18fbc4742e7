"""Joint optimisation: the network's averaged predictions replace the labels during training.

    L = KL(s || p) + alpha * L_p + beta * L_e,
    L_p = sum_k prior_k log(prior_k / mean_i p_ik),    L_e = mean_i entropy(p_i)

s starts as the one-hot label. After `relabel_share` of the epochs, every epoch sets s to the mean of the last
`averaged_epochs` predictions of each row, made during training. After `retrain_share`, a new network is trained on
fixed labels without regularisers. The learning rate is constant until then.

Tanaka et al., "Joint Optimization Framework for Learning with Noisy Labels", CVPR 2018, arXiv 1803.11364, sections
3 and 4. Defaults are theirs for symmetric noise on CIFAR-10: alpha 1.2, beta .8, 10 epochs averaged, labels from
epoch 70 of 200 and 120 more for the new network, as shares of the whole. The prior is the share of each class among
the trusted rows (one is added to each count); the paper takes it as known.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, first_epoch_of

__all__ = ["JointOptimization", "JointSettings", "joint_loss"]


@dataclass(frozen=True, kw_only=True)
class JointSettings(Settings):
    """Weights of the regularisers, epochs averaged, and the starts of the phases."""

    alpha: float = 1.2
    beta: float = 0.8
    averaged_epochs: int = 10
    relabel_share: float = 70 / 320
    retrain_share: float = 200 / 320


def joint_loss(logits_BK: Tensor, soft_BK: Tensor, prior_K: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return the loss (), of logits and soft labels (B, K) and the shares of the classes (K,)."""
    log_p_BK = logits_BK.log_softmax(-1)
    p_BK = log_p_BK.exp()
    divergence = F.kl_div(log_p_BK, soft_BK, reduction="batchmean")
    balance = (prior_K * (prior_K / p_BK.mean(0)).log()).sum()
    entropy = -(p_BK * log_p_BK).sum(-1).mean()
    return divergence + alpha * balance + beta * entropy


class JointOptimization(Method):
    """Updates labels and network in turn, then trains a new network on the labels."""

    Settings = JointSettings

    def __init__(self, task: Task, settings: JointSettings):
        super().__init__(task, settings)
        self.relabel = first_epoch_of(settings.relabel_share, task.epochs)
        self.retrain = max(self.relabel + 1, first_epoch_of(settings.retrain_share, task.epochs))
        self.soft_NK = F.one_hot(task.labels, task.num_classes).float()
        counts_K = torch.bincount(task.trusted_labels, minlength=task.num_classes) + 1.0
        self.prior_K = counts_K / counts_K.sum()
        self.predictions: list[Tensor] = []

    def schedule_position(self, epoch: int) -> float:
        """Return 0 until the new network, which runs the whole schedule."""
        return max(0.0, (epoch - self.retrain) / max(1, self.task.epochs - self.retrain))

    def start_epoch(self, epoch: int) -> None:
        """Start the new network in its epoch; before, prepare to store the predictions of this epoch."""
        if epoch == self.retrain:
            self.restart(1)
        if epoch < self.retrain:
            self.predictions = self.predictions[-(self.settings.averaged_epochs - 1) :]
            self.predictions.append(torch.zeros_like(self.soft_NK))
        super().start_epoch(epoch)

    def step(self, batch: Batch) -> Tensor:
        """Descend the loss on the current labels."""
        logits_BK = self.forward(batch.images)
        soft_BK = self.soft_NK[batch.rows]
        if batch.epoch >= self.retrain:
            return self.descend(F.kl_div(logits_BK.log_softmax(-1), soft_BK, reduction="batchmean"))
        self.predictions[-1][batch.rows] = logits_BK.detach().softmax(-1)
        s = self.settings
        return self.descend(joint_loss(logits_BK, soft_BK, self.prior_K, alpha=s.alpha, beta=s.beta))

    def end_epoch(self, epoch: int) -> None:
        """Replace the labels by averaged predictions, in the phase that does so."""
        if self.relabel <= epoch + 1 <= self.retrain:
            self.soft_NK = torch.stack(self.predictions).mean(0)
        if epoch + 1 == self.retrain:
            self.predictions = []

    def current_labels(self) -> Tensor:
        """Return the most probable classes."""
        return self.soft_NK.argmax(1)
