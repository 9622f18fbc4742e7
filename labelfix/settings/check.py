"""What `labelfix.check_run` can be told."""

from dataclasses import dataclass, fields
from enum import StrEnum

from labelfix.errors import SettingError
from labelfix.settings.validation import as_enum, check

__all__ = ["Bound", "CheckConfig", "parse_share"]


class Bound(StrEnum):
    """Which figure of an estimate a gate looks at.

    ``value``: the estimate. ``low``: the lower end of its interval, so that a gate fails only where the limit is
    surely passed. ``high``: the upper end, so that it holds only where the limit is surely kept.
    """

    VALUE = "value"
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """The gates; None leaves one out. All limits are shares from 0 to 1.

    Attributes
    ----------
    max_noise
        Share of wrong labels, as trusted rows show it.
    per_class
        Hold `max_noise` for the labels of every class as well.
    max_fix_error
        The run must have promised that at most this share of its automatic fixes is wrong.
    max_label_error
        The run must have promised that at most this share of all its labels is wrong, and leave none open.
    max_suspects
        Share of the images whose label is suspected.
    max_calibration_error
        How far the confidence is off on average.
    max_quarantined
        Share of the images that could not be read.
    max_increase
        By how much the share of wrong labels may have risen since the baseline.
    bound
        Which figure of an estimate counts.
    """

    max_noise: float | None = None
    per_class: bool = False
    max_fix_error: float | None = None
    max_label_error: float | None = None
    max_suspects: float | None = None
    max_calibration_error: float | None = None
    max_quarantined: float | None = None
    max_increase: float | None = None
    bound: Bound = Bound.VALUE

    def __post_init__(self) -> None:
        for limit in self._limits:
            check(
                self,
                limit,
                lambda v: isinstance(v, (int, float)) and 0 <= v <= 1,
                "a share from 0 to 1, or 0% to 100%",
            )
        as_enum(self, "bound", Bound)
        if self.per_class and self.max_noise is None:
            raise SettingError(
                "--per-class: says for whom --max-noise holds; expected that too. Add --max-noise."
            )

    @property
    def _limits(self) -> list[str]:
        return [field.name for field in fields(self) if field.name.startswith("max_")]

    @property
    def has_gates(self) -> bool:
        """Whether there is anything to hold."""
        return any(getattr(self, limit) is not None for limit in self._limits)


def parse_share(option: str, text: str | None) -> float | None:
    """Read ``3%`` or ``0.03``.

    Raises
    ------
    SettingError
        When it is neither.
    """
    if text is None:
        return None
    plain = text.strip()
    try:
        return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
    except ValueError:
        raise SettingError(f"{option}: got {text!r}; expected a share, as 3% or 0.03.") from None
