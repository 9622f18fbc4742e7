"""All settings that determine the result of a run of the benchmark, and the key of that result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from labelfix.benchmark.data_sets import DATA_SETS
from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.methods.base import Settings
from labelfix.benchmark.noise import NOISES, Ties
from labelfix.errors import SettingError
from labelfix.settings import Augment, LearningRateSchedule
from labelfix.settings.validation import as_enum, check_above, check_count, setting_error
from labelfix.system.hashing import value_digest

__all__ = ["MeasuredOn", "RunSettings", "TrustedFrom"]

AS_THEY_ARE = ("none", "real")
DTYPES = ("float32", "bfloat16")


class TrustedFrom(StrEnum):
    """The source of trusted images: training images, the test split (as in the paper), or a separate set."""

    TRAIN = "train"
    TEST = "test"
    OWN = "own"


class MeasuredOn(StrEnum):
    """The images that measure the accuracy; ``train`` takes unused training images, for the choice of settings."""

    TEST = "test"
    TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run.

    Attributes
    ----------
    method, options
        A key of `METHODS`, and its settings that differ from its defaults.
    data, noise, ratio, ties
        A key of `DATA_SETS`; a key of `NOISES`, ``none``, ``real`` (as the data set comes) or a name of human
        labels; the planted share and the rule for equal scores, where noise is planted.
    seed
        Of the choice of images, the noise, the initial weights and the order of training.
    network, checkpoint, side
        See `build_network`; the side in pixels to which image files are resized (None: 32).
    images, test
        How many images train and test; None takes all.
    trusted, held_out, trusted_from
        The number of verified images; how many of them only choose the best epoch; where they are taken from.
    measured_on
        See `MeasuredOn`.
    epochs, batch_size, learning_rate, learning_rate_schedule, momentum, weight_decay, augment
        Of stochastic gradient descent, the same for all methods.
    dtype
        Of the forward passes: ``float32`` or ``bfloat16`` (autocast).

    Raises
    ------
    SettingError
        A value that is unknown or out of range.
    """

    method: str
    data: str = "fashion_mnist"
    noise: str = "feature_dependent"
    ratio: float | None = 0.4
    ties: Ties = Ties.RANDOM
    seed: int = 0
    network: str = "small"
    checkpoint: str = ""
    side: int | None = None
    images: int | None = 5_000
    test: int | None = 5_000
    trusted: int = 1_000
    held_out: int = 200
    trusted_from: TrustedFrom = TrustedFrom.TRAIN
    measured_on: MeasuredOn = MeasuredOn.TEST
    epochs: int = 25
    batch_size: int = 128
    learning_rate: float = 0.05
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.COSINE
    momentum: float = 0.9
    weight_decay: float = 1e-4
    augment: Augment = Augment.NONE
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in (
            ("ties", Ties), ("trusted_from", TrustedFrom), ("measured_on", MeasuredOn),
            ("learning_rate_schedule", LearningRateSchedule), ("augment", Augment),
        ):  # fmt: skip
            as_enum(self, name, kind, where=str)
        for name, known in (("method", METHODS), ("data", DATA_SETS), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise setting_error(name, getattr(self, name), f"one of {', '.join(known)}")
        for name, least in (("epochs", 1), ("batch_size", 2), ("trusted", 0), ("held_out", 0), ("seed", 0)):
            check_count(self, name, least, where=str)
        for name in ("images", "test", "side"):
            check_count(self, name, where=str)
        if self.held_out > self.trusted:
            raise setting_error("held_out", self.held_out, f"at most the trusted images ({self.trusted})")
        check_above(self, "learning_rate", where=str)
        if self.noise in NOISES:
            if self.ratio is None or not 0 <= self.ratio <= 1:
                raise setting_error("ratio", self.ratio, f"a share from 0 to 1 for {self.noise} noise")
        else:
            object.__setattr__(self, "ratio", None)
        self.method_settings()

    def method_settings(self) -> Settings:
        """Return the settings of the method.

        Raises
        ------
        SettingError
            For an option that the method does not have, or a value it does not take.
        """
        kind = METHODS[self.method].Settings
        known = [f.name for f in fields(kind)]
        for name in self.options:
            if name not in known:
                raise setting_error(
                    f"option {self.method}.{name}", self.options[name], f"an option in {known}"
                )
        try:
            return kind(**self.options)
        except ValueError as error:
            raise SettingError(f"options of {self.method}: {error}.") from error

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"options": dict(self.options)}

    def key(self) -> str:
        """Return 16 hexadecimal digits that follow from all settings, including the defaults of the method."""
        return value_digest(self.as_json() | {"options": asdict(self.method_settings())}, digest_size=8)
