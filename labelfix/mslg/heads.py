"""The MSLG update of F linear heads on frozen features, in closed form: matrix products instead of passes.

The logits of a head are X W + b, so its softmax outputs move along v = (V, u) by

    fdot = f * (s - sum_k f_k s_k),    s = X V + u,

where (V, u) is the gradient of the meta-loss at the look-ahead: the identity of `labelfix.mslg.update` for
networks whose derivatives can be written down. Heads are trained side by side, and rows have weights, so that a
cross-fitted head leaves its own fold out.

Shape suffixes: F heads, B rows of the batch, M trusted rows, R rows of either, K classes, D features, X = F K.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.mslg.losses import elements_per_row, through_softmax

__all__ = ["head_label_gradient", "head_logits", "head_slopes", "head_training_gradient"]


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
    """`labelfix.mslg.label_gradient` of F linear heads on frozen features.

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
        As in `labelfix.mslg.mslg_step`.
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
    shares_FB1 = _row_shares(row_weights, f_FBK, reduction, label_logits.shape[-1])

    # theta_hat = theta - alpha * grad L_c
    slope_FBK = shares_FB1 * through_softmax(f_FBK, log_f_FBK - label_logits)  # dL_c / dlogits
    weight_slope_FDK, bias_slope_FK = head_slopes(features, slope_FBK)
    weight_hat_FDK, bias_hat_FK = weight - alpha * weight_slope_FDK, bias - alpha * bias_slope_FK

    # v = grad L_meta at theta_hat
    f_hat_FMK = head_logits(weight_hat_FDK, bias_hat_FK, trusted_features).softmax(-1)
    error_FMK = f_hat_FMK - F.one_hot(trusted_labels, f_hat_FMK.shape[-1])
    error_FMK *= _row_shares(trusted_weights, f_hat_FMK)  # dL_meta / dlogits
    v_weight_FDK, v_bias_FK = head_slopes(trusted_features, error_FMK)

    s_FBK = head_logits(v_weight_FDK, v_bias_FK, features)
    return alpha * shares_FB1 * through_softmax(f_FBK, s_FBK)


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
    """Gradient (F, B, K) of each head's `labelfix.mslg.training_loss` with respect to its logits (F, B, K).

    Averages as `head_label_gradient` does; `head_slopes` makes the heads' gradients of it.
    """
    log_f_FBK = logits.log_softmax(-1)
    slope_FBK = (1.0 - gamma) * log_f_FBK - label_logits
    shares_FB1 = _row_shares(row_weights, logits, reduction, logits.shape[-1])
    return shares_FB1 * through_softmax(log_f_FBK.exp(), slope_FBK)


def _row_shares(
    weights_FR: Tensor | None, rows_FRX: Tensor, reduction: str = "batchmean", num_classes: int = 1
) -> Tensor:
    """Share (F, R, 1) of each row in its head's mean."""
    if weights_FR is None:
        weights_FR = rows_FRX.new_ones(rows_FRX.shape[:2])
    total_F1 = weights_FR.sum(1, keepdim=True)
    shares_FR = weights_FR / torch.where(total_F1 > 0, total_F1, 1.0)
    return shares_FR.unsqueeze(-1) / elements_per_row(reduction, num_classes)
