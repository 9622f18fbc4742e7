"""What every draw has in common: the rows to verify, the table of a list, and the two files that are written.

n drawn rows, L rows of a list.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from labelfix.errors import OutputError, SettingError
from labelfix.inputs.draws import Draw, draw_path
from labelfix.risk_control.plan import Plan
from labelfix.system.files import write_new_file

__all__ = ["Verification", "check_count", "check_new", "listed_table", "write_draw"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Rows to verify.

    Attributes
    ----------
    draw
        What is recorded.
    plan, options
        The chance of the promise that they are for, and that of other numbers of rows; none for a sample.
    """

    draw: Draw
    plan: Plan | None = None
    options: Sequence[Plan] = field(default=())

    @property
    def table(self) -> pa.Table:
        """The rows in the order to verify them in, (n,): image, given_label, suggestion, confidence."""
        return self.draw.table.take(self.draw.drawn).drop_columns(["position", "chance"])


def write_draw(
    found: Verification, path: str | os.PathLike[str], *, show_given: bool = False, force: bool = False
) -> None:
    """Write the table for a person as CSV, and the record of the draw beside it.

    The table has the columns image, trusted_label (to be filled in), draw and, with `show_given`, given_label and
    suggestion.

    Raises
    ------
    OutputError
        When `path` is not called ``.csv``, exists and `force` is false, or cannot be written.
    """
    path = check_new(path, force=force)
    rows = found.table
    columns = {
        "image": rows["image"],
        "trusted_label": pa.nulls(len(rows), pa.string()),
        "draw": pa.array([found.draw.id] * len(rows), pa.string()),
    }
    if show_given:
        columns |= {name: rows[name] for name in ("given_label", "suggestion")}

    def write(temporary: Path) -> None:
        found.draw.write(draw_path(path))  # first: a table without its record is of no use
        csv.write_csv(pa.table(columns), temporary)

    write_new_file(path, write, force=force)


def check_new(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Return a path that a table for a person may be written to, with the record beside it.

    Raises
    ------
    OutputError
        When it is not called ``.csv``, or one of the two exists and `force` is false.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise OutputError(f"{path}: expected a name that ends in .csv. Choose another --out.")
    for file in (path, draw_path(path)):
        if file.exists() and not force:
            raise OutputError(f"{file}: already exists. Choose another --out, or replace it with --force.")
    return path


def check_count(count: int) -> None:
    """Check the number of rows to draw."""
    if count < 1:
        raise SettingError(f"-n: got {count}; expected at least 1 row.")


def listed_table(
    images: Any,
    given: Any,
    position: np.ndarray,
    chance: np.ndarray,
    *,
    suggestion: Any = None,
    confidence: np.ndarray | None = None,
) -> pa.Table:
    """Return the table of a `Draw` from its columns, each (L,); `position` is -1 where a row was not drawn."""
    nothing = pa.nulls(len(position), pa.string())
    return pa.table(
        {
            "image": images,
            "given_label": given,
            "suggestion": nothing if suggestion is None else suggestion,
            "confidence": pa.array(
                confidence if confidence is not None else [None] * len(position), pa.float64()
            ),
            "position": pa.array(position, mask=position < 0),
            "chance": chance,
        }
    )
