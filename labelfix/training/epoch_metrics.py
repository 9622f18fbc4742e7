"""Metrics of an epoch of training, summed on the device, so that no step waits for it.

n images that train, K classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["EpochMetrics"]


@dataclass
class EpochMetrics:
    """Sums over the steps of one epoch.

    Attributes
    ----------
    sums
        (4,) float32: train loss x rows, rows, meta-loss, steps that had a meta-loss.
    bad_step
        () float32: the first step whose loss or labels were not finite numbers, -1 while there is none.
    labels_before
        (n,) int64: most probable class of every training image when the epoch began.
    """

    sums: Tensor
    bad_step: Tensor
    labels_before: Tensor

    @classmethod
    def start(cls, labels_before: Tensor) -> "EpochMetrics":
        """Return the metrics of no step."""
        device = labels_before.device
        return cls(torch.zeros(4, device=device), torch.full((), -1.0, device=device), labels_before)

    def add(
        self, step: int, train_loss: Tensor, *, rows: int, meta_loss: Tensor | None, labels: Tensor | None
    ) -> None:
        """Count a step, numbered from 0: losses (), its number of rows, its new label logits (B, K)."""
        self.sums[0] += train_loss * rows
        self.sums[1] += rows
        if meta_loss is not None:
            self.sums[2] += meta_loss
            self.sums[3] += 1
        finite = torch.isfinite(train_loss)
        if labels is not None:
            finite = finite & torch.isfinite(labels).all()
        self.bad_step = torch.where((self.bad_step < 0) & ~finite, step, self.bad_step)

    @property
    def losses(self) -> tuple[float, float]:
        """Mean train loss and mean meta-loss; NaN for the latter where no step had one."""
        total, rows, meta_total, meta_steps = self.sums.tolist()
        return total / rows, meta_total / meta_steps if meta_steps else float("nan")

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs; nothing is saved after a step that is not finite."""
        return {"sums": self.sums, "labels_before": self.labels_before}

    @classmethod
    def restore(cls, state: dict[str, Any], device: torch.device) -> "EpochMetrics":
        """Return the metrics that gave `state`."""
        metrics = cls.start(state["labels_before"].to(device))
        metrics.sums = state["sums"].to(device)
        return metrics
