"""MSLG: label logits move down the gradient of the loss on trusted rows, after a look-ahead step.

After a warm-up with cross-entropy, every step is `labelfix.mslg.mslg_step`, whose module has the equations.

Algan & Ulusoy, "Meta Soft Label Generation for Noisy Labels", ICPR 2020, arXiv 2007.05836, section III. Defaults
are the authors' for CIFAR-10: alpha .5, beta 4000, gamma 1, labels start at 10 times one-hot, warm-up 44 of 120
epochs, means over batch and classes; trusted batches as large as the others.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, first_epoch_of
from labelfix.mslg import Schedule, mslg_step, trusted_rows_per_step
from labelfix.settings import Reduction

__all__ = ["MSLG", "MSLGSettings"]

WARMUP_SHARE = 44 / 120


@dataclass(frozen=True, kw_only=True)
class MSLGSettings(Settings):
    """See `labelfix.mslg.mslg_step`; `warmup_epochs` None takes the authors' share of the epochs."""

    alpha: float = 0.5
    beta: float = 4000.0
    gamma: float = 1.0
    init_scale: float = 10.0
    warmup_epochs: int | None = None
    trusted_batch_size: int = 128
    reduction: Reduction = Reduction.MEAN
    schedule: Schedule = Schedule.EXACT

    def __post_init__(self) -> None:
        object.__setattr__(self, "reduction", Reduction(self.reduction))
        object.__setattr__(self, "schedule", Schedule(self.schedule))


class MSLG(Method):
    """MSLG of this library, in the loop of the other methods."""

    Settings = MSLGSettings

    def __init__(self, task: Task, settings: MSLGSettings):
        super().__init__(task, settings)
        warmup = settings.warmup_epochs
        self.warmup = first_epoch_of(WARMUP_SHARE, task.epochs) if warmup is None else warmup
        self.label_logits_NK = settings.init_scale * F.one_hot(task.labels, task.num_classes).float()

    def step(self, batch: Batch) -> Tensor:
        """Descend cross-entropy during the warm-up, then take a step of MSLG."""
        if batch.epoch < self.warmup:
            return self.descend(F.cross_entropy(self.forward(batch.images), batch.labels))
        s = self.settings
        epoch = batch.epoch - self.warmup
        count = trusted_rows_per_step(s.schedule, epoch, s.trusted_batch_size)
        trusted_images, trusted_labels_M = self.task.draw_trusted(count)
        result = mslg_step(
            self.model,
            self.optimizer,
            batch.images,
            self.label_logits_NK[batch.rows],
            trusted_images,
            trusted_labels_M,
            alpha=s.alpha,
            beta=s.beta,
            gamma=s.gamma,
            reduction=s.reduction,
            schedule=s.schedule,
            epoch=epoch,
            autocast_dtype=self.task.autocast_dtype,
        )
        self.label_logits_NK[batch.rows] = result.label_logits
        return result.train_loss

    def current_labels(self) -> Tensor:
        """Return the most probable classes."""
        return self.label_logits_NK.argmax(1)
