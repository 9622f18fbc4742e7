"""One batch with its trusted rows, checked, and the passes over the network that an update is made of.

Only `Problem.batch_logits` moves running statistics; every other pass sees private copies of the buffers. The
derivative's pass redraws the masks (dropout, stochastic depth) of the pass over the batch.

Shape suffixes: B rows of the batch, M trusted rows, K classes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from labelfix.errors import SettingError
from labelfix.mslg.forward_mode import LogitsAt, Weights, difference_step, logits_tangent, stepped
from labelfix.mslg.losses import elements_per_row, training_loss

__all__ = ["Problem", "gradient"]


def gradient(
    loss: Tensor, weights: Weights, *, retain_graph: bool = False, create_graph: bool = False
) -> Weights:
    """Return the gradient of a loss () by the weights' names; zero where the loss does not depend on one."""
    slopes = torch.autograd.grad(
        loss,
        list(weights.values()),
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return dict(zip(weights, slopes, strict=True))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One batch, its trusted rows, and the network.

    Attributes
    ----------
    model
        Maps images to logits, in the mode (train or eval) that holds for all passes.
    weights
        theta: the parameters that train, by name.
    images, label_logits
        The batch (B, ...) and its label logits (B, K).
    trusted_images, trusted_labels
        Trusted rows (M, ...) and their classes (M,) int64.
    alpha, reduction, autocast_dtype
        As in `labelfix.mslg.mslg_step`.
    random_state
        Of torch before the pass over the batch.
    """

    model: nn.Module
    weights: Weights
    images: Tensor
    label_logits: Tensor
    trusted_images: Tensor
    trusted_labels: Tensor
    alpha: float
    reduction: str
    autocast_dtype: torch.dtype | None
    random_state: tuple[Tensor, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        label_logits: Tensor,
        trusted_images: Tensor,
        trusted_labels: Tensor,
        *,
        alpha: float,
        reduction: str,
        autocast_dtype: torch.dtype | None = None,
    ) -> Self:
        """Check the parts and put them together.

        Raises
        ------
        SettingError
            A shape or dtype does not fit, an unknown reduction, or a model without a parameter to train.
        """
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
        elements_per_row(reduction, 1)
        weights: Weights = {name: p for name, p in _eager(model).named_parameters() if p.requires_grad}
        if not weights:
            raise SettingError(
                "model: no parameter requires a gradient, so labels cannot move. Unfreeze some."
            )
        return cls(
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

    @property
    def scale(self) -> float:
        """Factor from the derivative of the softmax outputs to the label gradient: alpha / B, or alpha / (B K)."""
        num_rows, num_classes = self.label_logits.shape
        return self.alpha / (num_rows * elements_per_row(self.reduction, num_classes))

    # ------------------------------------------------------------------------------------------------- passes

    def batch_logits(self) -> Tensor:
        """Logits (B, K) of the batch from the model itself: running statistics move."""
        with self._autocast():
            return _widened(self.model(self.images))

    def logits_at(self, weights: Weights, images: Tensor) -> Tensor:
        """Logits of `images`, (B or M, K), with `weights` in place of the model's and copies of its buffers."""
        model = _eager(self.model)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with self._autocast():
            return _widened(functional_call(model, {**weights, **buffers}, (images,)))

    def look_ahead(self, logits_BK: Tensor, *, create_graph: bool = False) -> Weights:
        """theta_hat, the weights after an SGD step of length alpha on L_c; keeps the graph of logits_BK."""
        loss = training_loss(logits_BK, self.label_logits, gamma=0.0, reduction=self.reduction)
        slopes = gradient(loss, self.weights, retain_graph=True, create_graph=create_graph)
        theta_hat = stepped(self.weights, slopes, -self.alpha)
        return (
            theta_hat
            if create_graph
            else {name: w.detach().requires_grad_() for name, w in theta_hat.items()}
        )

    def trusted_loss(self, weights: Weights) -> Tensor:
        """L_meta, (), at `weights`."""
        return F.cross_entropy(self.logits_at(weights, self.trusted_images), self.trusted_labels)

    def tangent(self, v: Weights) -> Tensor:
        """Differentiate the logits (B, K) of the batch along v at theta."""
        with torch.no_grad():
            at = self._batch_logits_at()
            return logits_tangent(_eager(self.model), at, self.weights, v, precision=self._precision)

    def difference(self, logits_BK: Tensor, v: Weights) -> Tensor:
        """`tangent` by a one-sided difference to the logits (B, K) that the pass over the batch gave already."""
        step = difference_step(self.weights, v, self._precision)
        with torch.no_grad():
            return (self._batch_logits_at()(stepped(self.weights, v, step)) - logits_BK) / step

    def _batch_logits_at(self) -> LogitsAt:
        """Return the pass over the batch as a function of the weights: the same masks in every call."""

        def at(weights: Weights) -> Tensor:
            with self._replayed():
                return self.logits_at(weights, self.images)

        return at

    @property
    def is_precise(self) -> bool:
        """Whether logits of two passes may be subtracted: float32 or wider, and none of them compiled."""
        return torch.finfo(self._precision).bits >= 32 and _eager(self.model) is self.model

    @property
    def _precision(self) -> torch.dtype:
        """Number format of the forward passes."""
        kind = self.images.device.type
        around = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        dtype = self.autocast_dtype or around or next(iter(self.weights.values())).dtype
        # CUDA computes float32 convolutions in TF32, which has as many digits as float16
        return torch.float16 if self.images.is_cuda and dtype is torch.float32 else dtype

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.images.device.type, self.autocast_dtype)

    @contextlib.contextmanager
    def _replayed(self) -> Iterator[None]:
        """Draw the masks of the batch again inside, and go on from where torch's random state was outside."""
        device = self.images.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.set_rng_state(self.random_state[0])
            if device.type == "cuda":
                torch.cuda.set_rng_state(self.random_state[1], device)
            yield


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    state = torch.get_rng_state()
    return (state, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (state,)


def _eager(model: nn.Module) -> nn.Module:
    """Take a model out of `torch.compile`, which has no forward mode and guards on the weights."""
    return getattr(model, "_orig_mod", model)


def _widened(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
