"""The trusted labels of all tables as one: which images, which labels, and how each row came to be verified."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.answers import AnsweredDraw
from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE
from labelfix.inputs.draws import Purpose
from labelfix.inputs.encoding import encode
from labelfix.inputs.label_table import NO_LABEL, VerifiedAs
from labelfix.inputs.messages import name_at, places_of
from labelfix.inputs.readers import Problems, RawTable

__all__ = ["TrustedLabels", "merge_trusted"]


@dataclass(frozen=True, kw_only=True)
class TrustedLabels:
    """Trusted images (T,) by number, each once: label, sampling weight, number of the sample, and `VerifiedAs`.

    `unsure` are the numbers of the images of a random table of which nobody can tell the label.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    verified_as: np.ndarray
    unsure: np.ndarray

    def by_image(self, num_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return label, weight, sample and verified_as of all images; -1, 1, 0 and -1 where nothing is trusted."""
        label = np.full(num_images, NO_LABEL, np.int32)
        weight, sample = np.ones(num_images), np.zeros(num_images, np.int32)
        verified_as = np.full(num_images, NO_LABEL, np.int8)
        label[self.image], weight[self.image], sample[self.image] = self.label, self.weight, self.sample
        verified_as[self.unsure] = VerifiedAs.RANDOM
        verified_as[self.image] = self.verified_as
        return label, weight, sample, verified_as


def _positive(text: str) -> float:
    """Return a number above 0; NaN for any other text."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan


def merge_trusted(
    tables: list[RawTable],
    images: list[np.ndarray],
    codes: list[np.ndarray],
    classes: tuple[str, ...],
    hand_picked: list[RawTable],
    draws: Sequence[AnsweredDraw],
    draw_of_row: list[np.ndarray],
    unsure: list[np.ndarray],
    problems: Problems,
) -> TrustedLabels:
    """Return the trusted labels, each image once; report images with two labels, and wrong weights.

    Parameters
    ----------
    tables, images, codes
        Trusted tables, and image number and label of every row of each.
    hand_picked
        Those of the tables whose images a person chose.
    draws, draw_of_row
        From `labelfix.inputs.answers.answered_draws`.
    unsure
        Whether each row of each table is marked ``?``.
    """
    empty = [np.empty(0, np.int32)]
    image, label = np.concatenate(images + empty), np.concatenate(codes + empty)
    parts = _sampling(tables, images, hand_picked, draws, draw_of_row, problems)
    weight, sample, verified_as = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = np.flatnonzero((image >= 0) & (label != NO_LABEL))
    # an image that several tables name counts as part of the random sample, else of a draw, in whatever order
    rank = np.select([sample == RANDOM_SAMPLE, sample == HAND_PICKED], [0, 2], 1)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    _, first, inverse = np.unique(image[rows], return_index=True, return_inverse=True)
    first_rows = rows[first][inverse]
    clashes = np.flatnonzero(label[rows] != label[first_rows])
    clashing, against = rows[clashes[:SHOWN_PROBLEMS]], first_rows[clashes[:SHOWN_PROBLEMS]]

    def describe() -> Iterator[str]:
        places = zip(places_of(tables, clashing), places_of(tables, against), strict=True)
        for row, first_row, (place, first_place) in zip(clashing, against, places, strict=True):
            yield (
                f"{place}: the trusted label of {name_at(tables, row)!r} is {classes[label[row]]!r}, but "
                f"{classes[label[first_row]]!r} at {first_place}; expected one. Keep the right one."
            )

    problems.add_many(len(clashes), describe)
    kept = rows[first]
    doubtful = (
        np.concatenate([*unsure, np.empty(0, bool)]) & (verified_as == VerifiedAs.RANDOM) & (image >= 0)
    )
    return TrustedLabels(
        image=image[kept],
        label=label[kept],
        weight=weight[kept],
        sample=sample[kept],
        verified_as=verified_as[kept],
        unsure=np.setdiff1d(image[doubtful], image[kept]),
    )


def _sampling(
    tables: list[RawTable],
    images: list[np.ndarray],
    hand_picked: list[RawTable],
    draws: Sequence[AnsweredDraw],
    draw_of_row: list[np.ndarray],
    problems: Problems,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield weight, sample and `VerifiedAs` of the rows of each trusted table; first nothing, for no table.

    Tables of weights and stratified samples are samples of their own, numbered from 1 on.
    """
    yield np.empty(0), np.empty(0, np.int32), np.empty(0, np.int8)
    for position, raw in enumerate(tables):
        weight, sample = np.ones(raw.num_rows), np.full(raw.num_rows, HAND_PICKED, np.int32)
        verified_as = np.full(raw.num_rows, VerifiedAs.HAND_PICKED, np.int8)
        if any(raw is table for table in hand_picked):
            pass
        elif "draw" in raw.columns:
            for number, draw in enumerate(draws):
                rows = np.flatnonzero((draw_of_row[position] == number) & (images[position] >= 0))
                verified_as[rows] = VerifiedAs.DRAWN
                if draw.draw.purpose is Purpose.SAMPLE:
                    seen = rows[np.isin(images[position][rows], draw.drawn_row[: draw.looked])]
                    sample[seen], weight[seen] = _sample_of(
                        draw, images[position][seen], len(tables) + number
                    )
        elif "weight" in raw.columns:
            weight, sample[:] = _weights(raw, problems), RANDOM_SAMPLE + 1 + position
            verified_as[:] = VerifiedAs.DRAWN
        else:  # all tables without weights are one random sample
            sample[:], verified_as[:] = RANDOM_SAMPLE, VerifiedAs.RANDOM
        yield weight, sample, verified_as


def _sample_of(draw: AnsweredDraw, images: np.ndarray, number: int) -> tuple[int, np.ndarray]:
    """Return the number of the sample that rows of a draw are in, and their weights."""
    if draw.draw.is_simple_random:
        return RANDOM_SAMPLE, np.ones(len(images))
    chance = draw.draw.table["chance"].to_numpy()[draw.draw.drawn] * draw.looked / len(draw.answer)
    chance_of = dict(zip(draw.drawn_row.tolist(), chance.tolist(), strict=True))
    return RANDOM_SAMPLE + 1 + number, np.array([1 / chance_of[image] for image in images.tolist()])


def _weights(raw: RawTable, problems: Problems) -> np.ndarray:
    column = encode(raw.columns["weight"])
    values = np.array([*map(_positive, column.values), np.nan])[column.codes]
    wrong = np.flatnonzero(np.isnan(values) & (column.codes >= 0))
    problems.add_many(
        len(wrong),
        lambda: (
            f"{place}: the weight is {column.values[column.codes[row]]!r}; expected a number above 0, in "
            "proportion to 1 / probability of having been drawn. Correct the cell."
            for row, place in zip(wrong, raw.at(wrong[:SHOWN_PROBLEMS]), strict=False)
        ),
    )
    return values
