"""The sampling frame of a draw, written into the table of its rows and read back.

A row's weight gives its inclusion probability, but not which fixes could have been sampled in its place: these are
the sampling frame of the draw. `labelfix.risk_control.promise` needs it, because the sampled rows are a
random sample of the fixes in the frame and of no others. ``labelfix next`` writes the frame into the column
``drawn_from`` of the rows to verify. A cell holds the draw, a colon, and images of the frame: the row's own, if it
is in the frame, and an equal share of those that were not sampled. So if rows get lost, those that are left are
still a random sample of what they list together, and tables of one draw can be joined. Draws and images are written
as identifiers of 48 bits, in letters, so that names of any kind pass through any spreadsheet.
"""

import re
from collections.abc import Iterable

import numpy as np

from labelfix.system.folds import hash_keys

__all__ = ["frame_cells", "image_ids", "parse_cell"]

LETTERS = "abcdefghijklmnop"
LENGTH = 12
WORD = rf"[{LETTERS[0]}-{LETTERS[-1]}]{{{LENGTH}}}"
CELL = re.compile(rf"({WORD}) ?:((?: +{WORD})*)")
TO_HEX = str.maketrans(LETTERS, "0123456789abcdef")
TO_LETTERS = str.maketrans("0123456789abcdef", LETTERS)


def image_ids(names: Iterable[str]) -> np.ndarray:
    """Return the identifier of every image name, (n,) uint64 below 2 ** 48."""
    return hash_keys(names, 0) >> np.uint64(64 - 4 * LENGTH)


def frame_cells(frame: np.ndarray, rows: np.ndarray, settings: str) -> list[str]:
    """Return the cells of the column, (n,).

    Parameters
    ----------
    frame
        Identifiers of the images in the sampling frame; may be empty.
    rows
        (n,) identifiers of the images in the table.
    settings
        What else identifies the draw: it tells draws from the same frame apart.
    """
    frame = np.unique(frame)
    draw = _word(int(image_ids([f"{settings} {frame.tolist()}"])[0]))
    unsampled = [_word(number) for number in np.setdiff1d(frame, rows).tolist()]
    sampled = [
        [_word(number)] if inside else [] for number, inside in zip(rows, np.isin(rows, frame), strict=True)
    ]
    return [" ".join([f"{draw}:", *sampled[row], *unsampled[row :: len(rows)]]) for row in range(len(rows))]


def parse_cell(cell: str) -> tuple[str, list[int]] | None:
    """Return the draw that a cell names, and the identifiers that it lists; None for any other text."""
    match = CELL.fullmatch(cell)
    return match and (match[1], [int(word.translate(TO_HEX), 16) for word in match[2].split()])


def _word(number: int) -> str:
    return f"{number:0{LENGTH}x}".translate(TO_LETTERS)
