"""The update of MSLG, and why its meta-gradient is one forward-mode pass.

Per row i there are label logits ytilde_i and a soft label y_i = softmax(ytilde_i). A step does

    L_c(theta, ytilde) = mean_i KL(f_theta(x_i) || y_i)
    theta_hat  = theta - alpha * grad_theta L_c                                  (look-ahead)
    ytilde    <- ytilde - beta * dL_meta / dytilde,    L_meta = cross-entropy of f_theta_hat, trusted rows
    theta     <- optimizer step on L_c(theta, ytilde_new) + gamma * mean_i entropy(f_theta(x_i))

The identity. ytilde reaches L_meta only through theta_hat. With v = grad L_meta at theta_hat,

    dL_meta / dytilde_i = -alpha * d/dytilde_i <v, grad_theta L_c>.

In L_c only the term -(1/B) sum_ik f_ik log y_ik holds ytilde, and log y_ik = ytilde_ik - logsumexp(ytilde_i).
As sum_k f_ik = 1 does not depend on theta, the logsumexp drops out of grad_theta, and

    <v, grad_theta L_c> = -(1/B) sum_ik ytilde_ik <v, grad_theta f_ik> + (terms without ytilde),
    dL_meta / dytilde_i = (alpha / B) * fdot_i,      fdot_ik = <v, grad_theta f_ik>.

fdot is the derivative of the softmax outputs along v: one forward-mode pass (JVP) instead of a graph of a
graph. It needs f to be differentiable once, so hardsigmoid and the like work, and f may be any joint function
of the batch, so batch norm in training mode is covered. ``reduction="mean"`` divides by K as well.

Source: Algan & Ulusoy, "Meta Soft Label Generation for Noisy Labels", ICPR 2020, arXiv 2007.05836, section
III; the identity is not in the paper.

Shape suffixes: B rows of the batch, M trusted rows, K classes.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelfix.errors import SettingError
from labelfix.mslg.forward_mode import unfused_attention
from labelfix.mslg.losses import through_softmax, training_loss
from labelfix.mslg.problem import Problem, gradient
from labelfix.settings import Schedule

__all__ = [
    "FAST_LABEL_INTERVAL",
    "FAST_TRUSTED_ROWS",
    "Schedule",
    "StepResult",
    "label_gradient",
    "mslg_step",
    "trusted_rows_per_step",
]

FAST_LABEL_INTERVAL = 2
"""`Schedule.FAST` moves the labels in every second epoch, so that all rows move equally often."""

FAST_TRUSTED_ROWS = 64
"""How many trusted rows a step of `Schedule.FAST` is worth giving; `trusted_rows_per_step` gives no more."""


@dataclass(frozen=True)
class StepResult:
    """What one `mslg_step` did; tensors are detached and stay on the device.

    Attributes
    ----------
    label_logits
        New label logits (B, K).
    train_loss
        Loss that the optimizer stepped on, measured before its step, ().
    meta_loss
        Cross-entropy on the trusted rows (), or None where the labels rested.
    """

    label_logits: Tensor
    train_loss: Tensor
    meta_loss: Tensor | None


# ----------------------------------------------------------------------------------------------- the update


def _update(
    batch: Problem,
    optimizer: torch.optim.Optimizer,
    fixed_B: Tensor | None,
    *,
    beta: float,
    gamma: float,
    gradient_of: "_GradientOf",
) -> StepResult:
    """Move the labels of the batch, then the weights; one pass over the batch serves both losses."""
    logits_BK = batch.batch_logits()
    gradient_BK, meta_loss = gradient_of(batch, logits_BK)
    if fixed_B is not None:
        gradient_BK = gradient_BK.masked_fill(fixed_B.unsqueeze(1), 0.0)
    label_logits_BK = batch.label_logits.detach() - beta * gradient_BK

    loss = training_loss(logits_BK, label_logits_BK, gamma=gamma, reduction=batch.reduction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return StepResult(label_logits_BK, loss.detach(), meta_loss)


def _exact(batch: Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Return dL_meta / dytilde (B, K) by the identity, and L_meta."""
    theta_hat = batch.look_ahead(logits_BK)
    meta_loss = batch.trusted_loss(theta_hat)
    v = gradient(meta_loss, theta_hat)
    fdot_BK = through_softmax(logits_BK.detach().softmax(-1), batch.tangent(v))
    return batch.scale * fdot_BK, meta_loss.detach()


def _fast(batch: Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`_exact` to first order in alpha: v at theta, and a one-sided difference in place of the derivative.

    As much larger as it is called less often. Where a difference would be lost in rounding, the derivative stays.
    """
    meta_loss = batch.trusted_loss(batch.weights)
    v = gradient(meta_loss, batch.weights)
    logits_BK = logits_BK.detach()
    tangent_BK = batch.difference(logits_BK, v) if batch.is_precise else batch.tangent(v)
    fdot_BK = through_softmax(logits_BK.softmax(-1), tangent_BK)
    return FAST_LABEL_INTERVAL * batch.scale * fdot_BK, meta_loss.detach()


def _reference(batch: Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`_exact` as the paper writes it: backward through the backward pass of the look-ahead."""
    try:
        meta_loss = batch.trusted_loss(batch.look_ahead(logits_BK, create_graph=True))
        (gradient_BK,) = torch.autograd.grad(meta_loss, batch.label_logits, retain_graph=True)
    except RuntimeError as fault:  # an operator without a second derivative, or a compiled model
        reason = str(fault).splitlines()[0]
        if "derivative for" not in reason and "double backward" not in reason:
            raise
        raise SettingError(
            f"schedule reference: the network has no double backward ({reason}). Use exact, which needs none."
        ) from fault
    return gradient_BK, meta_loss.detach()


def _at_rest(batch: Problem, logits_BK: Tensor) -> tuple[Tensor, None]:
    return torch.zeros_like(batch.label_logits), None


_GradientOf = Callable[[Problem, Tensor], tuple[Tensor, Tensor | None]]
_GRADIENTS: dict[Schedule, _GradientOf] = {
    Schedule.EXACT: _exact,
    Schedule.FAST: _fast,
    Schedule.REFERENCE: _reference,
}


def _labels_move(schedule: Schedule, epoch: int) -> bool:
    return schedule is not Schedule.FAST or epoch % FAST_LABEL_INTERVAL == 0


def trusted_rows_per_step(schedule: Schedule, epoch: int, at_most: int) -> int:
    """Return how many trusted rows to draw for each step of this epoch of MSLG: none where labels rest."""
    schedule = Schedule(schedule)
    if not _labels_move(schedule, epoch):
        return 0
    return min(at_most, FAST_TRUSTED_ROWS) if schedule is Schedule.FAST else at_most


# ------------------------------------------------------------------------------------------ what callers use


def mslg_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    label_logits: Tensor,
    trusted_images: Tensor,
    trusted_labels: Tensor,
    *,
    fixed: Tensor | None = None,
    alpha: float,
    beta: float,
    gamma: float = 1.0,
    reduction: str = "batchmean",
    schedule: Schedule = Schedule.EXACT,
    epoch: int = 0,
    autocast_dtype: torch.dtype | None = None,
) -> StepResult:
    """One step of MSLG: move the labels of the batch, then the weights of the model.

    The batch passes forward once; both backward passes (look-ahead, training) start from its logits, and
    only this pass moves running statistics. Trusted rows and derivatives see private copies of the buffers.

    Parameters
    ----------
    model
        Maps images to logits; its mode (train or eval) is kept. With `torch.compile`, the pass over the batch is
        compiled; ``exact`` then needs ``torch._functorch.config.donated_buffer = False`` before the first call
        of the model, because it passes backward twice. Leave models with dropout uncompiled: other masks would be
        drawn than in the other passes.
    optimizer
        Steps on the parameters that require a gradient; gradients of a former step are cleared first.
    images, label_logits
        The batch (B, ...) and its label logits (B, K), float32 or wider under any `autocast_dtype`.
    trusted_images, trusted_labels
        Trusted rows (M, ...) and their classes (M,) int64. Cost grows with M; 32 are enough for a step, and none
        are needed where labels rest (`trusted_rows_per_step`).
    fixed
        (B,) bool: rows whose labels stay as they are; None for none.
    alpha, beta, gamma
        Length of the look-ahead, step of the labels, weight of the entropy.
    reduction
        ``batchmean`` averages L_c and the entropy over rows (paper), ``mean`` over rows and classes (authors'
        code).
    schedule
        ``exact``: the identity of this module. ``fast``: v at theta (first order in alpha), a one-sided
        difference for the derivative where the passes are float32 or wider, and labels that move only where
        ``epoch % FAST_LABEL_INTERVAL == 0``, there as much further as they move less often. ``reference``: double
        backward.
    epoch
        Epochs of MSLG before this one; counts for ``fast`` alone.
    autocast_dtype
        Number format of the forward passes (``torch.bfloat16``), None for the model's own. Call this outside
        of an autocast region, which would keep stale copies of the weights.

    Raises
    ------
    SettingError
        A shape or dtype does not fit, an unknown reduction, an enclosing autocast region, or ``reference`` on a
        network without double backward.
    """
    if torch.is_autocast_enabled(images.device.type):
        raise SettingError("mslg_step: called inside autocast. Leave the region and pass autocast_dtype.")
    schedule = Schedule(schedule)
    by_reference = schedule is Schedule.REFERENCE
    batch = Problem.of(
        model, images, label_logits.detach().requires_grad_(by_reference), trusted_images, trusted_labels,
        alpha=alpha, reduction=reduction, autocast_dtype=autocast_dtype,
    )  # fmt: skip
    gradient_of = _GRADIENTS[schedule] if _labels_move(schedule, epoch) else _at_rest
    # double backward does not exist for fused attention, so the reference does without it from the start
    with unfused_attention() if by_reference else contextlib.nullcontext():
        return _update(batch, optimizer, fixed, beta=beta, gamma=gamma, gradient_of=gradient_of)


def label_gradient(
    model: nn.Module,
    images: Tensor,
    label_logits: Tensor,
    trusted_images: Tensor,
    trusted_labels: Tensor,
    *,
    alpha: float,
    reduction: str = "batchmean",
) -> Tensor:
    """dL_meta / dlabel_logits, (B, K), by the identity of this module.

    Arguments are those of `mslg_step`; an enclosing autocast region holds. Nothing of the model changes:
    parameters, buffers (so running statistics), ``.grad`` and the mode stay, and only parameters that require
    a gradient take part. Torch's random state advances by the two forward passes, batch first; the
    derivative's pass redraws the masks of the batch (dropout, stochastic depth). Dropout inside a fused
    attention kernel alone cannot be redrawn: the derivative then sees another mask of the same kind.

    Raises
    ------
    SettingError
        A shape or dtype does not fit, or an unknown reduction.
    """
    batch = Problem.of(
        model, images, label_logits.detach(), trusted_images, trusted_labels, alpha=alpha, reduction=reduction
    )
    with torch.enable_grad():
        gradient_BK, _ = _exact(batch, batch.logits_at(batch.weights, images))
    return gradient_BK
