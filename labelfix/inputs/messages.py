"""Messages on faulty rows. A row number may run over several tables, one after the other."""

from collections.abc import Iterator

import numpy as np

from labelfix.inputs.classes import closest_class
from labelfix.inputs.encoding import Column
from labelfix.inputs.readers import RawTable

__all__ = ["describe_repeats", "describe_unknown", "name_at", "places_of"]


def _locate(tables: list[RawTable], row: int) -> tuple[int, int]:
    """Return table number and row of a row number that runs over all tables."""
    ends = np.cumsum([table.num_rows for table in tables])
    table = int(np.searchsorted(ends, row, side="right"))
    return table, int(row - (ends[table - 1] if table else 0))


def places_of(tables: list[RawTable], rows: np.ndarray) -> list[str]:
    """Return the places of a few row numbers that run over all tables; each table is searched once."""
    located = [_locate(tables, row) for row in rows]
    place_of: dict[tuple[int, int], str] = {}
    for number, table in enumerate(tables):
        table_rows = [row for t, row in located if t == number]
        if table_rows:
            place_of |= {(number, row): p for row, p in zip(table_rows, table.at(table_rows), strict=True)}
    return [place_of[table_and_row] for table_and_row in located]


def name_at(tables: list[RawTable], row: int) -> str:
    """Return the image name at a row number that runs over all tables."""
    table, table_row = _locate(tables, row)
    return tables[table].columns["image"][table_row].as_py()


def describe_repeats(
    raw: RawTable, annotators: Column, rows: np.ndarray, before: np.ndarray
) -> Iterator[str]:
    """Describe each row that repeats an earlier one, with the place of the earlier one."""
    places = raw.at([*rows, *before])
    for i, (row, other) in enumerate(zip(rows, before, strict=True)):
        name, earlier = (raw.columns["image"][int(r)].as_py() for r in (row, other))
        written = f" (written {earlier!r})" if earlier != name else ""
        by = (
            f" by annotator {annotators.values[annotators.codes[row]]!r}"
            if annotators.codes[row] >= 0
            else ""
        )
        earlier_place = places[len(rows) + i].removeprefix(f"{raw.name}, ")
        advice = "Remove one of the two" + (
            "." if by else ", or name who labelled it in an annotator column."
        )
        yield (
            f"{places[i]}: {name!r} was already labelled{by} at {earlier_place}{written}; expected one row per "
            f"image and annotator. {advice}"
        )


def describe_unknown(
    raw: RawTable, labels: Column, rows: np.ndarray, classes: tuple[str, ...]
) -> Iterator[str]:
    """Describe each row whose label is not a class, with the class that may be meant."""
    first_classes = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
    for row, place in zip(rows, raw.at(rows), strict=True):
        name = labels.values[labels.codes[row]]
        close = closest_class(name, classes)
        hint = f" Did you mean {close!r}?" if close else ""
        yield (
            f"{place}: label {name!r} is not one of the {len(classes)} classes given by --classes "
            f"({first_classes}).{hint} Fix the row, or add {name!r} to --classes."
        )
