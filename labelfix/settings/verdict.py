"""What `labelfix.verdict` can be told."""

from dataclasses import dataclass

from labelfix.errors import SettingError
from labelfix.settings.validation import check_above, check_share

__all__ = ["VerdictConfig"]


@dataclass(frozen=True, kw_only=True)
class VerdictConfig:
    """From evidence to verdicts.

    Attributes
    ----------
    prior_rows
        Strength of the Dirichlet prior on each row of the transition matrix, in trusted rows; None takes the one
        under which the trusted rows are likeliest.
    interval
        Coverage of every interval that is shown, and of the promise.
    max_fix_error
        Promise that at most this share of the automatic fixes is wrong; None fixes nothing by itself.
    max_label_error
        Promise instead that at most this share of all labels is wrong, once a person has verified the rows that the
        run leaves open.
    """

    prior_rows: float | None = None
    interval: float = 0.95
    max_fix_error: float | None = None
    max_label_error: float | None = None

    def __post_init__(self) -> None:
        check_above(self, "prior_rows")
        check_share(self, "interval")
        check_share(self, "max_fix_error")
        check_share(self, "max_label_error")
        if self.max_fix_error is not None and self.max_label_error is not None:
            raise SettingError(
                "--max-fix-error and --max-label-error: a run makes one promise; expected one of the two. The"
                " second covers the fixes as well: they are labels of the data set."
            )
