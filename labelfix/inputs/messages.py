"""What is said of faulty rows. A row number may run over several tables, one after the other."""

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
    """Return the places of a few row numbers that run over all tables, asking each table once."""
    located = [_locate(tables, row) for row in rows]
    said: dict[tuple[int, int], str] = {}
    for number, table in enumerate(tables):
        own = [row for t, row in located if t == number]
        said |= {(number, row): place for row, place in zip(own, table.at(own), strict=True)} if own else {}
    return [said[place] for place in located]


def name_at(tables: list[RawTable], row: int) -> str:
    """Return the image name at a row number that runs over all tables."""
    table, own = _locate(tables, row)
    return tables[table].columns["image"][own].as_py()


def describe_repeats(raw: RawTable, who: Column, rows: np.ndarray, before: np.ndarray) -> Iterator[str]:
    """Say of each row that repeats an earlier one where that is."""
    places = raw.at([*rows, *before])
    for i, (row, other) in enumerate(zip(rows, before, strict=True)):
        name, earlier = (raw.columns["image"][int(r)].as_py() for r in (row, other))
        written = f" (written {earlier!r})" if earlier != name else ""
        by = f" by annotator {who.values[who.codes[row]]!r}" if who.codes[row] >= 0 else ""
        there = places[len(rows) + i].removeprefix(f"{raw.name}, ")
        advice = "Remove one of the two" + (
            "." if by else ", or name who labelled it in an annotator column."
        )
        yield (
            f"{places[i]}: {name!r} was already labelled{by} at {there}{written}; expected one row per image "
            f"and annotator. {advice}"
        )


def describe_unknown(
    raw: RawTable, labels: Column, rows: np.ndarray, classes: tuple[str, ...]
) -> Iterator[str]:
    """Say of each row that its label is not a class, and which class may be meant."""
    some = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
    for row, place in zip(rows, raw.at(rows), strict=True):
        name = labels.values[labels.codes[row]]
        close = closest_class(name, classes)
        hint = f" Did you mean {close!r}?" if close else ""
        yield (
            f"{place}: label {name!r} is not one of the {len(classes)} classes given by --classes ({some})."
            f"{hint} Fix the row, or add {name!r} to --classes."
        )
