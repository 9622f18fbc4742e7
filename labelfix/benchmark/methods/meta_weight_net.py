"""Meta-Weight-Net: a small network maps the loss of a row to its weight, and is trained on trusted rows.

V maps a loss to a weight in (0, 1): linear 1-100, ReLU, linear 100-1, sigmoid. Per batch

    theta_hat = theta - alpha * grad_theta mean_i V(L_i) L_i(theta)          alpha the learning rate
    V        <- Adam step on cross-entropy of theta_hat on trusted rows
    theta    <- optimizer step on sum_i V(L_i) L_i / sum_i V(L_i)            with the new V

The gradient of the trusted loss with respect to the weight w_i is -(alpha / B) d L_i(theta) . v with v the gradient
of the trusted loss at theta_hat. Forward mode computes it as the derivative of the losses along v, without second
derivatives.

Shu et al., "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", NeurIPS 2019, arXiv 1902.07379,
algorithm 1. Defaults are those of the authors' code: Adam with rate 1e-3 and weight decay 1e-4 for V, and 100 rows
in a trusted batch.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from labelfix.benchmark.methods.base import Batch, Method, Settings, Task, logits_at, look_ahead

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

    The model stays as it is.
    """
    theta = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}

    def losses(parameters: dict[str, Tensor]) -> Tensor:
        logits_BK = logits_at(model, parameters, images, autocast_dtype)
        return F.cross_entropy(logits_BK, labels_B, reduction="none")

    theta_hat = look_ahead((weights_B.detach() * losses(theta)).mean(), theta, alpha)
    trusted_logits_MK = logits_at(model, theta_hat, trusted_images, autocast_dtype)
    trusted_loss = F.cross_entropy(trusted_logits_MK, trusted_labels_M)
    v = dict(zip(theta_hat, torch.autograd.grad(trusted_loss, list(theta_hat.values())), strict=True))
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),  # fused attention has no forward mode
        warnings.catch_warnings(),
        forward_ad.dual_level(),
    ):
        # torch warns about its own use of torch.jit when it loads the rules of forward mode
        warnings.filterwarnings("ignore", message=".*torch.jit")
        duals = {name: forward_ad.make_dual(value.detach(), v[name]) for name, value in theta.items()}
        along_B = forward_ad.unpack_dual(losses(duals)).tangent
    return -alpha / len(labels_B) * along_B


class MetaWeightNet(Method):
    """A network, and a second one that weights its training rows."""

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
            weights_B = self.weigher(losses_B1).squeeze(1)
        return self.descend((weights_B * losses_B).sum() / weights_B.sum().clamp_min(1e-12))
