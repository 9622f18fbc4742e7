"""What every method is given, and what it has to answer.

The loop of `labelfix.benchmark.runs` shuffles the rows, sets the learning rate, augments the images and measures; a
method is what happens on a batch. One that only has another loss overrides `LossMethod.loss`.

Shape suffixes: N training rows, B rows of a batch, M trusted rows, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = ["Batch", "LossMethod", "Method", "Settings", "Task", "first_epoch_of"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all methods are given alike.

    Attributes
    ----------
    network
        Builds the network anew, with the same initial weights every time it is called with the same number.
    optimizer
        Builds the optimizer of some parameters.
    labels
        (N,) int64 noisy labels, on the device.
    num_classes, epochs
        K, and how many epochs the loop runs.
    noise_ratio
        Share of wrong labels, for the methods whose papers take it as known.
    trusted_labels
        (M,) int64 labels that were verified, on the device.
    trusted_images
        Images of the trusted rows in some places, augmented as training images are: (m,) to (m, C, S, S).
    plain_trusted_images
        The same without augmentation.
    generator
        Source of a method's own random choices, on the CPU.
    autocast_dtype
        Number format of the forward passes, None for float32.
    """

    network: Callable[[int], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    labels: Tensor
    num_classes: int
    epochs: int
    noise_ratio: float
    trusted_labels: Tensor
    trusted_images: Callable[[Tensor], Tensor]
    plain_trusted_images: Callable[[Tensor], Tensor]
    generator: torch.Generator
    autocast_dtype: torch.dtype | None = None

    def draw_trusted(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of `count` random trusted rows, or of all where there are fewer."""
        places = torch.randperm(len(self.trusted_labels), generator=self.generator)[:count]
        return self.trusted_images(places), self.trusted_labels[places.to(self.trusted_labels.device)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch: row numbers (B,), augmented images (B, C, S, S), noisy labels (B,), on the device."""

    rows: Tensor
    images: Tensor
    labels: Tensor
    epoch: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters of a method."""


class Method(ABC):
    """A network that learns from noisy labels.

    Parameters
    ----------
    task
        See there.
    settings
        An instance of the class's `Settings`.
    """

    Settings: ClassVar[type] = Settings

    def __init__(self, task: Task, settings: Any):
        self.task = task
        self.settings = settings
        self.model = task.network(0)
        self.optimizer = task.optimizer(self.model.parameters())

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Those whose learning rate the loop sets."""
        return [self.optimizer]

    def schedule_position(self, epoch: int) -> float:
        """Return where the learning-rate schedule is in an epoch, from 0 (its start) up to below 1."""
        return epoch / self.task.epochs

    def rate_factor(self, epoch: int) -> float:
        """Return by what the learning rate of the schedule is multiplied in an epoch."""
        return 1.0

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0."""
        self.model.train()

    @abstractmethod
    def step(self, batch: Batch) -> Tensor:
        """Learn from one batch; return the loss () that was stepped on, detached."""

    def end_epoch(self, epoch: int) -> None:  # noqa: B027
        """Do what happens between epochs; nothing by default."""

    def predictor(self) -> nn.Module:
        """Return the network that is tested."""
        return self.model

    def current_labels(self) -> Tensor:
        """Return the labels (N,) that the method trains on by now."""
        return self.task.labels

    # ------------------------------------------------------------------------------------------ for subclasses

    def forward(self, images: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return logits (B, K) in float32 or wider, computed in the task's number format."""
        dtype = self.task.autocast_dtype
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            logits_BK = (model or self.model)(images)
        return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer | None = None) -> Tensor:
        """Take one step of the optimizer on `loss`, and return it detached."""
        optimizer = optimizer or self.optimizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def restart(self, number: int) -> None:
        """Begin again with a new network and without momentum."""
        self.model = self.task.network(number).train()
        self.optimizer = self.task.optimizer(self.model.parameters())


class LossMethod(Method):
    """A method that is its loss."""

    def step(self, batch: Batch) -> Tensor:
        """Descend the loss of the batch."""
        return self.descend(self.loss(self.forward(batch.images), batch.labels))

    @abstractmethod
    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the loss (), averaged over the batch."""


def first_epoch_of(share: float, epochs: int) -> int:
    """Return the epoch, counted from 0, in which a phase begins that a paper begins after a share of its own.

    At least one epoch comes before it, so that short runs have all phases.
    """
    return max(1, round(share * epochs))
