"""What decides what a network becomes, and how it is asked.

B rows of a chunk, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelfix.images.augmentation import Augmentation
from labelfix.images.pixel_store import PixelStore
from labelfix.settings import FullConfig, HeadConfig
from labelfix.training.data_split import DataSplit

__all__ = ["NetworkTask", "logits_of", "predict"]


@dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """Everything besides the initial weights that decides what a network becomes.

    Attributes
    ----------
    pixels, split, num_images, num_classes
        The images, what each is for, P and K.
    augmentation
        From stored pixels to the network's input.
    loop, full
        Settings.
    seed, fold
        Of every random choice.
    device
        Where the network is.
    autocast_dtype
        Number format of the forward passes, None for float32.
    """

    pixels: PixelStore
    split: DataSplit
    num_images: int
    num_classes: int
    augmentation: Augmentation
    loop: HeadConfig
    full: FullConfig
    seed: int
    fold: int
    device: torch.device
    autocast_dtype: torch.dtype | None = None


def predict(model: nn.Module, task: NetworkTask, chunks: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Yield probabilities (B, K) float32 for each chunk (B,) of image numbers, in evaluation mode."""
    model.eval()
    for pixels in task.pixels.batches(chunks):
        with torch.inference_mode():
            yield logits_of(model, task.augmentation.plain(pixels), task.autocast_dtype).softmax(-1)


def logits_of(model: nn.Module, images: Tensor, autocast_dtype: torch.dtype | None) -> Tensor:
    """Return logits (B, K) float32, with the forward pass in a number format, None for the model's own."""
    with torch.autocast(images.device.type, autocast_dtype, enabled=autocast_dtype is not None):
        return model(images).float()
