"""Settings: frozen, keyword-only dataclasses, checked on construction.

They are the one source of defaults: the command line reads them from here, `labelfix.clean` builds a
`CleanConfig` from its keyword arguments, and ``run.json`` records them. Standard library only, to load fast.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from labelfix.errors import SettingError
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
from labelfix.settings.validation import (
    as_enum,
    as_names,
    check,
    check_above,
    check_at_least,
    check_count,
    check_share,
)
from labelfix.settings.verdict import VerdictConfig

__all__ = [
    "CleanConfig",
    "FeatureConfig",
    "FullConfig",
    "HeadConfig",
    "NetworkConfig",
    "option_owners",
]

EMBEDDED_BACKBONE = "embedded"


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """From images to features.

    Attributes
    ----------
    backbone
        A timm model name, ``hf-hub:owner/name``, or ``embedded`` for EfficientNet-Lite0 with its ImageNet
        weights, which needs no network.
    checkpoint
        Local weights for `backbone` (``.safetensors``, ``.pth``, ``.pt``) instead of its pretrained ones.
    image_size
        Side of the square input in pixels; None takes the backbone's own.
    precision
        Of the forward pass; ``auto`` takes bfloat16 where the processor computes in it.
    inference_batch
        Images per forward pass.
    workers
        Processes that decode images; None takes one per core, at most eight, 0 decodes in this process.
    cache_dir
        Where features are kept between runs; None takes the user's cache folder.
    """

    backbone: str = EMBEDDED_BACKBONE
    checkpoint: str | None = None
    image_size: int | None = None
    precision: Precision = Precision.AUTO
    inference_batch: int = 64
    workers: int | None = None
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        as_enum(self, "precision", Precision)
        if not self.backbone:
            raise SettingError("--backbone: got an empty name; expected a timm model name, or 'embedded'.")
        check_count(self, "image_size", 8)
        check_count(self, "inference_batch")
        check_count(self, "workers", 0)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """MSLG on a linear head over frozen features, cross-fitted over folds.

    The features of an image are standardised and scaled to one length before they reach the head, so that
    the step sizes below hold for any backbone.

    Attributes
    ----------
    folds
        Every row's probabilities come from a head that saw neither its label nor its trusted label.
    epochs, warmup_epochs
        Epochs in all, and how many of them are plain cross-entropy on the given labels.
    batch_size, trusted_batch_size
        Rows and trusted rows per step; the schedule ``fast`` of the full network takes 64 of the latter at most.
    learning_rate, momentum, weight_decay
        Of stochastic gradient descent; the learning rate falls to 0 along half a cosine.
    alpha, beta, gamma, init_scale
        Step of the look-ahead, step of the labels, weight of the entropy, and height of the initial label
        logits (arXiv 2007.05836, section III).
    reduction
        Average over the batch (``batchmean``, the paper) or over batch and classes (``mean``).
    """

    folds: int = 5
    epochs: int = 20
    warmup_epochs: int = 6
    batch_size: int = 128
    trusted_batch_size: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    alpha: float = 0.5
    beta: float = 4000.0
    gamma: float = 1.0
    init_scale: float = 10.0
    reduction: Reduction = Reduction.BATCHMEAN
    least_folds: ClassVar[int] = 2
    least_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        as_enum(self, "reduction", Reduction)
        check_count(self, "folds", self.least_folds)
        check_count(self, "epochs")
        check_count(self, "warmup_epochs", 0)
        check_count(self, "batch_size", self.least_batch)
        check_count(self, "trusted_batch_size", self.least_batch)
        for name in ("learning_rate", "alpha", "init_scale"):
            check_above(self, name)
        for name in ("momentum", "weight_decay", "beta", "gamma"):
            check_at_least(self, name)
        check(self, "momentum", lambda v: v < 1, "a number of at least 0 and below 1")
        if self.warmup_epochs > self.epochs:
            raise SettingError(
                f"--warmup-epochs: got {self.warmup_epochs}; expected at most --epochs ({self.epochs})."
            )


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(HeadConfig):
    """The same settings for the full network, with defaults of its own.

    Attributes
    ----------
    folds
        1 trains one network on all rows and holds trusted labels out for the verdict; from 2 on the networks
        are cross-fitted.
    batch_size, trusted_batch_size
        At least 2.
    learning_rate
        Under ``batchmean`` it is divided by `init_scale` after the warm-up, and `weight_decay` multiplied: where a
        network has learned its labels, labels of that height make the slopes of MSLG's loss as much steeper than
        those of cross-entropy, for any number of classes. ``mean``, the authors' code, divides the slopes by the
        number of classes instead; for 10 classes and a tenth of its alpha the two are the same steps.
    """

    folds: int = 1
    epochs: int = 15
    warmup_epochs: int = 5
    trusted_batch_size: int = 32
    learning_rate: float = 0.01
    alpha: float = 0.05
    least_folds: ClassVar[int] = 1
    least_batch: ClassVar[int] = 2  # batch norm has no statistics of one row


@dataclass(frozen=True, kw_only=True)
class FullConfig:
    """MSLG on the full network: what the head has no use for.

    Attributes
    ----------
    schedule
        How a step obtains the gradient of the label logits.
    learning_rate_schedule
        How the learning rate falls.
    augment
        What is done to training images.
    trusted_role
        ``meta``: trusted images serve for the meta-loss alone. ``meta-and-train``: they train the classifier
        too, on their trusted labels, which do not move.
    held_out_share
        Share of the trusted rows whose trusted labels training never sees, when `folds` is 1; the verdict
        rests on them.
    pixel_budget
        GiB that decoded images may take, on disk or in device memory; beyond it they are decoded every epoch.
    """

    schedule: Schedule = Schedule.EXACT
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.COSINE
    augment: Augment = Augment.CROP_FLIP
    trusted_role: TrustedRole = TrustedRole.META
    held_out_share: float = 0.3
    pixel_budget: float = 8.0

    def __post_init__(self) -> None:
        as_enum(self, "schedule", Schedule)
        as_enum(self, "learning_rate_schedule", LearningRateSchedule)
        as_enum(self, "augment", Augment)
        as_enum(self, "trusted_role", TrustedRole)
        check_share(self, "held_out_share")
        check_at_least(self, "pixel_budget")


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Everything that `labelfix.clean` can be told, apart from where its input and output are.

    Attributes
    ----------
    kind
        What SOURCE holds; ``auto`` infers it.
    classes
        The class names in order; None takes the given labels, sorted.
    new_classes, spellings
        Classes that no given label has; and what happens where labels differ in spelling only.
    missing
        What happens to rows whose image file does not exist.
    trusted_weights
        Column of the trusted tables that holds sampling weights, in proportion to 1 / probability of having been
        drawn for verification; None takes ``weight`` where there is one, and else a random sample.
    trusted_strata
        Column of the label table with the strata that trusted rows may have been drawn from; None takes the given
        labels.
    calibration_split
        Share of the random sample that nothing learns from, its last rows: a promise that rests on them is exact.
        None learns from all.
    train
        What MSLG trains: ``head``, a linear head over frozen features, or ``full``, the network itself.
    soft_label_top_k
        Write only the k most probable classes of each soft label, and the remainder.
    device
        Where torch computes: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    seed
        Of every random choice.
    features, head, full, verdict
        The settings of the stages; with ``train`` full, `head` is a `NetworkConfig`.
    """

    kind: Kind = Kind.AUTO
    classes: tuple[str, ...] | None = None
    new_classes: tuple[str, ...] | None = None
    spellings: Spellings = Spellings.STOP
    missing: MissingImages = MissingImages.STOP
    trusted_weights: str | None = None
    trusted_strata: str | None = None
    calibration_split: float | None = None
    train: Train = Train.AUTO
    soft_label_top_k: int | None = None
    device: str = "auto"
    seed: int = 0
    features: FeatureConfig = field(default_factory=FeatureConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    full: FullConfig = field(default_factory=FullConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)

    def __post_init__(self) -> None:
        as_enum(self, "kind", Kind)
        as_enum(self, "spellings", Spellings)
        as_enum(self, "missing", MissingImages)
        as_enum(self, "train", Train)
        check_share(self, "calibration_split")
        check_count(self, "soft_label_top_k")
        check_count(self, "seed", 0)
        as_names(self, "classes", "new_classes")

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, auto: Train = Train.HEAD) -> Self:
        """Build a configuration from flat keyword options, handing each to the stage that owns it.

        Parameters
        ----------
        options
            Name -> value; what is left out has its default.
        auto
            What ``--train auto`` comes to: it has the settings of `head` checked, and their defaults chosen.

        Raises
        ------
        SettingError
            For an unknown option, or a value out of range.
        """
        stages: dict[str, dict[str, Any]] = {name: {} for name in _STAGES}
        run: dict[str, Any] = {}
        owners = option_owners()
        for name, value in options.items():
            if name not in owners:
                close = difflib.get_close_matches(name, owners, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise SettingError(f"option {name!r} is unknown; expected one of {', '.join(owners)}.{hint}")
            owner = owners[name]
            (stages[owner] if owner else run)[name] = value
        train = run.get("train", Train.AUTO)
        full = (auto if train == Train.AUTO else train) == Train.FULL
        kinds = _STAGES | ({"head": NetworkConfig} if full else {})
        built = {name: kind(**stages[name]) for name, kind in kinds.items()}
        return cls(**run, **built)

    def changed_options(self) -> dict[str, Any]:
        """Return those of `options` that are not the defaults of their stage."""
        defaults = type(self)(**{name: type(getattr(self, name))() for name in _STAGES}).options()
        return {name: value for name, value in self.options().items() if value != defaults[name]}

    def options(self) -> dict[str, Any]:
        """Return the flat options that rebuild this configuration, as plain values for JSON."""
        flat: dict[str, Any] = {}
        for name, value in asdict(self).items():
            flat.update(value if name in _STAGES else {name: value})
        return {name: str(v) if isinstance(v, StrEnum) else v for name, v in flat.items()}


_STAGES: dict[str, type] = {
    "features": FeatureConfig,
    "head": HeadConfig,
    "full": FullConfig,
    "verdict": VerdictConfig,
}


def option_owners() -> dict[str, str | None]:
    """Return every flat option with the stage that owns it (None: `CleanConfig` itself)."""
    owners: dict[str, str | None] = {f.name: None for f in fields(CleanConfig) if f.name not in _STAGES}
    for stage, kind in _STAGES.items():
        owners.update({f.name: stage for f in fields(kind)})
    return owners
