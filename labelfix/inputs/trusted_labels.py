"""The trusted labels of all tables as one: which images, which labels, and how each row was drawn."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.design_weights import RANDOM_SAMPLE
from labelfix.inputs.draw_columns import parse_cell
from labelfix.inputs.encoding import encode
from labelfix.inputs.label_table import NO_LABEL
from labelfix.inputs.messages import name_at, places_of
from labelfix.inputs.readers import Problems, RawTable

__all__ = ["TrustedLabels", "merge_trusted"]


@dataclass(frozen=True, kw_only=True)
class TrustedLabels:
    """Trusted images (T,) by number, each once: label, sampling weight, and which draw it is from.

    `frames` has the identifiers of the images that each draw with a sampling frame is from, by its number.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    frames: dict[int, list[int]]

    def by_image(self, num_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return label, weight and draw of all images; -1, 1 and 0 where nothing is trusted."""
        label = np.full(num_images, NO_LABEL, np.int32)
        weight, sample = np.ones(num_images), np.zeros(num_images, np.int32)
        label[self.image], weight[self.image], sample[self.image] = self.label, self.weight, self.sample
        return label, weight, sample


def _positive(text: str) -> float:
    """Return the number, NaN where it is none above 0."""
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
    problems: Problems,
) -> TrustedLabels:
    """Return what is trusted, each image once; report images that have two labels, and columns of draws at fault.

    Parameters
    ----------
    tables, images, codes
        Trusted tables, and image number and label of every row of each.
    """
    frames: dict[int, list[int]] = {}
    nothing = [np.empty(0, np.int32)]
    image, label = np.concatenate(images + nothing), np.concatenate(codes + nothing)
    weight, sample = _sampling(tables, frames, problems)
    rows = np.flatnonzero((image >= 0) & (label != NO_LABEL))
    # an image that several tables name counts as part of the random sample, in whatever order they are given
    rows = rows[np.argsort(sample[rows] != RANDOM_SAMPLE, kind="stable")]
    _, first, inverse = np.unique(image[rows], return_index=True, return_inverse=True)
    origin = rows[first][inverse]
    clashes = np.flatnonzero(label[rows] != label[origin])
    here, there = rows[clashes[:SHOWN_PROBLEMS]], origin[clashes[:SHOWN_PROBLEMS]]

    def describe() -> Iterator[str]:
        places = zip(here, there, places_of(tables, here), places_of(tables, there), strict=True)
        for row, other, place, earlier in places:
            name = name_at(tables, row)
            yield (
                f"{place}: the trusted label of {name!r} is {classes[label[row]]!r}, but "
                f"{classes[label[other]]!r} at {earlier}; expected one. Keep the right one."
            )

    problems.add_many(len(clashes), describe)
    kept = rows[first]
    return TrustedLabels(
        image=image[kept], label=label[kept], weight=weight[kept], sample=sample[kept], frames=frames
    )


def _sampling(
    tables: list[RawTable], frames: dict[int, list[int]], problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sampling weight and the draw of all rows of the trusted tables.

    Draws are numbered as they come: each that ``drawn_from`` names, and each table that has weights alone.
    """
    weights, samples = [np.empty(0)], [np.empty(0, np.int32)]
    numbers: dict[str, int] = {}
    for place, raw in enumerate(tables):
        if "weight" not in raw.columns:  # all tables without weights are one
            weights.append(np.ones(raw.num_rows))
            samples.append(np.full(raw.num_rows, RANDOM_SAMPLE, np.int32))
            continue
        weights.append(_weights(raw, problems))
        if "drawn_from" in raw.columns:
            samples.append(_framed_draws(raw, numbers, frames, problems))
        else:
            number = numbers.setdefault(f"table {place}", RANDOM_SAMPLE + 1 + len(numbers))
            samples.append(np.full(raw.num_rows, number, np.int32))
    return np.concatenate(weights), np.concatenate(samples)


def _framed_draws(
    raw: RawTable, numbers: dict[str, int], frames: dict[int, list[int]], problems: Problems
) -> np.ndarray:
    """Return the draw that each row names, (R,), and add the images that it lists to those of the draw."""
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
