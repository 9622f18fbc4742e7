"""The choices that settings offer: one enum each, whose values the command line takes."""

from enum import StrEnum

__all__ = [
    "Augment",
    "Kind",
    "LearningRateSchedule",
    "MissingImages",
    "Precision",
    "Reduction",
    "Schedule",
    "Spellings",
    "Train",
    "TrustedRole",
]


class Kind(StrEnum):
    """What SOURCE holds."""

    AUTO = "auto"
    IMAGES = "images"
    FEATURES = "features"
    PROBS = "probs"


class MissingImages(StrEnum):
    """What happens to a row whose image file does not exist."""

    STOP = "stop"
    QUARANTINE = "quarantine"


class Spellings(StrEnum):
    """What happens where labels differ in spelling only: an error, one class, or a class each."""

    STOP = "stop"
    MERGE = "merge"
    KEEP = "keep"


class Precision(StrEnum):
    """Number format of the backbone's forward pass."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Train(StrEnum):
    """What MSLG trains: ``auto`` takes ``full`` where there is a GPU, images and trusted labels."""

    AUTO = "auto"
    HEAD = "head"
    FULL = "full"


class Reduction(StrEnum):
    """How losses are averaged, named as `torch.nn.KLDivLoss` names them."""

    BATCHMEAN = "batchmean"
    MEAN = "mean"


class Schedule(StrEnum):
    """How a step on the full network obtains the gradient of the label logits; see `labelfix.mslg`."""

    EXACT = "exact"
    FAST = "fast"
    REFERENCE = "reference"


class TrustedRole(StrEnum):
    """What trusted images do in the full network's training besides being held out."""

    META = "meta"
    META_AND_TRAIN = "meta-and-train"


class LearningRateSchedule(StrEnum):
    """How the learning rate falls: half a cosine to 0, or to a tenth after each third of the epochs."""

    COSINE = "cosine"
    STEP = "step"


class Augment(StrEnum):
    """What is done to training images: shifts by up to an eighth of the side, and mirror images."""

    NONE = "none"
    CROP = "crop"
    CROP_FLIP = "crop-flip"
