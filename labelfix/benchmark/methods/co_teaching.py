"""Co-teaching: two networks, each trained on the rows on which the other has a small loss.

Per batch both networks rank its rows by cross-entropy. The share R(T) with the smallest loss under network 1 trains
network 2, and the other way round:

    R(T) = 1 - min(T / T_k * tau, tau),    T the epoch counted from 0, tau the noise rate.

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018, arXiv
1804.06872, algorithm 1. Defaults are theirs: T_k = 10 epochs, tau the noise rate that was planted. Network 1 is
tested.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task
from labelfix.errors import SettingError

__all__ = ["CoTeaching", "CoTeachingSettings", "keep_rate", "small_loss_rows"]


@dataclass(frozen=True, kw_only=True)
class CoTeachingSettings(Settings):
    """Epochs until the keep rate reaches its minimum, and the share to drop (None: the noise rate)."""

    ramp_epochs: int = 10
    forget_rate: float | None = None


def keep_rate(epoch: int, *, ramp_epochs: int, forget_rate: float) -> float:
    """Return R(T) for an epoch counted from 0."""
    return 1.0 - min(epoch / ramp_epochs * forget_rate, forget_rate)


def small_loss_rows(losses_B: Tensor, rate: float) -> Tensor:
    """Return the row numbers of the share `rate` with the smallest losses, at least one."""
    return losses_B.topk(max(1, math.floor(rate * len(losses_B))), largest=False).indices


class CoTeaching(Method):
    """Two networks that choose each other's rows."""

    Settings = CoTeachingSettings

    def __init__(self, task: Task, settings: CoTeachingSettings):
        super().__init__(task, settings)
        self.peer = task.network(1)
        self.peer_optimizer = task.optimizer(self.peer.parameters())
        self.forget_rate = task.noise_ratio if settings.forget_rate is None else settings.forget_rate
        if math.isnan(self.forget_rate):
            raise SettingError(
                "co_teaching.forget_rate: not given, and the noise rate of these labels is not known; expected a "
                "share from 0 to 1. Give --option co_teaching.forget_rate=…"
            )

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of both networks."""
        return [self.optimizer, self.peer_optimizer]

    def start_epoch(self, epoch: int) -> None:
        """Put both networks into training mode."""
        self.model.train()
        self.peer.train()

    def step(self, batch: Batch) -> Tensor:
        """Exchange the rows of small loss, and step both networks."""
        rate = keep_rate(batch.epoch, ramp_epochs=self.settings.ramp_epochs, forget_rate=self.forget_rate)
        losses_B = F.cross_entropy(self.forward(batch.images), batch.labels, reduction="none")
        peer_losses_B = F.cross_entropy(self.forward(batch.images, self.peer), batch.labels, reduction="none")
        for_peer = small_loss_rows(losses_B.detach(), rate)
        for_model = small_loss_rows(peer_losses_B.detach(), rate)
        self.descend(peer_losses_B[for_peer].mean(), self.peer_optimizer)
        return self.descend(losses_B[for_model].mean())
