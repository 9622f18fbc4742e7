"""The options of `labelfix.clean` as editors and type checkers see them.

Generated from the settings: change those, then run python tests/test_options.py.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

from labelfix.settings.choices import (
    Augment,
    Kind,
    LearningRateSchedule,
    MissingImages,
    Precision,
    Reduction,
    Schedule,
    Spellings,
    Train,
    TrustedRole,
)

__all__ = ["CleanOptions"]


class CleanOptions(TypedDict, total=False):
    """Keyword options of `labelfix.clean`: the fields of `CleanConfig` and of its stages; each has its default."""

    kind: Kind | Literal["auto", "images", "features", "probs"]
    classes: Sequence[str] | None
    new_classes: Sequence[str] | None
    spellings: Spellings | Literal["stop", "merge", "keep"]
    missing: MissingImages | Literal["stop", "quarantine"]
    trusted_weights: str | None
    trusted_strata: str | None
    calibration_split: float | None
    train: Train | Literal["auto", "head", "full"]
    soft_label_top_k: int | None
    device: str
    seed: int
    backbone: str
    checkpoint: str | None
    image_size: int | None
    precision: Precision | Literal["auto", "float32", "bfloat16"]
    inference_batch: int
    workers: int | None
    cache_dir: str | None
    folds: int
    epochs: int
    warmup_epochs: int
    batch_size: int
    trusted_batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    alpha: float
    beta: float
    gamma: float
    init_scale: float
    reduction: Reduction | Literal["batchmean", "mean"]
    schedule: Schedule | Literal["exact", "fast", "reference"]
    learning_rate_schedule: LearningRateSchedule | Literal["cosine", "step"]
    augment: Augment | Literal["none", "crop", "crop-flip"]
    trusted_role: TrustedRole | Literal["meta", "meta-and-train"]
    held_out_share: float
    pixel_budget: float
    prior_rows: float | None
    interval: float
    max_fix_error: float | None
    max_label_error: float | None
