"""From stored pixels to the network's input, on the device, in whole batches.

B images per batch of S x S pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from labelfix.settings import Augment

__all__ = ["Augmentation"]


class Augmentation:
    """Turns uint8 pixels into normalised floats on the device; every image is shifted and flipped by itself.

    Random numbers are drawn from torch's CPU generator, the same on every device.

    Parameters
    ----------
    kind
        What is done to training images.
    mean, std
        Per channel, in units of 1 = white.
    """

    def __init__(
        self, kind: Augment, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
    ):
        self.kind = kind
        self.mean = torch.tensor(mean, device=device).mul(255).view(-1, 1, 1)
        self.std = torch.tensor(std, device=device).mul(255).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return (B, 3, S, S) float32, augmented, for (B, 3, S, S) uint8."""
        if self.kind is not Augment.NONE:
            pixels = _shifted(pixels, max(1, pixels.shape[-1] // 8))
        if self.kind is Augment.CROP_FLIP:
            flipped = (torch.rand(len(pixels)) < 0.5).to(pixels.device).view(-1, 1, 1, 1)
            pixels = torch.where(flipped, v2.horizontal_flip(pixels), pixels)
        return self.plain(pixels)

    def plain(self, pixels: Tensor) -> Tensor:
        """Return (B, 3, S, S) float32 without augmentation."""
        images = (pixels.to(torch.float32) - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)


def _shifted(pixels: Tensor, most: int) -> Tensor:
    """Shift every image by up to `most` pixels in both directions; what enters is black (as in the paper)."""
    size, side = len(pixels), pixels.shape[-1]
    padded = v2.pad(pixels, [most])
    offsets = torch.randint(0, 2 * most + 1, (2, size, 1)).to(pixels.device)
    across = torch.arange(side, device=pixels.device)
    rows, columns = offsets[0] + across, offsets[1] + across  # (B, S) each
    images = torch.arange(size, device=pixels.device).view(-1, 1, 1)
    # advanced indices around the channels put them last: (B, S, S, 3)
    return padded[images, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
