"""Symmetric cross-entropy: cross-entropy in both directions, of labels and predictions.

    L = a * CE + b * RCE,    CE = -log p_label,    RCE = -sum_k p_k log y_k,    log 0 := A

with y the one-hot label, so that RCE = -A (1 - p_label). Averaged over the batch.

Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019, arXiv 1908.06112,
equations 4, 5 and 7. Defaults: a = .1 and b = 1, theirs for CIFAR-10; A = -4.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import LossMethod, Settings

__all__ = ["SymmetricCE", "SymmetricSettings", "symmetric_cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class SymmetricSettings(Settings):
    """Weights of the two terms, and the value of log 0."""

    a: float = 0.1
    b: float = 1.0
    log_zero: float = -4.0


def symmetric_cross_entropy(
    logits_BK: Tensor, labels_B: Tensor, *, a: float, b: float, log_zero: float
) -> Tensor:
    """Return the loss (), of logits (B, K) and labels (B,)."""
    log_p_B = logits_BK.log_softmax(-1).gather(1, labels_B.unsqueeze(1)).squeeze(1)
    reverse_B = -log_zero * (1.0 - log_p_B.exp())
    return a * F.cross_entropy(logits_BK, labels_B) + b * reverse_B.mean()


class SymmetricCE(LossMethod):
    """Cross-entropy in both directions."""

    Settings = SymmetricSettings

    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Apply `symmetric_cross_entropy` with the settings."""
        s = self.settings
        return symmetric_cross_entropy(logits_BK, labels_B, a=s.a, b=s.b, log_zero=s.log_zero)
