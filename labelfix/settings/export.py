"""What `labelfix.export_run` can be told."""

from dataclasses import dataclass
from enum import StrEnum

from labelfix.errors import SettingError
from labelfix.settings.validation import as_enum, check

__all__ = ["ExportConfig", "ExportFormat", "Policy", "RowChoice", "Transfer"]


class ExportFormat(StrEnum):
    """What the export is for."""

    CSV = "csv"
    IMAGEFOLDER = "imagefolder"
    HUGGINGFACE = "huggingface"
    FIFTYONE = "fiftyone"
    LABEL_STUDIO = "label-studio"
    CLEANLAB = "cleanlab"
    TORCH = "torch"


class Policy(StrEnum):
    """What happens to labels that are probably wrong.

    ``relabel`` takes the fixes of the run, ``drop`` leaves label issues out, ``soft`` takes the soft label of
    every image, ``review-only`` changes nothing and marks label issues. All but the last take trusted labels.
    """

    RELABEL = "relabel"
    DROP = "drop"
    SOFT = "soft"
    REVIEW_ONLY = "review-only"


class RowChoice(StrEnum):
    """Which images are exported."""

    ALL = "all"
    SUSPECTS = "suspects"


class Transfer(StrEnum):
    """How image files get into an export; ``link`` is a hard link where possible, else a symbolic one."""

    LINK = "link"
    SYMLINK = "symlink"
    COPY = "copy"


DEFAULT_POLICY = {
    ExportFormat.CSV: Policy.RELABEL,
    ExportFormat.IMAGEFOLDER: Policy.RELABEL,
    ExportFormat.HUGGINGFACE: Policy.SOFT,
    ExportFormat.TORCH: Policy.SOFT,
    ExportFormat.FIFTYONE: Policy.REVIEW_ONLY,
    ExportFormat.LABEL_STUDIO: Policy.REVIEW_ONLY,
    ExportFormat.CLEANLAB: Policy.REVIEW_ONLY,
}
# Formats without image files of their own.
TABLES_ONLY = (ExportFormat.CSV, ExportFormat.LABEL_STUDIO, ExportFormat.CLEANLAB)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Everything that an export can be told, apart from where its input and output are.

    Attributes
    ----------
    to
        The format.
    policy
        What happens to label issues; None takes the usual one of the format (`DEFAULT_POLICY`).
    min_confidence
        Label issues of at least this confidence are relabelled as well, without a promise; under ``drop``, only
        they are dropped. None leaves it to the run's own actions.
    rows
        Which images are exported.
    transfer
        How image files get into the export.
    images, labels
        Where the image folder and the label table are now; None takes the places that the run recorded.
    url_prefix
        What goes before the path of an image in a Label Studio task.
    """

    to: ExportFormat
    policy: Policy | None = None
    min_confidence: float | None = None
    rows: RowChoice = RowChoice.ALL
    transfer: Transfer = Transfer.LINK
    images: str | None = None
    labels: str | None = None
    url_prefix: str = "/data/local-files/?d="

    def __post_init__(self) -> None:
        for name, kind in (("to", ExportFormat), ("rows", RowChoice), ("transfer", Transfer)):
            as_enum(self, name, kind)
        if self.policy is None:
            object.__setattr__(self, "policy", DEFAULT_POLICY[self.to])
        as_enum(self, "policy", Policy)
        check(self, "min_confidence", lambda v: 0 <= v <= 1, "a number from 0 to 1")
        level = self.min_confidence
        if level is not None and self.policy not in (Policy.RELABEL, Policy.DROP):
            raise SettingError(
                f"--min-confidence: has no meaning under --policy {self.policy}; expected relabel or drop. "
                "Leave it out, or choose another policy."
            )
        if self.transfer is not Transfer.LINK and self.to in TABLES_ONLY:
            raise SettingError(
                f"--{self.transfer}: {self.to} holds no image files; expected imagefolder, huggingface, fiftyone "
                "or torch. Leave it out."
            )
