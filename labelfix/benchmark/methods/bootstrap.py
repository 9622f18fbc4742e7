"""Soft bootstrapping: the target is a mixture of the label and the network's own prediction.

    L = -sum_k (beta * y_k + (1 - beta) * p_k) log p_k,    averaged over the batch,

with y the one-hot label. The gradient goes through both p, so this is cross-entropy with a penalty on entropy.

Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop, arXiv
1412.6596, equation 6. Default beta = .95, theirs for soft bootstrapping.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import LossMethod, Settings

__all__ = ["Bootstrap", "BootstrapSettings", "soft_bootstrap"]


@dataclass(frozen=True, kw_only=True)
class BootstrapSettings(Settings):
    """Weight of the given label, 0 to 1."""

    beta: float = 0.95


def soft_bootstrap(logits_BK: Tensor, labels_B: Tensor, *, beta: float) -> Tensor:
    """Return the loss (), of logits (B, K) and labels (B,)."""
    log_p_BK = logits_BK.log_softmax(-1)
    entropy_B = -(log_p_BK.exp() * log_p_BK).sum(-1)
    return beta * F.nll_loss(log_p_BK, labels_B) + (1.0 - beta) * entropy_B.mean()


class Bootstrap(LossMethod):
    """Cross-entropy and minimum entropy."""

    Settings = BootstrapSettings

    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Apply `soft_bootstrap` with the settings."""
        return soft_bootstrap(logits_BK, labels_B, beta=self.settings.beta)
