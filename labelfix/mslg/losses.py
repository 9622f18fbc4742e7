"""The training loss of MSLG, and the Jacobian of softmax that all its gradients go through.

Shape suffixes: B rows of the batch, K classes.
"""

from torch import Tensor

from labelfix.errors import SettingError

__all__ = ["elements_per_row", "through_softmax", "training_loss"]


def training_loss(
    logits: Tensor, label_logits: Tensor, *, gamma: float, reduction: str = "batchmean"
) -> Tensor:
    """Mean of KL(f_i || y_i) + gamma * entropy(f_i), (), for logits and label logits (B, K).

    gamma 0 gives L_c. arXiv 2007.05836, equations for L_c and L_e; reductions as in `torch.nn.KLDivLoss`.
    """
    log_f_BK, log_y_BK = logits.log_softmax(-1), label_logits.log_softmax(-1)
    total = (log_f_BK.exp() * ((1.0 - gamma) * log_f_BK - log_y_BK)).sum()
    return total / (len(logits) * elements_per_row(reduction, logits.shape[-1]))


def through_softmax(f: Tensor, s: Tensor) -> Tensor:
    """(diag(f) - f f^T) s for each row (..., K): the Jacobian of softmax is symmetric, so this pushes and pulls."""
    return f * (s - (f * s).sum(-1, keepdim=True))


def elements_per_row(reduction: str, num_classes: int) -> int:
    """Return what a row counts for in a mean: 1 under ``batchmean``, K under ``mean``.

    Raises
    ------
    SettingError
        For any other reduction.
    """
    sizes = {"batchmean": 1, "mean": num_classes}
    if reduction not in sizes:
        raise SettingError(f"reduction: got {reduction!r}; expected 'batchmean' or 'mean'.")
    return sizes[reduction]
