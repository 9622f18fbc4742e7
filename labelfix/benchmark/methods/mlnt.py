"""MLNT: a step on synthetic noise must not change what the network predicts.

Per batch, M times: `perturbed_share` of the rows get the label of a random one among their 10 nearest neighbours in
the batch, giving labels Y_m, and

    theta_m = theta - alpha * grad_theta CE(X, Y_m),    J_m = mean_i KL(p_i(teacher) || p_i(theta_m)).

The network steps on CE(X, Y) + weight * mean_m J_m; the second derivative in J_m is dropped, as in the authors'
code. The teacher is an average of the network, ``teacher <- gamma * teacher + (1 - gamma) * theta`` after every
step, and is tested.

Li et al., "Learning to Learn from Noisy Labeled Data", CVPR 2019, arXiv 1812.05214, section 3 and algorithm 1.
Defaults are theirs: M = 10, half the batch perturbed (64 of 128), alpha .2, gamma .99, 10 neighbours. Neighbours
are by the logits. One iteration of training; the paper repeats it with the former teacher as mentor.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, logits_at, look_ahead

__all__ = ["MLNT", "MLNTSettings", "neighbour_labels", "update_average"]


@dataclass(frozen=True, kw_only=True)
class MLNTSettings(Settings):
    """Synthetic label sets per step, share perturbed, inner step, memory of the teacher, weight of consistency."""

    synthetic_sets: int = 10
    perturbed_share: float = 0.5
    alpha: float = 0.2
    gamma: float = 0.99
    weight: float = 1.0
    neighbours: int = 10


def neighbour_labels(
    features_BD: Tensor, labels_B: Tensor, *, share: float, neighbours: int, generator: torch.Generator
) -> Tensor:
    """Return labels (B,) where a random share of the rows has the label of a near neighbour, another row."""
    num_rows = len(labels_B)
    chosen = torch.randperm(num_rows, generator=generator)[: int(share * num_rows)].to(labels_B.device)
    distances = torch.cdist(features_BD[chosen], features_BD)
    distances[torch.arange(len(chosen), device=labels_B.device), chosen] = torch.inf
    near = distances.topk(min(neighbours, num_rows - 1), largest=False).indices
    picks = torch.randint(near.shape[1], (len(chosen), 1), generator=generator).to(labels_B.device)
    changed_B = labels_B.clone()
    changed_B[chosen] = labels_B[near.gather(1, picks).squeeze(1)]
    return changed_B


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, gamma: float) -> None:
    """Update parameters and float buffers of `average`: average <- gamma * average + (1 - gamma) * model."""
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.mul_(gamma).add_(new, alpha=1.0 - gamma)
        else:
            old.copy_(new)


class MLNT(Method):
    """A network that agrees with its average after steps on synthetic noise."""

    Settings = MLNTSettings

    def __init__(self, task: Task, settings: MLNTSettings):
        super().__init__(task, settings)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)

    def start_epoch(self, epoch: int) -> None:
        """Put both networks into training mode: the teacher also normalises by the statistics of the batch."""
        self.model.train()
        self.teacher.train()

    def step(self, batch: Batch) -> Tensor:
        """Step on the given labels and on consistency, then move the teacher."""
        s = self.settings
        logits_BK = self.forward(batch.images)
        with torch.no_grad():
            buffers = [buffer.clone() for buffer in self.teacher.buffers()]
            teacher_BK = self.forward(batch.images, self.teacher).softmax(-1)
            for buffer, value in zip(self.teacher.buffers(), buffers, strict=True):
                buffer.copy_(value)  # update_average alone changes the teacher's statistics
        loss = F.cross_entropy(logits_BK, batch.labels)
        self.optimizer.zero_grad()
        loss.backward(retain_graph=s.synthetic_sets > 0)
        consistency = torch.zeros_like(loss)
        for _ in range(s.synthetic_sets):
            labels_B = neighbour_labels(
                logits_BK.detach(),
                batch.labels,
                share=s.perturbed_share,
                neighbours=s.neighbours,
                generator=self.task.generator,
            )
            consistency += self._add_consistency(batch.images, logits_BK, labels_B, teacher_BK)
        self.optimizer.step()
        update_average(self.teacher, self.model, s.gamma)
        return (loss + consistency).detach()

    def predictor(self) -> nn.Module:
        """Return the teacher."""
        return self.teacher

    def _add_consistency(
        self, images: Tensor, logits_BK: Tensor, labels_B: Tensor, teacher_BK: Tensor
    ) -> Tensor:
        """Add the gradient of one J_m to that of the network, and return its share of the loss."""
        s = self.settings
        theta: dict[str, Tensor] = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        theta_m = look_ahead(F.cross_entropy(logits_BK, labels_B), theta, s.alpha, retain_graph=True)
        moved_BK = logits_at(self.model, theta_m, images, self.task.autocast_dtype)
        divergence = F.kl_div(moved_BK.log_softmax(-1), teacher_BK, reduction="batchmean")
        part = s.weight / s.synthetic_sets * divergence
        gradients = torch.autograd.grad(part, list(theta_m.values()))
        for p, gradient in zip(theta.values(), gradients, strict=True):
            assert p.grad is not None
            p.grad += gradient
        return part.detach()
