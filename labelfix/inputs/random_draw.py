"""The random samples that a promise may rest on, and rows that are held back.

N images, n rows of a sample, of which the first t are decided.
"""

from dataclasses import dataclass, replace

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs.answers import CANNOT_TELL
from labelfix.inputs.draws import Purpose
from labelfix.inputs.label_table import NO_LABEL, LabelTable, VerifiedAs
from labelfix.inputs.majority_vote import majority_labels
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
    """Return the simple random sample of which most rows are decided; one of no rows where there is none.

    Each sample has a level of its own, so that any of them may be taken. Rows without a record are the first
    sample, verified to its end, in an order that follows from the images.
    """
    if table.held_back is not None:
        return table.held_back
    own = np.flatnonzero(table.verified_as == VerifiedAs.RANDOM)
    keys = (f"order:{table.keys[int(row)].as_py()}" for row in own)
    own = own[np.argsort(hash_keys(keys, 0), kind="stable")]
    true = np.where(table.trusted[own] == NO_LABEL, CANNOT_TELL, table.trusted[own])
    samples = [RandomDraw(rows=own, true=true), *_recorded(table, first=1 if len(own) else 0)]
    return max(samples, key=lambda sample: len(sample.true))


def _recorded(table: LabelTable, *, first: int) -> list[RandomDraw]:
    """Return the recorded simple random samples, their numbers above `first`, each once."""
    samples: list[RandomDraw] = []
    answered = [
        a
        for a in table.draws
        if a.draw.purpose is Purpose.SAMPLE and a.draw.is_simple_random and a.is_current
    ]
    for a in sorted(answered, key=lambda a: int(a.draw.settings["number"])):
        number = max(int(a.draw.settings["number"]), first + 1, *(sample.number + 1 for sample in samples))
        draw = RandomDraw(rows=a.drawn_row, true=a.answer[: a.looked], number=number, draw=a.draw.id)
        samples.append(draw.only(draw.rows >= 0))
    return samples


def hold_back(table: LabelTable, share: float | None) -> LabelTable:
    """Return the table without the trusted labels of the last part of a recorded sample, which are held back.

    Given labels that several annotators disagree on are decided without them, too. `LabelTable.revealed` puts the
    trusted labels back.

    Parameters
    ----------
    share
        Of the sample; None holds nothing back.

    Raises
    ------
    InputError
        When there is no recorded simple random sample.
    """
    if share is None:
        return table
    own = bool((table.verified_as == VerifiedAs.RANDOM).any())
    recorded = _recorded(table, first=1 if own else 0)
    if not recorded:
        raise InputError(
            "--calibration-split: there is no recorded random sample to hold rows back from; expected --trusted"
            " with rows of labelfix sample."
        )
    draw = max(recorded, key=lambda sample: len(sample.true))
    last = np.arange(len(draw.rows)) >= len(draw.rows) - round(share * len(draw.rows))
    hidden, trusted = np.full(table.num_images, NO_LABEL, np.int32), table.trusted.copy()
    hidden[draw.rows[last]], trusted[draw.rows[last]] = trusted[draw.rows[last]], NO_LABEL
    given, _ = majority_labels(
        table.row_image, table.row_label, table.row_annotator, trusted, len(table.classes)
    )
    return replace(
        table, given=given, trusted=trusted, hidden=hidden, held_back=replace(draw.only(last), exact=True)
    )
