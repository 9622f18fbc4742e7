"""The MSLG update of F linear heads on frozen features, in closed form: matrix products instead of passes.

The logits of a head are X W + b, so its softmax outputs move along v = (V, u) by

    fdot = f * (s - sum_k f_k s_k),    s = X V + u,

where (V, u) is the gradient of the meta-loss at the look-ahead: the identity of `labelfix.mslg.update` for
networks whose derivatives can be written down. Heads are trained side by side, and rows have weights, so that a
cross-fitted head leaves its own fold out.

Shape suffixes: F heads, B rows of the batch, M trusted rows, K classes, D features, R rows of either kind.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from labelfix.mslg.losses import elements_per_row, through_softmax

__all__ = ["head_label_gradient", "head_training_gradient"]


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

    Parameters
    ----------
    weight, bias
        Heads (F, D, K) and (F, K); logits are features @ weight + bias.
    features, label_logits
        The batch of each head, (F, B, D) and (F, B, K).
    trusted_features, trusted_labels
        Trusted rows of each head, (F, M, D) and (F, M) int64.
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
    shares_FB1 = _row_shares(row_weights, features, reduction, label_logits.shape[-1])
    log_f_FBK = torch.baddbmm(bias.unsqueeze(1), features, weight).log_softmax(-1)
    f_FBK = log_f_FBK.exp()

    # theta_hat = theta - alpha * grad L_c
    slope_FBK = shares_FB1 * through_softmax(f_FBK, log_f_FBK - label_logits)  # dL_c / dlogits
    weight_hat_FDK = weight - alpha * (features.mT @ slope_FBK)
    bias_hat_FK = bias - alpha * slope_FBK.sum(1)

    # v = grad L_meta at theta_hat
    f_hat_FMK = torch.baddbmm(bias_hat_FK.unsqueeze(1), trusted_features, weight_hat_FDK).softmax(-1)
    error_FMK = f_hat_FMK - F.one_hot(trusted_labels, f_hat_FMK.shape[-1])
    error_FMK *= _row_shares(trusted_weights, trusted_features)  # dL_meta / dlogits
    v_weight_FDK, v_bias_FK = trusted_features.mT @ error_FMK, error_FMK.sum(1)

    s_FBK = torch.baddbmm(v_bias_FK.unsqueeze(1), features, v_weight_FDK)
    return alpha * shares_FB1 * through_softmax(f_FBK, s_FBK)


def head_training_gradient(
    logits: Tensor,
    label_logits: Tensor,
    *,
    gamma: float,
    reduction: str = "batchmean",
    row_weights: Tensor | None = None,
) -> Tensor:
    """Gradient (F, B, K) of each head's `labelfix.mslg.training_loss` with respect to its logits (F, B, K).

    Averages as `head_label_gradient` does; multiply by features.mT for the gradient of the weight.
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
