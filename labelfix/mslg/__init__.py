"""Meta soft label generation (MSLG): pure tensor functions, and one training step made of them.

=================  =========================================================================================
`update`           the update, the identity that makes it cheap, and its proof: start here
`problem`          one batch with its trusted rows, and the passes over the network that an update is made of
`forward_mode`     the derivative of a network's output along a direction of its weights
`losses`           the training loss, and the Jacobian of softmax
`heads`            the same update in closed form, for linear heads on frozen features
=================  =========================================================================================

Algan & Ulusoy, "Meta Soft Label Generation for Noisy Labels", ICPR 2020, arXiv 2007.05836.
"""

from labelfix.mslg.forward_mode import ForwardModeWarning
from labelfix.mslg.heads import head_label_gradient, head_logits, head_slopes, head_training_gradient
from labelfix.mslg.losses import training_loss
from labelfix.mslg.update import (
    FAST_LABEL_INTERVAL,
    FAST_TRUSTED_ROWS,
    StepResult,
    label_gradient,
    mslg_step,
    trusted_rows_per_step,
)
from labelfix.settings import Schedule

__all__ = [
    "FAST_LABEL_INTERVAL",
    "FAST_TRUSTED_ROWS",
    "ForwardModeWarning",
    "Schedule",
    "StepResult",
    "head_label_gradient",
    "head_logits",
    "head_slopes",
    "head_training_gradient",
    "label_gradient",
    "mslg_step",
    "training_loss",
    "trusted_rows_per_step",
]
