"""The trusted labels of all tables as one: which images, which labels, and how each row was sampled."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE
from labelfix.inputs.draw_columns import parse_cell
from labelfix.inputs.encoding import encode
from labelfix.inputs.label_table import NO_LABEL
from labelfix.inputs.messages import name_at, places_of
from labelfix.inputs.readers import Problems, RawTable

__all__ = ["TrustedLabels", "merge_trusted"]


@dataclass(frozen=True, kw_only=True)
class TrustedLabels:
    """Trusted images (T,) by number, each once: label, sampling weight, and number of the draw.

    `sampling_frames` maps the number of a draw to the identifiers of the images in its sampling frame.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    sampling_frames: dict[int, list[int]]

    def by_image(self, num_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return label, weight and draw of all images; -1, 1 and 0 where nothing is trusted."""
        label = np.full(num_images, NO_LABEL, np.int32)
        weight, sample = np.ones(num_images), np.zeros(num_images, np.int32)
        label[self.image], weight[self.image], sample[self.image] = self.label, self.weight, self.sample
        return label, weight, sample


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
    problems: Problems,
) -> TrustedLabels:
    """Return the trusted labels, each image once; report images with two labels, and wrong columns of draws.

    Parameters
    ----------
    tables, images, codes
        Trusted tables, and image number and label of every row of each.
    hand_picked
        Those of the tables whose images a person chose.
    """
    frames: dict[int, list[int]] = {}
    empty = [np.empty(0, np.int32)]
    image, label = np.concatenate(images + empty), np.concatenate(codes + empty)
    weight, sample = _sampling(tables, frames, hand_picked, problems)
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
    return TrustedLabels(
        image=image[kept], label=label[kept], weight=weight[kept], sample=sample[kept], sampling_frames=frames
    )


def _sampling(
    tables: list[RawTable], frames: dict[int, list[int]], hand_picked: list[RawTable], problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sampling weight and the draw of all rows of the trusted tables; add to `frames`.

    Draws are numbered in order of appearance: each that ``drawn_from`` names, and each table with nothing but
    weights.
    """
    weights, samples = [np.empty(0)], [np.empty(0, np.int32)]
    numbers: dict[str, int] = {}
    for position, raw in enumerate(tables):
        if any(raw is table for table in hand_picked):
            weights.append(np.ones(raw.num_rows))
            samples.append(np.full(raw.num_rows, HAND_PICKED, np.int32))
            continue
        if "weight" not in raw.columns:  # all tables without weights are one random sample
            weights.append(np.ones(raw.num_rows))
            samples.append(np.full(raw.num_rows, RANDOM_SAMPLE, np.int32))
            continue
        weights.append(_weights(raw, problems))
        if "drawn_from" in raw.columns:
            samples.append(_framed_draws(raw, numbers, frames, problems))
        else:
            number = numbers.setdefault(f"table {position}", RANDOM_SAMPLE + 1 + len(numbers))
            samples.append(np.full(raw.num_rows, number, np.int32))
    return np.concatenate(weights), np.concatenate(samples)


def _framed_draws(
    raw: RawTable, numbers: dict[str, int], frames: dict[int, list[int]], problems: Problems
) -> np.ndarray:
    """Return the draw that each row names, (R,), and add the images that it lists to the frame of the draw."""
    column = encode(raw.columns["drawn_from"])
    draws = np.full(len(column.values) + 1, RANDOM_SAMPLE, np.int32)
    for code, cell in enumerate(column.values):
        if parsed := parse_cell(cell):
            draw, ids = parsed
            draws[code] = numbers.setdefault(draw, RANDOM_SAMPLE + 1 + len(numbers))
            frames.setdefault(int(draws[code]), []).extend(ids)
    draw_of_row = draws[column.codes]
    wrong = np.flatnonzero(draw_of_row == RANDOM_SAMPLE)
    problems.add_many(
        len(wrong),
        lambda: (
            f"{place}: the drawn_from is not what labelfix next wrote there; expected words of twelve letters. "
            "Restore the cell from the table that it wrote."
            for place in raw.at(wrong[:SHOWN_PROBLEMS])
        ),
    )
    return draw_of_row


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
