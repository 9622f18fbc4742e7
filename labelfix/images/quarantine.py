"""Images that cannot be read leave the table here, and nowhere else.

P images: those of the label table, then the extra trusted ones; P' of them can be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labelfix.inputs import LabelTable
from labelfix.system.progress import Progress

__all__ = ["ReadableRows", "quarantine"]


@dataclass(frozen=True, kw_only=True)
class ReadableRows:
    """Which images could be read; values computed from them are in the order of `rows`.

    Attributes
    ----------
    rows
        (P',) numbers of the images that could be read, ascending.
    unreadable
        Number of each other image -> why it could not be read.
    """

    rows: np.ndarray
    unreadable: Mapping[int, str]

    def __post_init__(self) -> None:
        both = np.sort(np.concatenate([self.rows, np.fromiter(self.unreadable, np.int64)]))
        assert (both == np.arange(len(both))).all(), "every image is readable or unreadable"
        assert (np.diff(self.rows) > 0).all(), "rows are ascending"


def quarantine(
    table: LabelTable, readable: ReadableRows, progress: Progress
) -> tuple[LabelTable, dict[str, str]]:
    """Return the table of the readable images, and the reason for each other image by name.

    The table has the rows `readable.rows` in that order. Reasons begin with the images that have no file
    (`LabelTable.missing`).
    """
    names = table.every_name
    unreadable = {names[row]: reason for row, reason in sorted(readable.unreadable.items())}
    if unreadable:
        progress.note(f"warning: {len(unreadable):,} images could not be read; see quarantine.parquet.")
    kept = np.zeros(len(names), bool)
    kept[readable.rows] = True
    return table.only(kept), dict.fromkeys(table.missing, "there is no such file") | unreadable
