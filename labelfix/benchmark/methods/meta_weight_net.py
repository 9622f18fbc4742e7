"""Meta-Weight-Net: a small network turns the loss of a row into its weight, and learns that from trusted rows.

V maps a loss to a weight in (0, 1): linear 1-100, ReLU, linear 100-1, sigmoid. Per batch

    theta_hat = theta - alpha * grad_theta mean_i V(L_i) L_i(theta)          alpha the learning rate
    V        <- Adam step on cross-entropy of theta_hat on trusted rows
    theta    <- optimizer step on sum_i V(L_i) L_i / sum_i V(L_i)            with the new V

The gradient of the trusted loss with respect to the weight w_i is -(alpha / B) d L_i(theta) . v with v the gradient
of the trusted loss at theta_hat: one derivative of the losses along v in forward mode, no graph of a graph.

Shu et al., "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", NeurIPS 2019, arXiv 1902.07379,
algorithm 1. Defaults are those of the authors' code: Adam with rate 1e-3 and weight decay 1e-4
for V; the trusted batch is as they have it, 100 rows.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task

__all__ = ["MetaWeightNet", "MetaWeightSettings", "weight_gradient", "weight_network"]

HIDDEN = 100


@dataclass(frozen=True, kw_only=True)
class MetaWeightSettings(Settings):
    """Adam's rate and decay for the weighting network, trusted rows per step."""

    weight_rate: float = 1e-3
    weight_decay: float = 1e-4
    trusted_batch_size: int = 100


def weight_network() -> nn.Sequential:
    """Build V, from losses (B, 1) to weights (B, 1)."""
    return nn.Sequential(nn.Linear(1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid())


def weight_gradient(
    model: nn.Module,
    images: Tensor,
    labels_B: Tensor,
    weights_B: Tensor,
    trusted_images: Tensor,
    trusted_labels_M: Tensor,
    *,
    alpha: float,
    autocast_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the gradient (B,) of the trusted loss after a weighted step, with respect to the weights (B,).

    Nothing of the model changes.
    """
    numbers = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def logits(values: dict[str, Tensor], inputs: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.autocast(inputs.device.type, autocast_dtype, enabled=autocast_dtype is not None):
            found = functional_call(model, {**values, **buffers}, (inputs,))
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def losses(values: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(logits(values, images), labels_B, reduction="none")

    here = {name: value.requires_grad_() for name, value in numbers.items()}
    slopes = torch.autograd.grad((weights_B.detach() * losses(here)).mean(), list(here.values()))
    ahead = {
        name: (value - alpha * slope).detach().requires_grad_()
        for (name, value), slope in zip(here.items(), slopes, strict=True)
    }
    trusted_loss = F.cross_entropy(logits(ahead, trusted_images), trusted_labels_M)
    v = dict(zip(ahead, torch.autograd.grad(trusted_loss, list(ahead.values())), strict=True))
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),  # fused attention has no forward mode
        warnings.catch_warnings(),
        forward_ad.dual_level(),
    ):
        # torch warns of its own use of torch.jit when it loads the rules of forward mode
        warnings.filterwarnings("ignore", message=".*torch.jit")
        duals = {name: forward_ad.make_dual(value.detach(), v[name]) for name, value in here.items()}
        along_B = forward_ad.unpack_dual(losses(duals)).tangent
    return -alpha / len(labels_B) * along_B


class MetaWeightNet(Method):
    """A network and the network that weighs its rows."""

    Settings = MetaWeightSettings

    def __init__(self, task: Task, settings: MetaWeightSettings):
        super().__init__(task, settings)
        with torch.random.fork_rng([]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=task.generator)))
            self.weigher = weight_network().to(task.labels.device)
        self.weigher_optimizer = torch.optim.Adam(
            self.weigher.parameters(), lr=settings.weight_rate, weight_decay=settings.weight_decay
        )

    def step(self, batch: Batch) -> Tensor:
        """Move the weighting network, then the network."""
        logits_BK = self.forward(batch.images)
        losses_B = F.cross_entropy(logits_BK, batch.labels, reduction="none")
        losses_B1 = losses_B.detach().unsqueeze(1)
        weights_B = self.weigher(losses_B1).squeeze(1)
        trusted_images, trusted_labels_M = self.task.draw_trusted(self.settings.trusted_batch_size)
        gradient_B = weight_gradient(
            self.model,
            batch.images,
            batch.labels,
            weights_B,
            trusted_images,
            trusted_labels_M,
            alpha=batch.learning_rate,
            autocast_dtype=self.task.autocast_dtype,
        )
        self.weigher_optimizer.zero_grad()
        weights_B.backward(gradient_B)
        self.weigher_optimizer.step()
        with torch.no_grad():
            new_B = self.weigher(losses_B1).squeeze(1)
        return self.descend((new_B * losses_B).sum() / new_B.sum().clamp_min(1e-12))
