"""Cross-entropy on the noisy labels, as they are: ``L = -log p_label``, averaged over the batch.

No hyper-parameters.
"""

import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import LossMethod

__all__ = ["CrossEntropy"]


class CrossEntropy(LossMethod):
    """The baseline of all comparisons."""

    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the mean of -log p_label."""
        return F.cross_entropy(logits_BK, labels_B)
