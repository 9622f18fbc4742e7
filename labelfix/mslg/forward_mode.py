"""The derivative of a network's logits along a direction v of its weights, without building a graph.

Forward mode (dual numbers) where every operator has it; where one has not, a central finite difference, which
is noted once. Operators with a slow or missing forward rule are dealt with here: batch norm gets one made of two
fused kernels, attention runs unfused.

A network is given as a function of its weights, ``logits_at(weights) -> (B, K)``.
"""

import contextlib
import functools
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import get_total_norm
from torch.overrides import TorchFunctionMode

__all__ = [
    "ForwardModeWarning",
    "LogitsAt",
    "Weights",
    "difference_step",
    "logits_tangent",
    "stepped",
    "unfused_attention",
]

Weights = dict[str, Tensor]
LogitsAt = Callable[[Weights], Tensor]

# Finite differences step by this times |theta| / |v|. Truncation asks for a short step (above all ReLU kinks in
# batch-normalised networks), rounding for a long one. On the paper's network, ResNet-18, MobileNetV3, EfficientNet,
# ConvNeXt and a ViT after 3 and 23 steps of training on CIFAR-10, one-sided differences then keep a cosine of at
# least .93 to the exact derivative in float32. In bfloat16 it is .999 for the last two, .86 to .94 for the first
# two and .46 to .79 for the others.
_RELATIVE_STEP = {torch.float64: 1e-6, torch.float32: 2e-5, torch.float16: 5e-5, torch.bfloat16: 3e-4}


class ForwardModeWarning(UserWarning):
    """A network has an operator without forward-mode derivative; finite differences replace it."""


_without_forward_mode: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_warned: set[type] = set()


def logits_tangent(
    model: nn.Module, logits_at: LogitsAt, weights: Weights, v: Weights, *, precision: torch.dtype
) -> Tensor:
    """Differentiate the logits along v at `weights`, (B, K).

    Parameters
    ----------
    model
        The network behind `logits_at`: whether it has a forward mode is remembered, and its class is named in
        the warning.
    precision
        Number format in which it computes, for the length of a finite difference.
    """
    if model not in _without_forward_mode:
        _load_forward_mode()
        try:
            # dual numbers straight on the modules take half the time of `torch.func.jvp`
            with forward_ad.dual_level(), unfused_attention(), _BatchNormTangent():
                duals = {name: forward_ad.make_dual(w.detach(), v[name]) for name, w in weights.items()}
                primal, tangent = forward_ad.unpack_dual(logits_at(duals))
            return torch.zeros_like(primal) if tangent is None else tangent
        except NotImplementedError as fault:
            if "forward" not in str(fault):
                raise
            _without_forward_mode.add(model)
            _warn_once(type(model), fault)
    step = difference_step(weights, v, precision)
    return (logits_at(stepped(weights, v, step)) - logits_at(stepped(weights, v, -step))) / (2 * step)


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


# -------------------------------------------------------------------------------------- finite differences


def difference_step(weights: Weights, v: Weights, precision: torch.dtype) -> Tensor:
    """Return the step (), float, along v for a finite difference.

    It is 0-d on the device, so that nothing waits for it.
    """
    # bounds keep a zero-initialised head and a vanished v away from 0 / 0
    size = get_total_norm(list(weights.values())).detach().clamp_min(1e-3)
    length = get_total_norm(list(v.values())).clamp_min(1e-20)
    return _RELATIVE_STEP[precision] * size / length


def stepped(weights: Weights, v: Weights, step: Tensor | float) -> Weights:
    """Return weights + step * v."""
    return {name: weight + step * v[name] for name, weight in weights.items()}


# ---------------------------------------------------------------------------- operators without a good rule


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
def unfused_attention() -> Iterator[None]:
    """Attention by matrix products: the fused kernels have neither forward mode nor double backward."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
