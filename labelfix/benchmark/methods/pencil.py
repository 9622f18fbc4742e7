"""PENCIL: label distributions are parameters, and descend the gradient of the network's own loss.

Every row has label logits ytilde, initially K times the one-hot label, and y = softmax(ytilde).

    L = (1 / c) * KL(p || y) + alpha * L_o + (beta / c) * entropy(p),    L_o = -log y_label,    c classes,

all averaged over the batch. Three phases: cross-entropy on the given labels; L, with ytilde <- ytilde - lambda *
dL / dytilde after every step; (1 / c) KL(p || y) with the labels fixed. The learning rate is constant in the first
two; in the last it starts `fixed_rate_factor` times as high, and falls.

Yi & Wu, "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels", CVPR 2019, arXiv 1903.07788,
section 3. Defaults: phases at epochs 70 and 200 of 320 and K = 10, theirs; alpha .4, beta .1, lambda 600 and a
learning rate of .06, then .2, are those of the authors' published code (the paper has lambda by noise rate).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, first_epoch_of

__all__ = ["Pencil", "PencilSettings", "pencil_loss"]


@dataclass(frozen=True, kw_only=True)
class PencilSettings(Settings):
    """Weights of the losses, step and initial scale of the labels, starts of the phases, rate of the last one."""

    alpha: float = 0.4
    beta: float = 0.1
    label_rate: float = 600.0
    init_scale: float = 10.0
    relabel_share: float = 70 / 320
    fixed_share: float = 200 / 320
    fixed_rate_factor: float = 0.2 / 0.06


def pencil_loss(
    logits_BK: Tensor, label_logits_BK: Tensor, labels_B: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """Return the loss (), of logits and label logits (B, K) and given labels (B,)."""
    log_p_BK, log_y_BK = logits_BK.log_softmax(-1), label_logits_BK.log_softmax(-1)
    p_BK = log_p_BK.exp()
    classification = (p_BK * (log_p_BK - log_y_BK)).sum(-1).mean()
    entropy = -(p_BK * log_p_BK).sum(-1).mean()
    return (classification + beta * entropy) / logits_BK.shape[1] + alpha * F.nll_loss(log_y_BK, labels_B)


class Pencil(Method):
    """Three phases: cross-entropy, training of network and labels, training on fixed labels."""

    Settings = PencilSettings

    def __init__(self, task: Task, settings: PencilSettings):
        super().__init__(task, settings)
        self.relabel = first_epoch_of(settings.relabel_share, task.epochs)
        self.fixed = max(self.relabel + 1, first_epoch_of(settings.fixed_share, task.epochs))
        self.label_logits_NK = settings.init_scale * F.one_hot(task.labels, task.num_classes).float()

    def schedule_position(self, epoch: int) -> float:
        """Return 0 until the labels are fixed; the last phase runs the whole schedule."""
        return max(0.0, (epoch - self.fixed) / max(1, self.task.epochs - self.fixed))

    def rate_factor(self, epoch: int) -> float:
        """Return 1 until the labels are fixed, then `fixed_rate_factor`."""
        return self.settings.fixed_rate_factor if epoch >= self.fixed else 1.0

    def step(self, batch: Batch) -> Tensor:
        """Step the network, and in the second phase the labels."""
        logits_BK = self.forward(batch.images)
        if batch.epoch < self.relabel:
            return self.descend(F.cross_entropy(logits_BK, batch.labels))
        label_logits_BK = self.label_logits_NK[batch.rows]
        s = self.settings
        if batch.epoch >= self.fixed:
            return self.descend(pencil_loss(logits_BK, label_logits_BK, batch.labels, alpha=0.0, beta=0.0))
        label_logits_BK.requires_grad_()
        loss = self.descend(pencil_loss(logits_BK, label_logits_BK, batch.labels, alpha=s.alpha, beta=s.beta))
        assert label_logits_BK.grad is not None
        with torch.no_grad():
            self.label_logits_NK[batch.rows] = label_logits_BK - s.label_rate * label_logits_BK.grad
        return loss

    def current_labels(self) -> Tensor:
        """Return the most probable classes."""
        return self.label_logits_NK.argmax(1)
