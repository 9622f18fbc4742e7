"""The fixes that verified rows were drawn from, written into the table of those rows and read back.

A row's weight says with which chance it was drawn, but not which other fixes could have been drawn in its place.
These are the draw's sampling frame. `labelfix.guarantees` needs it: of the fixes in the frame, and of no others,
the rows drawn are a simple random sample. So ``labelfix next`` writes the frame into the column ``drawn_from`` of
the rows to verify, each row with itself, where it is of the frame, and an equal share of the others. So if rows
get lost, those that are left still are a random sample of what they list together. Images stand there as
identifiers of 48 bits, in letters, so that names of any kind pass through any spreadsheet.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from labelfix.folds import hash_keys

__all__ = ["frame_cells", "image_ids", "parse_frame"]

LETTERS = "abcdefghijklmnop"
LENGTH = 12
CELL = re.compile(rf"[{LETTERS[0]}-{LETTERS[-1]}]{{{LENGTH}}}( +[{LETTERS[0]}-{LETTERS[-1]}]{{{LENGTH}}})*")
TO_HEX = str.maketrans(LETTERS, "0123456789abcdef")
TO_LETTERS = str.maketrans("0123456789abcdef", LETTERS)


def image_ids(names: Iterable[str]) -> np.ndarray:
    """Return the identifier of every image name, (n,) uint64 below 2 ** 48."""
    return hash_keys(names, 0) >> np.uint64(64 - 4 * LENGTH)


def frame_cells(frame: np.ndarray, rows: np.ndarray) -> list[str | None]:
    """Return the cells of the column, None for an empty one.

    Parameters
    ----------
    frame
        Identifiers of the images in the frame.
    rows
        (n,) identifiers of the images in the table.
    """
    others = [_word(number) for number in np.setdiff1d(frame, rows).tolist()]
    own = [
        [_word(number)] if inside else [] for number, inside in zip(rows, np.isin(rows, frame), strict=True)
    ]
    return [" ".join(own[row] + others[row :: len(rows)]) or None for row in range(len(rows))]


def _word(number: int) -> str:
    return f"{number:0{LENGTH}x}".translate(TO_LETTERS)


def parse_frame(cells: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Return the identifiers in some cells, ascending, and the places of the cells that hold something else."""
    wrong = [place for place, cell in enumerate(cells) if not CELL.fullmatch(cell)]
    broken = set(wrong)
    words = [word for place, cell in enumerate(cells) if place not in broken for word in cell.split()]
    return np.unique(np.array([int(word.translate(TO_HEX), 16) for word in words], np.uint64)), wrong
