"""The random sample that a promise may rest on, and rows of it that are held back.

N images, n rows of a sample, of which the first t are decided.
"""

from dataclasses import dataclass, replace

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs.answers import CANNOT_TELL
from labelfix.inputs.draws import Purpose
from labelfix.inputs.label_table import NO_LABEL, LabelTable, VerifiedAs
from labelfix.system.folds import hash_keys

__all__ = ["RandomDraw", "hold_back", "random_draw"]


@dataclass(frozen=True, kw_only=True)
class RandomDraw:
    """A simple random sample of all rows, in the order in which it was drawn.

    Attributes
    ----------
    rows
        (n,) row numbers.
    true
        (t,) true classes of the rows decided so far, `labelfix.inputs.answers.CANNOT_TELL` where nobody can.
    number
        Which list of the data set it is, from 1 on.
    draw
        The identifier of its record; None without one.
    exact
        Whether nothing was learned from these rows.
    """

    rows: np.ndarray
    true: np.ndarray
    number: int = 1
    draw: str | None = None
    exact: bool = False

    @property
    def verified(self) -> np.ndarray:
        """Row numbers of those whose class somebody could tell."""
        return self.rows[: len(self.true)][self.true != CANNOT_TELL]

    def only(self, kept: np.ndarray) -> "RandomDraw":
        """Return the draw without the rows that `kept`, a mask (n,), leaves out."""
        return replace(self, rows=self.rows[kept], true=self.true[kept[: len(self.true)]])

    def renumbered(self, number: np.ndarray) -> "RandomDraw":
        """Return the draw with row i called `number[i]`, without the rows that are gone (-1)."""
        renamed = replace(self, rows=number[self.rows])
        return renamed.only(renamed.rows >= 0)


def random_draw(table: LabelTable) -> RandomDraw:
    """Return the largest simple random sample of a table, of no rows where there is none.

    Rows without a record are one sample, verified to its end, in an order that follows from the images.
    """
    if table.held_back is not None:
        return table.held_back
    own = np.flatnonzero(table.verified_as == VerifiedAs.RANDOM)
    keys = (f"order:{table.keys[int(row)].as_py()}" for row in own)
    own = own[np.argsort(hash_keys(keys, 0), kind="stable")]
    samples = [RandomDraw(rows=own, true=table.trusted[own])]
    for answered in table.draws:
        if answered.draw.purpose is Purpose.SAMPLE and answered.draw.is_simple_random and answered.is_current:
            draw = RandomDraw(
                rows=answered.drawn_row,
                true=answered.answer[: answered.looked],
                number=int(answered.draw.settings["number"]),
                draw=answered.draw.id,
            )
            samples.append(draw.only(draw.rows >= 0))
    return max(samples, key=lambda sample: len(sample.rows))


def hold_back(table: LabelTable, share: float | None) -> LabelTable:
    """Return the table without the trusted labels of the last part of its random sample, which are in `held_back`.

    `LabelTable.revealed` puts them back.

    Parameters
    ----------
    share
        Of the sample; None holds nothing back.

    Raises
    ------
    InputError
        When there is no simple random sample.
    """
    if share is None:
        return table
    draw = random_draw(table)
    if not len(draw.rows):
        raise InputError(
            "--calibration-split: there is no simple random sample to hold rows back from; expected --trusted with "
            "rows of labelfix sample, or drawn at random in another way."
        )
    last = np.arange(len(draw.rows)) >= len(draw.rows) - round(share * len(draw.rows))
    held_back = replace(draw.only(last), exact=True)
    trusted = table.trusted.copy()
    trusted[draw.rows[last]] = NO_LABEL
    return replace(table, trusted=trusted, held_back=held_back)
