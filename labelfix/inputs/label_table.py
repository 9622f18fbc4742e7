"""The validated input as one value, `LabelTable`.

N images, R label rows, K classes, E extra trusted images (trusted, but without a given label).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from labelfix.inputs.design_weights import HAND_PICKED, row_counts

if TYPE_CHECKING:
    from labelfix.inputs.answers import AnsweredDraw
    from labelfix.inputs.random_draw import RandomDraw

__all__ = ["NO_LABEL", "LabelTable", "VerifiedAs"]

NO_LABEL = -1


class VerifiedAs(IntEnum):
    """How a row came to be verified: a person's random sample, a recorded draw, or a person's choice."""

    RANDOM = 0
    DRAWN = 1
    HAND_PICKED = 2


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The validated input.

    Attributes
    ----------
    images
        (N,) large_string: names as the labels table writes them, in order of first appearance.
    keys
        (N,) large_string: what identifies each image (for a folder: its path relative to the folder).
    classes
        (K,) class names; every label below is an index into them.
    given
        (N,) int32: the given label; with several annotators their majority.
    trusted
        (N,) int32: the trusted label, -1 where there is none.
    trusted_weight, trusted_sample
        (N,) float64 and int32: 1 / inclusion probability, and the number of the sample; 1 and 0 for a simple random
        sample, and where there is no trusted label; `HAND_PICKED` for rows that represent no others.
    verified_as
        (N,) int8: a `VerifiedAs` each, -1 where nobody looked; of a random table, also where nobody could tell.
    draws
        The recorded draws that the trusted tables name, with their answers.
    row_image, row_label, row_annotator
        (R,) int32 per label row: image number, label, annotator (-1 where the cell is empty).
    annotators
        Names of the annotators, sorted; empty where the table has no such column.
    extra_keys, extra_trusted
        (E,) trusted images that are not in the labels table, and their labels.
    ties
        How many majorities were tied and went to the more reliable annotator, or to class order.
    missing
        Names of images that were left out because there is no such file.
    digest
        Identifies the images of the label table as it was read, in whatever order.
    hidden
        (N,) int32: the trusted labels that are held back, -1 elsewhere; None where none are.
    stratum
        (N,) int32: numbers of the strata that trusted rows may have been drawn from; None where there are none but
        the given labels.
    held_back
        Verified rows whose labels are not in `trusted`, so that nothing learns from them; None where there are
        none.
    warnings
        What a person should know before trusting the result, in full sentences.
    """

    images: pa.Array
    keys: pa.Array
    classes: tuple[str, ...]
    given: np.ndarray
    trusted: np.ndarray
    trusted_weight: np.ndarray
    trusted_sample: np.ndarray
    verified_as: np.ndarray
    draws: "Sequence[AnsweredDraw]"
    row_image: np.ndarray
    row_label: np.ndarray
    row_annotator: np.ndarray
    annotators: tuple[str, ...]
    extra_keys: pa.Array
    extra_trusted: np.ndarray
    ties: int
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    digest: int = 0
    hidden: np.ndarray | None = None
    stratum: np.ndarray | None = None
    held_back: "RandomDraw | None" = None

    @property
    def num_images(self) -> int:
        """N: the number of images that have a given label."""
        return len(self.images)

    @property
    def pairs(self) -> np.ndarray:
        """Image numbers that have both a given and a trusted label, ascending."""
        return np.flatnonzero(self.is_pair)

    @property
    def is_pair(self) -> np.ndarray:
        """Whether an image has both a given and a trusted label, (N,) bool."""
        return self.trusted != NO_LABEL

    @property
    def is_hand_picked(self) -> np.ndarray:
        """Whether the image is verified and in no sample of all images, (N,) bool: it represents no other image."""
        return self.is_pair & (self.trusted_sample == HAND_PICKED)

    @property
    def any_trusted(self) -> bool:
        """Whether there is any trusted label."""
        return bool(self.is_pair.any()) or len(self.extra_trusted) > 0

    @property
    def every_key(self) -> list[str]:
        """Keys of all images, (N + E,): the extra trusted ones come last."""
        return self.keys.to_pylist() + self.extra_keys.to_pylist()

    @property
    def every_name(self) -> list[str]:
        """Names of all images, (N + E,); those of the extra trusted ones are their keys."""
        return self.images.to_pylist() + self.extra_keys.to_pylist()

    @property
    def every_trusted(self) -> np.ndarray:
        """Trusted labels of all images, (N + E,) int32, -1 where there is none."""
        return np.concatenate([self.trusted, self.extra_trusted])

    @property
    def trusted_count(self) -> np.ndarray:
        """What each trusted image counts for in estimates for the data set, (N,); 0 where it is not trusted."""
        counts = np.zeros(self.num_images)
        rows = self.pairs
        counts[rows] = row_counts(self.trusted_weight[rows], self.trusted_sample[rows], self.num_images)
        return counts

    def revealed(self) -> "LabelTable":
        """Return the table with the labels that were held back among the trusted ones."""
        if self.hidden is None:
            return self
        trusted = np.where(self.hidden != NO_LABEL, self.hidden, self.trusted)
        return replace(self, trusted=trusted, hidden=None, held_back=None)

    def only(self, kept: np.ndarray) -> "LabelTable":
        """Return the table without some images; `kept` (N + E,) bool covers the extra trusted ones too."""
        kept_N, kept_E = kept[: self.num_images], kept[self.num_images :]
        number = np.cumsum(kept_N, dtype=np.int32) - 1
        rows = kept_N[self.row_image]
        return replace(
            self,
            images=self.images.filter(pa.array(kept_N)),
            keys=self.keys.filter(pa.array(kept_N)),
            given=self.given[kept_N],
            trusted=self.trusted[kept_N],
            trusted_weight=self.trusted_weight[kept_N],
            trusted_sample=self.trusted_sample[kept_N],
            verified_as=self.verified_as[kept_N],
            hidden=None if self.hidden is None else self.hidden[kept_N],
            stratum=None if self.stratum is None else self.stratum[kept_N],
            draws=[draw.renumbered(np.where(kept_N, number, -1)) for draw in self.draws],
            held_back=self.held_back and self.held_back.renumbered(np.where(kept_N, number, -1)),
            row_image=number[self.row_image[rows]],
            row_label=self.row_label[rows],
            row_annotator=self.row_annotator[rows],
            extra_keys=self.extra_keys.filter(pa.array(kept_E)),
            extra_trusted=self.extra_trusted[kept_E],
        )

    def with_extra(self, extra: np.ndarray) -> "LabelTable":
        """Return the table with only some of the extra trusted images, by their positions."""
        kept = np.ones(self.num_images + len(self.extra_trusted), bool)
        kept[self.num_images :] = np.isin(np.arange(len(self.extra_trusted)), extra)
        return self.only(kept)
