"""What all readers share: the names of columns, the columns as strings, and the list of faults."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import SHOWN_PROBLEMS, InputError

__all__ = ["Problems", "RawTable", "Wanted", "find_columns", "finish", "plain_title", "wanted_columns"]

# The usual names of each column. cleanlab, crowd-kit, Hugging Face and pandas users arrive with these.
IMAGE_NAMES = ("image", "file_name", "filename", "path", "file", "filepath", "image_path", "img", "task")
ANNOTATOR_NAMES = ("annotator", "worker", "annotator_id", "worker_id", "labeler", "rater")
GIVEN_NAMES = ("label", "class", "given_label", "category", "label_name")
TRUSTED_NAMES = ("trusted_label", "true_label", "verified_label")
WEIGHT_NAMES = ("weight", "sampling_weight")
DRAW_NAMES = ("draw",)
OPTIONAL = ("annotator", "weight", "draw")
STRATUM = "stratum"
OLD_FRAME = "drawn_from"  # labelfix 0.1.0 wrote it beside the weights

# For each column its names in ranks: the first rank with a name in the table counts, and there must be just one.
Wanted = Mapping[str, tuple[tuple[str, ...], ...]]


def _first_alone(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return names[:1], names[1:]


def wanted_columns(*, trusted: bool, weight: str | None = None, stratum: str | None = None) -> Wanted:
    """Return the columns to look for; in a trusted table, a trusted label comes before a given one.

    `weight` names the column of its sampling weights, None takes the usual names; `stratum` that of the strata of
    the label table.
    """
    wanted = {"image": _first_alone(IMAGE_NAMES)}
    if trusted:
        weights = _first_alone(WEIGHT_NAMES) if weight is None else ((plain_title(weight),),)
        labels = _first_alone(TRUSTED_NAMES) + _first_alone(GIVEN_NAMES)
        return wanted | {"label": labels, "weight": weights, "draw": (DRAW_NAMES,)}
    if stratum is not None:
        wanted |= {STRATUM: ((plain_title(stratum),),)}
    return wanted | {"label": _first_alone(GIVEN_NAMES), "annotator": _first_alone(ANNOTATOR_NAMES)}


class Problems:
    """Collects faults: all are counted, the first ten are described in full."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.count = 0

    def add(self, message: str) -> None:
        """Add one fault."""
        self.add_many(1, lambda: [message])

    def add_many(self, count: int, describe: Callable[[], Iterable[str]]) -> None:
        """Add `count` faults; `describe` is called, and read, only as far as there is room to show them."""
        room = SHOWN_PROBLEMS - len(self.messages)
        if count and room > 0:
            self.messages.extend(message for _, message in zip(range(room), describe(), strict=False))
        self.count += count

    def raise_if_any(self) -> None:
        """Raise one `InputError` with everything that was collected."""
        if self.count:
            raise InputError(self.messages, self.count)


def _nowhere(rows: Sequence[int]) -> list[str]:
    return [f"row {row + 1}" for row in rows]


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A label table as it was written.

    Attributes
    ----------
    name
        What to call the table in messages, for example ``labels.csv``.
    folder
        The folder the table stands in; None for a table in memory.
    columns
        ``image``, ``label`` and, where there is one, ``annotator``, ``weight`` or ``draw``: (R,)
        large_string, null where empty.
    places
        From row numbers to what a person looks up: ``line 48`` of a text file, ``row 47`` of a Parquet file.
    """

    name: str
    folder: Path | None
    columns: dict[str, pa.Array]
    places: Callable[[Sequence[int]], list[str]] = field(default=_nowhere, repr=False)

    @property
    def num_rows(self) -> int:
        """Number of label rows."""
        return len(self.columns["image"])

    @property
    def is_to_fill_in(self) -> bool:
        """Whether it lists drawn rows, which may be filled in bit by bit."""
        return "draw" in self.columns or "weight" in self.columns

    def at(self, rows: Iterable[Any]) -> list[str]:
        """Return ``labels.csv, line 48`` for each of a few row numbers."""
        return [f"{self.name}, {place}" for place in self.places([int(row) for row in rows])]


def plain_title(title: object) -> str:
    """Return a column title as the lists above write it: ``' File Name'`` is ``file_name``."""
    text = unicodedata.normalize("NFKC", str(title)).strip("\ufeff \t\r\n")
    return re.sub(r"[\s\-]+", "_", text.lower())


def find_columns(
    table: str, names: Sequence[object], wanted: Wanted, problems: Problems
) -> dict[str, int] | None:
    """Return the positions of the wanted columns among `names`; those of `OPTIONAL` may be absent."""
    plain = [plain_title(name) for name in names]
    positions: dict[str, int] = {}
    before = problems.count
    for column, ranks in wanted.items():
        if column == "weight" and OLD_FRAME in plain:  # whatever others call theirs
            ranks = _first_alone(WEIGHT_NAMES)
        hits = next((hits for rank in ranks if (hits := [i for i, t in enumerate(plain) if t in rank])), [])
        if len(hits) == 1:
            positions[column] = hits[0]
        elif hits:
            listed = ", ".join(repr(str(names[i])) for i in hits)
            problems.add(
                f"{table}: {len(hits)} columns could each be the {column} column ({listed}); expected one. "
                f"Remove the others, or name the right one {ranks[0][0]!r}."
            )
        elif column == "weight" and OLD_FRAME in plain:
            problems.add(
                f"{table}: has a column 'drawn_from' and no 'weight'; expected both, as labelfix next wrote them. "
                "Restore the column: rows that were chosen are no random sample."
            )
        elif column not in OPTIONAL:
            problems.add(
                f"{table}: has no {column} column; its columns are {_listed(names)}. Name one of them "
                f"{ranks[0][0]!r} (or {', '.join(repr(n) for n in [n for r in ranks for n in r][1:])})."
            )
    return positions if problems.count == before else None


def _listed(names: Sequence[object], shown: int = 8) -> str:
    rest = f", … ({len(names) - shown} more)" if len(names) > shown else ""
    return ", ".join(repr(str(name)[:40]) for name in names[:shown]) + rest


def finish(table: RawTable, problems: Problems) -> RawTable:
    """Trim labels and annotators, make blank cells null, and report cells that cannot be used."""
    columns = {}
    for name, values in table.columns.items():
        trimmed = pc.utf8_trim_whitespace(values)
        blank = pc.equal(trimmed, "")
        columns[name] = pc.if_else(blank, pa.scalar(None, pa.large_string()), trimmed)
        if name == "image":  # a file name may begin or end with a blank
            columns[name] = pc.if_else(blank, pa.scalar(None, pa.large_string()), values)
    table = RawTable(name=table.name, folder=table.folder, columns=columns, places=table.places)
    _report_empty_cells(table, problems)
    for name, values in columns.items():
        rows = np.flatnonzero(pc.fill_null(pc.match_substring(values, "\0"), False))
        problems.add_many(
            len(rows),
            lambda rows=rows, name=name: (  # type: ignore[misc]
                f"{place}: the {name} holds a NUL character; expected text. Correct the cell."
                for place in table.at(rows[:SHOWN_PROBLEMS])
            ),
        )
    return table


def _report_empty_cells(table: RawTable, problems: Problems) -> None:
    if table.num_rows == 0:
        problems.add(f"{table.name}: has columns but no rows; expected at least one row. Check the file.")
    # a table of drawn rows is a list of what to verify: it may be filled in bit by bit
    filled = ("image", next((name for name in ("draw", "weight") if name in table.columns), "label"))
    empty = {name: np.asarray(table.columns[name].is_null()) for name in filled}
    rows = np.flatnonzero(np.logical_or.reduce(list(empty.values())))

    def describe() -> Iterable[str]:
        shown = rows[:SHOWN_PROBLEMS]
        for row, place in zip(shown, table.at(shown), strict=True):
            named = [name for name, mask in empty.items() if mask[row]]
            what = " and the ".join(named) + (" is empty" if len(named) == 1 else " are empty")
            yield f"{place}: the {what}; expected a value. Fill the row in, or remove it."

    problems.add_many(len(rows), describe)
