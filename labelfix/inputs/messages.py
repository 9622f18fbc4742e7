"""Messages on faulty rows. A row number may run over several tables, one after the other."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from labelfix.inputs.classes import closest_class, count_of, listed
from labelfix.inputs.encoding import Column, count_values
from labelfix.inputs.null_words import is_null_word
from labelfix.inputs.readers import RawTable
from labelfix.inputs.spellings import shown

__all__ = [
    "describe_new_labels",
    "describe_no_common_class",
    "describe_repeats",
    "describe_spellings",
    "describe_unknown",
    "name_at",
    "no_label_advice",
    "places_of",
]


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
    for row, place in zip(rows, raw.at(rows), strict=True):
        name = labels.values[labels.codes[row]]
        close = closest_class(name, classes)
        hint = f" Did you mean {close!r}?" if close else ""
        yield (
            f"{place}: label {name!r} is not one of the {len(classes)} classes given by --classes "
            f"({_first(classes)}).{hint} Fix the row, or add {name!r} to --classes."
        )


def describe_new_labels(
    trusted: list[RawTable], labels: list[Column], names: Sequence[str], classes: tuple[str, ...]
) -> Iterator[str]:
    """Describe each trusted label that is no class: count, first row, and the class that may be meant."""
    rows = count_values(labels)
    for name in names:
        raw, column = next(pair for pair in zip(trusted, labels, strict=True) if name in pair[1].values)
        first_row = int(np.argmax(column.codes == column.values.index(name)))
        close = closest_class(name, classes)
        hint = f" Did you mean {shown(close)}?" if close else ""
        hint += f" If it means no label, {no_label_advice(raw)}." if is_null_word(name) else ""
        yield (
            f"{raw.at([first_row])[0]}: the trusted label {shown(name)} ({count_of(rows[name], 'row', 'rows')}) is "
            f"one that no given row has; expected one of the {len(classes)} classes ({_first(classes)}).{hint} "
            "Correct it, or name it with --new-classes if it is a class."
        )


def describe_no_common_class(
    tables: list[RawTable], classes: tuple[str, ...], trusted_labels: tuple[str, ...]
) -> str:
    """Describe tables of given and trusted labels that have no class in common, with three labels of each."""
    where = ", ".join(raw.name for raw in tables[1:])
    return (
        f"{where}: none of its labels ({_first(trusted_labels)}) is one of the {len(classes)} classes of "
        f"{tables[0].name} ({_first(classes)}); expected classes in common. Check that the tables belong together, "
        "and name the classes alike, or name those that no given row has with --new-classes."
    )


def describe_spellings(tables: list[RawTable], labels: list[Column], class_of: Mapping[str, str]) -> str:
    """Describe the pairs of labels that are one class in two spellings, with their rows.

    Parameters
    ----------
    class_of
        From every other spelling of a class to the one with most given rows.
    """
    given, trusted = count_values(labels[:1]), count_values(labels[1:])

    def counted(name: str) -> str:
        sides = [(rows[name], side) for rows, side in ((given, "given"), (trusted, "trusted")) if rows[name]]
        return f"{shown(name)} ({', '.join(count_of(n, f'{side} row', f'{side} rows') for n, side in sides)})"

    pairs = [f"{counted(best)} and {counted(name)}" for name, best in class_of.items()]
    where = [
        raw.name for raw, column in zip(tables, labels, strict=True) if class_of.keys() & set(column.values)
    ]
    return (
        f"{', '.join(where)}: {count_of(len(pairs), 'pair of labels differs', 'pairs of labels differ')} only in "
        f"spelling: {listed(pairs)}; expected one spelling of each class. Correct the labels, or take each pair as "
        "one class with --spellings merge, or as two, such as the letters a and A, with --spellings keep."
    )


def no_label_advice(raw: RawTable) -> str:
    """Return what to do with cells that mean no label; a list of rows to verify is filled in bit by bit."""
    return "empty these cells" if raw.is_to_fill_in else "remove these rows"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
