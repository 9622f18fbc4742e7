"""The interface of the methods: their inputs, and what each has to implement.

The loop of `labelfix.benchmark.runs` shuffles the rows, sets the learning rate, augments the images and measures. A
method implements the step on a batch; one that differs in its loss alone overrides `LossMethod.loss`.

Shape suffixes: N training rows, B rows of a batch, M trusted rows, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = [
    "Batch",
    "LossMethod",
    "Method",
    "Settings",
    "Task",
    "first_epoch_of",
    "logits_at",
    "look_ahead",
    "network_logits",
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The inputs of every method.

    Attributes
    ----------
    network
        Builds a new network; equal numbers give equal initial weights.
    optimizer
        Builds the optimizer of some parameters.
    labels
        (N,) int64 noisy labels, on the device.
    num_classes, epochs
        K, and how many epochs the loop runs.
    noise_ratio
        Share of wrong labels, for the methods whose papers take it as known.
    trusted_labels
        (M,) int64 verified labels, on the device.
    trusted_images
        Returns the images of some trusted rows, (m,) to (m, C, S, S), augmented as training images are.
    plain_trusted_images
        The same without augmentation.
    generator
        Source of the method's random choices, on the CPU.
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
        rows_M = torch.randperm(len(self.trusted_labels), generator=self.generator)[:count]
        return self.trusted_images(rows_M), self.trusted_labels[rows_M.to(self.trusted_labels.device)]


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
        The inputs.
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
        """The optimizers whose learning rate the loop sets."""
        return [self.optimizer]

    def schedule_position(self, epoch: int) -> float:
        """Return the position in the learning-rate schedule, from 0 (its start) to below 1."""
        return epoch / self.task.epochs

    def rate_factor(self, epoch: int) -> float:
        """Return the factor on the learning rate of the schedule."""
        return 1.0

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0."""
        self.model.train()

    @abstractmethod
    def step(self, batch: Batch) -> Tensor:
        """Train on one batch; return its loss (), detached."""

    def end_epoch(self, epoch: int) -> None:  # noqa: B027
        """Run after an epoch; does nothing by default."""

    def predictor(self) -> nn.Module:
        """Return the network to test."""
        return self.model

    def current_labels(self) -> Tensor:
        """Return the labels (N,) that the method trains on now."""
        return self.task.labels

    # ------------------------------------------------------------------------------------------ for subclasses

    def forward(self, images: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return logits (B, K) in float32 or wider, computed in the task's number format."""
        return network_logits(model or self.model, images, self.task.autocast_dtype)

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer | None = None) -> Tensor:
        """Take one step of the optimizer on `loss`, and return it detached."""
        optimizer = optimizer or self.optimizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def restart(self, number: int) -> None:
        """Start again with a new network and without momentum."""
        self.model = self.task.network(number).train()
        self.optimizer = self.task.optimizer(self.model.parameters())


class LossMethod(Method):
    """A method that is defined by its loss."""

    def step(self, batch: Batch) -> Tensor:
        """Descend the loss of the batch."""
        return self.descend(self.loss(self.forward(batch.images), batch.labels))

    @abstractmethod
    def loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the loss (), averaged over the batch."""


def first_epoch_of(share: float, epochs: int) -> int:
    """Return the epoch, counted from 0, in which a phase begins after a share of all epochs.

    At least one epoch comes before it, so that short runs have all phases.
    """
    return max(1, round(share * epochs))


def network_logits(
    network: Callable[[Tensor], Tensor], images: Tensor, autocast_dtype: torch.dtype | None
) -> Tensor:
    """Return logits (B, K) in float32 or wider, computed in a number format (None: that of the network)."""
    with torch.autocast(images.device.type, autocast_dtype, enabled=autocast_dtype is not None):
        logits_BK = network(images)
    return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))


def look_ahead(
    loss: Tensor, parameters: dict[str, Tensor], rate: float, *, retain_graph: bool = False
) -> dict[str, Tensor]:
    """Return the parameters after a plain gradient step on `loss`, as new leaves; nothing else changes."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=retain_graph)
    return {
        name: (value - rate * gradient).detach().requires_grad_()
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
    }


def logits_at(
    model: nn.Module, parameters: dict[str, Tensor], images: Tensor, autocast_dtype: torch.dtype | None
) -> Tensor:
    """Return `network_logits` of a model with other parameters; its own parameters and buffers stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = {**parameters, **buffers}
    return network_logits(lambda inputs: functional_call(model, state, (inputs,)), images, autocast_dtype)
