"""Meta soft label generation (MSLG): how the labels move, and one full training step.

Per row i there are label logits ytilde_i and a soft label y_i = softmax(ytilde_i). A step does

    L_c(theta, ytilde) = mean_i KL(f_theta(x_i) || y_i)
    theta_hat  = theta - alpha * grad_theta L_c                                  (look-ahead)
    ytilde    <- ytilde - beta * dL_meta / dytilde,    L_meta = cross-entropy of f_theta_hat, trusted rows
    theta     <- optimizer step on L_c(theta, ytilde_new) + gamma * mean_i entropy(f_theta(x_i))

The identity. ytilde reaches L_meta only through theta_hat. With v = grad L_meta at theta_hat,

    dL_meta / dytilde_i = -alpha * d/dytilde_i <v, grad_theta L_c>.

In L_c only the term -(1/B) sum_k f_ik log y_ik holds ytilde, and log y_ik = ytilde_ik - logsumexp(ytilde_i).
As sum_k f_ik = 1 does not depend on theta, the logsumexp drops out of grad_theta, and

    <v, grad_theta L_c> = -(1/B) sum_ik ytilde_ik <v, grad_theta f_ik> + (terms without ytilde),
    dL_meta / dytilde_i = (alpha / B) * fdot_i,      fdot_ik = <v, grad_theta f_ik>.

fdot is the derivative of the softmax outputs along v: one forward-mode pass (JVP) instead of a graph of a
graph. It needs f to be differentiable once, so hardsigmoid and the like work, and f may be any joint function
of the batch, so batch norm in training mode is covered. ``reduction="mean"`` divides by K as well.

Source: Algan & Ulusoy, "Meta Soft Label Generation for Noisy Labels", ICPR 2020, arXiv 2007.05836, section
III; the identity is not in the paper.

Shape suffixes: B rows of the batch, M trusted rows, K classes, D features, F folds.
"""

import contextlib
import functools
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import get_total_norm
from torch.overrides import TorchFunctionMode

from labelfix.errors import SettingError

__all__ = [
    "FAST_LABEL_INTERVAL",
    "ForwardModeWarning",
    "Schedule",
    "StepResult",
    "head_label_gradient",
    "head_logits",
    "head_slopes",
    "head_training_gradient",
    "label_gradient",
    "moves_labels",
    "mslg_step",
    "training_loss",
]

FAST_LABEL_INTERVAL = 2
"""`Schedule.FAST` moves the labels in every second epoch, so that all rows move equally often."""

# Finite differences step by this times |theta| / |v|. Truncation (ReLU kinks, above all) asks for a short
# step, rounding for a long one; on ResNet-18, the paper's network and a ViT in training these keep the cosine
# to the exact derivative above .99. CUDA computes float32 convolutions in TF32: it counts as half precision.
_RELATIVE_STEP = {torch.float64: 1e-6, torch.float32: 1e-4}
_RELATIVE_STEP_HALF = 1e-3

Weights = dict[str, Tensor]


class ForwardModeWarning(UserWarning):
    """A network has an operator without forward-mode derivative; finite differences replace it."""


class Schedule(StrEnum):
    """How a step obtains the gradient of the label logits."""

    EXACT = "exact"
    FAST = "fast"
    REFERENCE = "reference"


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


# ------------------------------------------------------------------------------------- the three schedules


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """One batch with its trusted rows, and the three passes that the schedules are made of."""

    model: nn.Module
    weights: Weights  # the parameters that train, by name
    images: Tensor  # (B, ...)
    label_logits: Tensor  # (B, K)
    trusted_images: Tensor  # (M, ...)
    trusted_labels: Tensor  # (M,)
    alpha: float
    reduction: str
    autocast_dtype: torch.dtype | None
    random_state: tuple[Tensor, ...]  # before the forward pass on the batch, so that its masks can be redrawn

    @property
    def scale(self) -> float:
        """Factor between the derivative of the softmax outputs and the gradient of the label logits."""
        return self.alpha / _divisor(self.label_logits, self.reduction)

    def look_ahead(self, logits_BK: Tensor, *, create_graph: bool = False) -> Weights:
        """theta_hat, the weights after an SGD step of length alpha on L_c; keeps the graph of logits_BK."""
        loss = training_loss(logits_BK, self.label_logits, gamma=0.0, reduction=self.reduction)
        slopes = _gradient(loss, self.weights, retain_graph=True, create_graph=create_graph)
        ahead = {name: weight - self.alpha * slopes[name] for name, weight in self.weights.items()}
        return ahead if create_graph else {name: w.detach().requires_grad_() for name, w in ahead.items()}

    def trusted_loss(self, weights: Weights) -> Tensor:
        """L_meta, (), with `weights` in place of the model's."""
        logits_MK = _forward(self.model, weights, self.trusted_images, self.autocast_dtype)
        return F.cross_entropy(logits_MK, self.trusted_labels)

    def tangent(self, v: Weights) -> Tensor:
        """Differentiate the logits (B, K) along v at the model's weights, under the masks of the batch."""
        with _replayed(self.random_state, self.images.device), torch.no_grad():
            return _logits_tangent(self.model, self.weights, v, self.images, self.autocast_dtype)

    def difference(self, logits_BK: Tensor, v: Weights) -> Tensor:
        """`tangent` by a one-sided difference to the logits that the forward pass gave already."""
        step = _difference_step(self.weights, v, self.images, self.autocast_dtype)
        with _replayed(self.random_state, self.images.device), torch.no_grad():
            ahead = {name: weight + step * v[name] for name, weight in self.weights.items()}
            return (_forward(self.model, ahead, self.images, self.autocast_dtype) - logits_BK) / step


def _exact(problem: _Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the label logits (B, K) and trusted loss, by the identity."""
    theta_hat = problem.look_ahead(logits_BK)
    meta_loss = problem.trusted_loss(theta_hat)
    v = _gradient(meta_loss, theta_hat)
    fdot_BK = _through_softmax(logits_BK.detach().softmax(-1), problem.tangent(v))
    return problem.scale * fdot_BK, meta_loss


def _fast(problem: _Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`_exact` with v taken at theta, not at the look-ahead, and the derivative as a one-sided difference."""
    meta_loss = problem.trusted_loss(problem.weights)
    v = _gradient(meta_loss, problem.weights)
    logits_BK = logits_BK.detach()
    fdot_BK = _through_softmax(logits_BK.softmax(-1), problem.difference(logits_BK, v))
    return problem.scale * fdot_BK, meta_loss


def _reference(problem: _Problem, logits_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`_exact` as the paper writes it: backward through the backward pass of the look-ahead."""
    meta_loss = problem.trusted_loss(problem.look_ahead(logits_BK, create_graph=True))
    (gradient_BK,) = torch.autograd.grad(meta_loss, problem.label_logits, retain_graph=True)
    return gradient_BK, meta_loss


_GRADIENTS: dict[Schedule, Callable[[_Problem, Tensor], tuple[Tensor, Tensor]]] = {
    Schedule.EXACT: _exact,
    Schedule.FAST: _fast,
    Schedule.REFERENCE: _reference,
}


def mslg_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    label_logits: Tensor,
    trusted_images: Tensor,
    trusted_labels: Tensor,
    *,
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
        Maps images to logits; its mode (train or eval) is kept. With dropout, `torch.compile` draws other
        masks than the eager passes: leave such models uncompiled.
    optimizer
        Steps on the parameters that require a gradient; gradients of a former step are cleared first.
    images, label_logits
        The batch (B, ...) and its label logits (B, K), float32 or wider under any `autocast_dtype`.
    trusted_images, trusted_labels
        Trusted rows (M, ...) and their classes (M,) int64. Cost grows with M; 32 are enough for a step, and none
        are needed where labels rest (`moves_labels`).
    alpha, beta, gamma
        Length of the look-ahead, step of the labels, weight of the entropy.
    reduction
        ``batchmean`` averages L_c and the entropy over rows (paper), ``mean`` over rows and classes (authors'
        code).
    schedule
        ``exact``: the identity of this module. ``fast``: v at theta (first order in alpha), a one-sided
        difference for the derivative, and labels that move only where ``epoch % FAST_LABEL_INTERVAL == 0``,
        there as much further as they move less often. ``reference``: double backward.
    epoch
        Epochs of MSLG before this one; counts for ``fast`` alone.
    autocast_dtype
        Number format of the forward passes (``torch.bfloat16``), None for the model's own. Call this outside
        of an autocast region, which would keep stale copies of the weights.

    Raises
    ------
    SettingError
        A shape or dtype does not fit, an unknown reduction, or an enclosing autocast region.
    """
    if torch.is_autocast_enabled(images.device.type):
        raise SettingError("mslg_step: called inside autocast. Leave the region and pass autocast_dtype.")
    schedule = Schedule(schedule)
    label_logits = label_logits.detach().requires_grad_(schedule is Schedule.REFERENCE)
    problem = _pose(
        model, images, label_logits, trusted_images, trusted_labels, alpha, reduction, autocast_dtype
    )

    # double backward does not exist for fused attention, so the reference does without it from the start
    with _unfused_attention() if schedule is Schedule.REFERENCE else contextlib.nullcontext():
        logits_BK = _forward(model, None, images, autocast_dtype)
        meta_loss = None
        if moves_labels(schedule, epoch):
            interval = FAST_LABEL_INTERVAL if schedule is Schedule.FAST else 1
            gradient_BK, meta_loss = _GRADIENTS[schedule](problem, logits_BK)
            label_logits = label_logits.detach() - beta * interval * gradient_BK

    loss = training_loss(logits_BK, label_logits, gamma=gamma, reduction=reduction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return StepResult(label_logits, loss.detach(), None if meta_loss is None else meta_loss.detach())


def moves_labels(schedule: Schedule, epoch: int) -> bool:
    """Return whether labels move in this epoch of MSLG; where they rest, a step needs no trusted rows."""
    return Schedule(schedule) is not Schedule.FAST or epoch % FAST_LABEL_INTERVAL == 0


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
    label_logits = label_logits.detach()
    problem = _pose(model, images, label_logits, trusted_images, trusted_labels, alpha, reduction, None)
    with torch.enable_grad():
        gradient_BK, _ = _exact(problem, _forward(model, problem.weights, images, None))
    return gradient_BK


def training_loss(
    logits: Tensor, label_logits: Tensor, *, gamma: float, reduction: str = "batchmean"
) -> Tensor:
    """Mean of KL(f_i || y_i) + gamma * entropy(f_i), (), for logits and label logits (B, K).

    gamma 0 gives L_c. arXiv 2007.05836, equations for L_c and L_e; reductions as in `torch.nn.KLDivLoss`.
    """
    log_f_BK, log_y_BK = logits.log_softmax(-1), label_logits.log_softmax(-1)
    total = (log_f_BK.exp() * ((1.0 - gamma) * log_f_BK - log_y_BK)).sum()
    return total / _divisor(label_logits, reduction)


# ------------------------------------------------------------------------------ linear head, closed form


def head_label_gradient(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    label_logits: Tensor,
    trusted_features: Tensor,
    trusted_labels: Tensor,
    *,
    alpha: float,
    reduction: str = "batchmean",
    trusted_weights: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> Tensor:
    """`label_gradient` of F linear heads on frozen features, in closed form.

    All heads see the same rows, so that the products with the features are one for all of them; weights of the
    rows say which row counts in which head.

    Parameters
    ----------
    weight, bias
        Heads (F, D, K) and (F, K).
    features, label_logits
        The batch (B, D), and its label logits in each head (F, B, K).
    trusted_features, trusted_labels
        Trusted rows, (M, D) and (M,) int64.
    alpha, reduction
        As in `mslg_step`.
    trusted_weights, row_weights
        Weights (F, M) and (F, B), at least 0; means divide by their sum in the head. 0 leaves a row out. A
        head without any weight gets zeros.

    Returns
    -------
    Tensor
        dL_meta / dlabel_logits (F, B, K).
    """
    log_f_FBK = head_logits(weight, bias, features).log_softmax(-1)
    f_FBK = log_f_FBK.exp()
    weights_FB1 = _row_shares(row_weights, f_FBK, reduction, label_logits.shape[-1])
    slope_FBK = weights_FB1 * _through_softmax(f_FBK, log_f_FBK - label_logits)  # dL_c / dlogits
    weight_slope_FDK, bias_slope_FK = head_slopes(features, slope_FBK)
    weight_hat_FDK, bias_hat_FK = weight - alpha * weight_slope_FDK, bias - alpha * bias_slope_FK
    f_hat_FMK = head_logits(weight_hat_FDK, bias_hat_FK, trusted_features).softmax(-1)
    error_FMK = f_hat_FMK - F.one_hot(trusted_labels, f_hat_FMK.shape[-1])
    error_FMK *= _row_shares(trusted_weights, f_hat_FMK)  # dL_meta / dlogits
    v_weight_FDK, v_bias_FK = head_slopes(trusted_features, error_FMK)
    tangent_FBK = head_logits(v_weight_FDK, v_bias_FK, features)
    return alpha * weights_FB1 * _through_softmax(f_FBK, tangent_FBK)


def head_logits(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """Logits (F, B, K) of heads (F, D, K) and (F, K) on the rows (B, D): one matrix product for all heads."""
    num_heads, _, num_classes = weight.shape
    flat_BX = features @ weight.permute(1, 0, 2).flatten(1)
    return flat_BX.view(len(features), num_heads, num_classes).transpose(0, 1) + bias.unsqueeze(1)


def head_slopes(features: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the heads' weights (F, D, K) and biases (F, K) from those of their logits (F, B, K)."""
    num_heads, num_rows, num_classes = slope.shape
    flat_DX = features.T @ slope.transpose(0, 1).reshape(num_rows, num_heads * num_classes)
    return flat_DX.view(features.shape[1], num_heads, num_classes).permute(1, 0, 2), slope.sum(1)


def head_training_gradient(
    logits: Tensor,
    label_logits: Tensor,
    *,
    gamma: float,
    reduction: str = "batchmean",
    row_weights: Tensor | None = None,
) -> Tensor:
    """Gradient (F, B, K) of each head's `training_loss` with respect to its logits (F, B, K).

    Averages as `head_label_gradient` does; `head_slopes` makes the heads' gradients of it.
    """
    log_f_FBK = logits.log_softmax(-1)
    slope_FBK = (1.0 - gamma) * log_f_FBK - label_logits
    return _row_shares(row_weights, logits, reduction, logits.shape[-1]) * _through_softmax(
        log_f_FBK.exp(), slope_FBK
    )


def _row_shares(
    weights_FR: Tensor | None, rows_FRX: Tensor, reduction: str = "batchmean", num_classes: int = 1
) -> Tensor:
    """Share (F, R, 1) of each row in its head's mean."""
    if weights_FR is None:
        weights_FR = rows_FRX.new_ones(rows_FRX.shape[:2])
    total_F1 = weights_FR.sum(1, keepdim=True)
    shares_FR = weights_FR / torch.where(total_F1 > 0, total_F1, 1.0)
    return shares_FR.unsqueeze(-1) / _per_row(reduction, num_classes)


# ------------------------------------------------------------------------------------------------ the parts


def _through_softmax(f_BK: Tensor, s_BK: Tensor) -> Tensor:
    """(diag(f) - f f^T) s for each row: the Jacobian of softmax is symmetric, so this pushes and pulls."""
    return f_BK * (s_BK - (f_BK * s_BK).sum(-1, keepdim=True))


def _per_row(reduction: str, num_classes: int) -> int:
    """How many elements a row counts for in a mean."""
    sizes = {"batchmean": 1, "mean": num_classes}
    if reduction not in sizes:
        raise SettingError(f"reduction: got {reduction!r}; expected 'batchmean' or 'mean'.")
    return sizes[reduction]


def _divisor(label_logits_BK: Tensor, reduction: str) -> int:
    return len(label_logits_BK) * _per_row(reduction, label_logits_BK.shape[-1])


def _pose(
    model: nn.Module,
    images: Tensor,
    label_logits: Tensor,
    trusted_images: Tensor,
    trusted_labels: Tensor,
    alpha: float,
    reduction: str,
    autocast_dtype: torch.dtype | None,
) -> _Problem:
    """Check one batch and its trusted rows, and put them together."""
    if label_logits.ndim != 2 or len(label_logits) != len(images):
        raise SettingError(
            f"label_logits: shape {tuple(label_logits.shape)}; expected (B, K) with B = {len(images)} images."
        )
    if torch.finfo(label_logits.dtype).bits < 32:
        raise SettingError(
            f"label_logits: {label_logits.dtype}; expected float32 or wider, under autocast too."
        )
    if trusted_labels.shape != (len(trusted_images),) or trusted_labels.dtype != torch.int64:
        raise SettingError(
            f"trusted_labels: {trusted_labels.dtype} of shape {tuple(trusted_labels.shape)}; expected int64 "
            f"of shape ({len(trusted_images)},), one class per trusted image."
        )
    _per_row(reduction, 1)
    weights: Weights = {name: p for name, p in _eager(model).named_parameters() if p.requires_grad}
    if not weights:
        raise SettingError("model: no parameter requires a gradient, so labels cannot move. Unfreeze some.")
    return _Problem(
        model=model,
        weights=weights,
        images=images,
        label_logits=label_logits,
        trusted_images=trusted_images,
        trusted_labels=trusted_labels,
        alpha=alpha,
        reduction=reduction,
        autocast_dtype=autocast_dtype,
        random_state=_random_state(images.device),
    )


def _eager(model: nn.Module) -> nn.Module:
    """Take a model out of `torch.compile`, which has no forward mode and guards on the weights."""
    return getattr(model, "_orig_mod", model)


def _forward(
    model: nn.Module, weights: Weights | None, images: Tensor, autocast_dtype: torch.dtype | None
) -> Tensor:
    """Logits in float32 or wider. With `weights` in place of the model's, its buffers are copies."""
    region = (
        torch.autocast(images.device.type, autocast_dtype) if autocast_dtype else contextlib.nullcontext()
    )
    with region:
        if weights is None:
            logits = model(images)
        else:
            model = _eager(model)
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            logits = functional_call(model, {**weights, **buffers}, (images,))
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _gradient(
    loss: Tensor, weights: Weights, *, retain_graph: bool = False, create_graph: bool = False
) -> Weights:
    slopes = torch.autograd.grad(
        loss,
        list(weights.values()),
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return dict(zip(weights, slopes, strict=True))


_without_forward_mode: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_warned: set[type] = set()


def _logits_tangent(
    model: nn.Module, weights: Weights, v: Weights, images: Tensor, autocast_dtype: torch.dtype | None
) -> Tensor:
    """Differentiate the logits (B, K) along v in forward mode, failing that by a central difference.

    Dual numbers straight on the modules take half the time of `torch.func.jvp`.
    """
    if model not in _without_forward_mode:
        _load_forward_mode()
        try:
            with forward_ad.dual_level(), _unfused_attention(), _BatchNormTangent():
                duals = {name: forward_ad.make_dual(w.detach(), v[name]) for name, w in weights.items()}
                primal, tangent = forward_ad.unpack_dual(_forward(model, duals, images, autocast_dtype))
            return torch.zeros_like(primal) if tangent is None else tangent
        except NotImplementedError as fault:
            if "forward" not in str(fault):
                raise
            _without_forward_mode.add(model)
            _warn_once(type(_eager(model)), fault)
    step = _difference_step(weights, v, images, autocast_dtype)
    ends = [
        _forward(
            model, {name: w + side * step * v[name] for name, w in weights.items()}, images, autocast_dtype
        )
        for side in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * step)


@functools.cache
def _load_forward_mode() -> None:
    """Make torch load its forward-mode rules, which warns of torch's own deprecated functions the first time."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def _warn_once(kind: type[nn.Module], fault: Exception) -> None:
    if kind not in _warned:
        _warned.add(kind)
        message = f"{kind.__name__}: {str(fault).splitlines()[0]} The label gradient uses finite differences."
        warnings.warn(message, ForwardModeWarning, stacklevel=2)


def _difference_step(
    weights: Weights, v: Weights, images: Tensor, autocast_dtype: torch.dtype | None
) -> Tensor:
    """Step (), float, along v for a finite difference; 0-d on the device, so that nothing waits for it."""
    dtype = autocast_dtype or next(iter(weights.values())).dtype
    if images.is_cuda and dtype is torch.float32:
        dtype = torch.bfloat16
    # bounds keep a zero-initialised head and a vanished v away from 0 / 0
    size = get_total_norm(list(weights.values())).detach().clamp_min(1e-3)
    return (
        _RELATIVE_STEP.get(dtype, _RELATIVE_STEP_HALF)
        * size
        / get_total_norm(list(v.values())).clamp_min(1e-20)
    )


class _BatchNormTangent(TorchFunctionMode):
    """Batch norm on dual numbers by two fused kernels; torch's own rule takes some ten passes over memory."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace `torch.nn.functional.batch_norm`, let anything else pass."""
        return (_batch_norm_of_duals if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm_of_duals(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of dual numbers.

    The Jacobian of the normalisation with respect to its input is symmetric, so the backward kernel, fed with
    a tangent in place of a gradient, pushes that tangent forward.
    """
    x, x_dot = forward_ad.unpack_dual(input)
    w, w_dot = forward_ad.unpack_dual(weight) if weight is not None else (None, None)
    b, b_dot = forward_ad.unpack_dual(bias) if bias is not None else (None, None)
    out, mean, rstd = torch.native_batch_norm(x, w, b, running_mean, running_var, training, momentum, eps)
    if not training:
        assert running_mean is not None
        assert running_var is not None
        mean, rstd = running_mean, (running_var + eps).rsqrt()
    out_dot = torch.zeros_like(out)
    if x_dot is not None:
        out_dot, _, _ = torch.ops.aten.native_batch_norm_backward(
            x_dot, x, w, running_mean, running_var, mean, rstd, training, eps, [True, False, False]
        )
    channels = (1, -1, *(1,) * (x.ndim - 2))
    if w_dot is not None:  # w_dot * (x - mean) * rstd, in two passes and without a temporary
        scale = w_dot * rstd
        out_dot.addcmul_(x, scale.view(channels)).sub_((scale * mean).view(channels))
    if b_dot is not None:
        out_dot.add_(b_dot.view(channels))
    return forward_ad.make_dual(out, out_dot)


@contextlib.contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention by matrix products: the fused kernels have neither forward mode nor double backward."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    state = torch.get_rng_state()
    return (state, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (state,)


@contextlib.contextmanager
def _replayed(state: tuple[Tensor, ...], device: torch.device) -> Iterator[None]:
    """Draw again from `state` inside, and go on from where it was outside."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state[1], device)
        yield
