"""Forward correction: the network predicts true classes, and the transition matrix maps these to noisy labels.

    L = -log sum_k p_k T[k, label],    T[i, j] = P(label j | true class i),    averaged over the batch.

A first network is trained with cross-entropy and gives T; a new network is then trained with the loss above.
Estimates of T:

    trusted    row i is the mean prediction on the trusted rows of class i (Hendrycks et al., NeurIPS 2018,
               arXiv 1802.05300, equation 2), the row of identity where there are none
    anchors    row i is the prediction on the training row that is most probably of class i, leaving out the highest
               3 % as outliers (Patrini et al., equation 13)

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017, arXiv
1609.03944, theorem 2. The paper trains both networks for the same number of epochs; here the first one takes
`first_share` of all epochs, so that no method trains longer than another.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, first_epoch_of

__all__ = [
    "Estimate",
    "Forward",
    "ForwardSettings",
    "anchor_transition",
    "forward_loss",
    "trusted_transition",
]

CHUNK = 512


class Estimate(StrEnum):
    """The source of the transition matrix."""

    TRUSTED = "trusted"
    ANCHORS = "anchors"


@dataclass(frozen=True, kw_only=True)
class ForwardSettings(Settings):
    """Estimate of T, share of the epochs for the first network, quantile of the anchors."""

    estimate: Estimate = Estimate.TRUSTED
    first_share: float = 0.25
    anchor_quantile: float = 0.97

    def __post_init__(self) -> None:
        object.__setattr__(self, "estimate", Estimate(self.estimate))


def forward_loss(logits_BK: Tensor, labels_B: Tensor, transition_KK: Tensor) -> Tensor:
    """Return the loss (), of logits (B, K), labels (B,) and T (K, K) with rows that sum to 1."""
    noisy_BK = logits_BK.softmax(-1) @ transition_KK
    return F.nll_loss(noisy_BK.clamp_min(1e-12).log(), labels_B)


def trusted_transition(probs_MK: Tensor, trusted_M: Tensor) -> Tensor:
    """Return T (K, K): the mean prediction on the trusted rows of every class."""
    members_KM = F.one_hot(trusted_M, probs_MK.shape[1]).to(probs_MK.dtype).T
    counts_K1 = members_KM.sum(1, keepdim=True)
    identity_KK = torch.eye(probs_MK.shape[1], dtype=probs_MK.dtype, device=probs_MK.device)
    return torch.where(counts_K1 > 0, members_KM @ probs_MK / counts_K1.clamp_min(1), identity_KK)


def anchor_transition(probs_NK: Tensor, quantile: float) -> Tensor:
    """Return T (K, K): row i is the prediction on the row whose probability of class i is at the quantile."""
    order_NK = probs_NK.argsort(dim=0)
    rank = min(len(probs_NK) - 1, int(quantile * len(probs_NK)))
    return probs_NK[order_NK[rank]]


class Forward(Method):
    """Two trainings, the second one with forward correction."""

    Settings = ForwardSettings

    def __init__(self, task: Task, settings: ForwardSettings):
        super().__init__(task, settings)
        self.second = first_epoch_of(settings.first_share, task.epochs)
        self.transition_KK: Tensor | None = None
        self.probs_NK = torch.zeros(len(task.labels), task.num_classes, device=task.labels.device)

    def schedule_position(self, epoch: int) -> float:
        """Return the position in the schedule, which both trainings run from its start to its end."""
        if epoch < self.second:
            return epoch / self.second
        return (epoch - self.second) / (self.task.epochs - self.second)

    def start_epoch(self, epoch: int) -> None:
        """Estimate T and start the second training when the first one is over."""
        if epoch == self.second:
            self.transition_KK = self._estimate()
            self.restart(0)
        super().start_epoch(epoch)

    def step(self, batch: Batch) -> Tensor:
        """Descend cross-entropy in the first training, the corrected loss in the second."""
        logits_BK = self.forward(batch.images)
        if self.transition_KK is not None:
            return self.descend(forward_loss(logits_BK, batch.labels, self.transition_KK))
        self.probs_NK[batch.rows] = logits_BK.detach().softmax(-1).float()
        return self.descend(F.cross_entropy(logits_BK, batch.labels))

    def _estimate(self) -> Tensor:
        if self.settings.estimate is Estimate.ANCHORS or not len(self.task.trusted_labels):
            return anchor_transition(self.probs_NK, self.settings.anchor_quantile)
        self.model.eval()
        chunks = torch.arange(len(self.task.trusted_labels)).split(CHUNK)
        with torch.no_grad():
            probs_MK = torch.cat(
                [self.forward(self.task.plain_trusted_images(rows)).softmax(-1) for rows in chunks]
            )
        return trusted_transition(probs_MK, self.task.trusted_labels)
