"""Recorded draws: what was drawn, from what, in which order; frozen when it was made.

A draw is a Parquet file ``NAME.draw.parquet`` beside the table that a person fills in; the table has only its
identifier. n drawn rows of L listed ones.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError, OutputError
from labelfix.system.files import replace_file

__all__ = [
    "HAND_PICKED_WORD",
    "Draw",
    "Purpose",
    "draw_path",
    "draws_of",
    "find_draws",
    "keep_record",
    "next_number",
    "read_draws",
]

DRAW_SUFFIX = ".draw.parquet"
METADATA_KEY = b"labelfix"
HAND_PICKED_WORD = "hand-picked"
TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


class Purpose(StrEnum):
    """What rows were drawn for: a random sample of the data set, a promise of fixes, or one of all labels."""

    SAMPLE = "sample"
    FIXES = "fix-error"
    LABELS = "label-error"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A frozen list and the rows drawn from it.

    Attributes
    ----------
    purpose
        What the rows were drawn for.
    table
        (L,) rows: `image`; `given_label`; `suggestion` and its `confidence` at that moment (null in a sample);
        `position`, 0 to n - 1 in the random order, null for rows that were not drawn; `chance` of being drawn.
        A list is in its frozen order, the most confident row first. A sample of a very large data set lists the
        drawn rows only.
    settings
        Plain values: `seed`; `number`, which list of the data set it is; `size`, how many rows it was drawn from;
        `sizes` of the nested sets, `max_error` and `coverage` of a list; the run and the version that made it.
    """

    purpose: Purpose
    table: pa.Table
    settings: dict[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """The identifier: ten letters that follow from the content."""
        total = hashlib.blake2b(
            json.dumps([self.purpose, self.settings], sort_keys=True).encode(), digest_size=5
        )
        for name in ("image", "suggestion", "position"):
            total.update(json.dumps(self.table[name].to_pylist()).encode("utf-8", "surrogatepass"))
        return total.hexdigest().translate(TO_LETTERS)

    @functools.cached_property
    def drawn(self) -> np.ndarray:
        """(n,) places in `table` of the drawn rows, in the order in which they were drawn."""
        position = self.table["position"].fill_null(-1).to_numpy()
        return np.flatnonzero(position >= 0)[np.argsort(position[position >= 0])]

    @property
    def is_simple_random(self) -> bool:
        """Whether all rows had the same chance."""
        return len(self.table["chance"].unique()) <= 1

    def write(self, path: Path) -> None:
        """Write the record.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        content = {"id": self.id, "purpose": str(self.purpose), "settings": self.settings}
        table = self.table.replace_schema_metadata({METADATA_KEY: json.dumps(content)})
        replace_file(path, lambda temporary: pq.write_table(table, temporary))

    @classmethod
    def read(cls, path: Path) -> "Draw":
        """Read a record.

        Raises
        ------
        InputError
            When it cannot be read, or is not as it was written.
        """
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
            content = json.loads(table.schema.metadata[METADATA_KEY])
            draw = cls(
                purpose=Purpose(content["purpose"]),
                table=table.replace_schema_metadata(None),
                settings=content["settings"],
            )
            intact = draw.id == content["id"]
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is not the record of a draw ({error}). Restore the file.") from None
        if not intact:
            raise InputError(
                f"{path}: was changed after it was written; expected it as it was. Restore the file."
            )
        return draw


def next_number(earlier: Iterable[Draw], purpose: Purpose) -> int:
    """Return the number of the next list of a data set, given the records of earlier ones."""
    return 1 + max((int(d.settings["number"]) for d in earlier if d.purpose is purpose), default=0)


def keep_record(draw: Draw, folder: Path) -> None:
    """Write the record of a draw into the folder of a run.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}). Move what is in its place."
        ) from None
    draw.write(folder / f"{draw.id}{DRAW_SUFFIX}")


def draw_path(table: Path) -> Path:
    """Return where the record of a draw goes that the table `table` was written for."""
    return table.with_name(table.stem + DRAW_SUFFIX)


def find_draws(places: Iterable[str | os.PathLike[str]]) -> dict[str, Path]:
    """Return the records in folders, or named, by identifier; the first place counts.

    Raises
    ------
    InputError
        When a place does not exist, or holds something else under the name of a record.
    """
    found: dict[str, Path] = {}
    for place in map(Path, places):
        if not place.exists():
            raise InputError(f"--draws: {place}: does not exist; expected the record of a draw, or a folder.")
        for path in sorted(place.glob(f"*{DRAW_SUFFIX}")) if place.is_dir() else [place]:
            found.setdefault(_identifier(path), path)
    return found


def read_draws(folder: Path) -> list[Draw]:
    """Return all records in a folder; none where there is no such folder."""
    return _read_all([folder]) if folder.is_dir() else []


def draws_of(digest: int, places: Iterable[str | os.PathLike[str]]) -> list[Draw]:
    """Return the records in some places that are of a label table with this digest, used or not."""
    return [draw for draw in _read_all(places) if draw.settings.get("table_digest") == digest]


def _read_all(places: Iterable[str | os.PathLike[str]]) -> list[Draw]:
    return [Draw.read(path) for path in find_draws(places).values()]


def _identifier(path: Path) -> str:
    try:
        return str(json.loads(pq.read_schema(path).metadata[METADATA_KEY])["id"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not the record of a draw ({error}). Restore the file, or move it."
        ) from None
