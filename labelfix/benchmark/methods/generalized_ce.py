"""Generalised cross-entropy: between cross-entropy (q -> 0) and mean absolute error (q = 1).

    L = (1 - p_label^q) / q,    averaged over the batch.

Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018,
arXiv 1805.07836, equation 6. Default q = .7, theirs. Not truncated (their equation 8 is another method).
"""

from dataclasses import dataclass

from torch import Tensor

from labelfix.benchmark.methods.base import LossMethod, Settings

__all__ = ["GeneralizedCE", "GeneralizedSettings", "generalized_cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class GeneralizedSettings(Settings):
    """The exponent q, above 0 and up to 1."""

    q: float = 0.7


def generalized_cross_entropy(logits_BK: Tensor, labels_B: Tensor, *, q: float) -> Tensor:
    """Return the loss (), of logits (B, K) and labels (B,)."""
    log_p_B = logits_BK.log_softmax(-1).gather(1, labels_B.unsqueeze(1)).squeeze(1)
    return ((1.0 - (q * log_p_B).exp()) / q).mean()


class GeneralizedCE(LossMethod):
    """The negative Box-Cox transform of the probability of the label."""

    Settings = GeneralizedSettings

    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Apply `generalized_cross_entropy` with the settings."""
        return generalized_cross_entropy(logits_BK, labels_B, q=self.settings.q)
