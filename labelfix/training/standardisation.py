"""Features of one scale and one length, as linear heads and regressions take them.

P rows, B rows of a chunk, D features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Standardisation"]


STANDARD_CHUNK = 8192


# Length of every feature vector. The bias is a further feature of constant 1: at this length it has 1/17 of a
# row's squared length, so that neither the look-ahead nor the meta-gradient is mostly about class frequencies.
FEATURE_LENGTH = 4.0


@dataclass(frozen=True)
class Standardisation:
    """Features of zero mean and unit variance, each row then scaled to one length.

    Where no feature is ever negative, as in averages of rectified activations, square roots are taken first: their
    variance grows with their mean, and few large values would decide (Perronnin et al. 2010, "Improving the Fisher
    kernel for large-scale image classification").

    Attributes
    ----------
    mean, scale
        (D,) float32: mean and reciprocal standard deviation of every feature.
    roots
        Whether square roots are taken first.
    """

    mean: Tensor
    scale: Tensor
    roots: bool

    @classmethod
    def fit(cls, features: Tensor, device: torch.device) -> "Standardisation":
        """Measure features (P, D), in chunks, for rows on `device`."""
        roots = all(bool((chunk >= 0).all()) for chunk in features.split(STANDARD_CHUNK))
        total_D = torch.zeros(features.shape[1], dtype=torch.float64)
        squares_D = torch.zeros_like(total_D)
        for chunk in features.split(STANDARD_CHUNK):
            values = chunk.double().sqrt() if roots else chunk.double()
            total_D += values.sum(0)
            squares_D += values.square().sum(0)
        mean_D = total_D / len(features)
        variance_D = (squares_D / len(features) - mean_D.square()).clamp(min=0)
        scale_D = torch.where(variance_D > 1e-12, variance_D, 1.0).rsqrt()  # a constant feature says nothing
        return cls(mean_D.float().to(device), scale_D.float().to(device), roots)

    def __call__(self, features: Tensor) -> Tensor:
        """Return rows (B, D) of the features as inputs (B, D) float32 of length `FEATURE_LENGTH`."""
        values = features.to(self.mean.device, torch.float32)
        values = ((values.sqrt() if self.roots else values) - self.mean) * self.scale
        return FEATURE_LENGTH * F.normalize(values, dim=1)
