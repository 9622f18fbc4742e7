"""Class lists: from ``--classes`` or from the labels that occur, and warnings about them.

K classes; a label code is an index into them.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs.readers import Problems
from labelfix.inputs.spellings import folded, shown, spelling_groups

__all__ = [
    "check_classes",
    "class_warnings",
    "closest_class",
    "count_of",
    "listed",
    "read_class_list",
    "sort_classes",
]

FEWEST_CLASSES = 2
SHOWN_CLASSES = 10


def read_class_list(
    classes: str, *, option: str = "--classes", fewest: int = FEWEST_CLASSES
) -> tuple[str, ...]:
    """Read ``--classes`` or ``--new-classes``: a file with one class per line, or a comma list.

    Raises
    ------
    InputError
        When a class is repeated, or fewer than `fewest` are named.
    """
    if not os.path.isfile(classes):
        names = [name.strip() for name in classes.split(",") if name.strip()]
        is_list_of_one = fewest == 1 and Path(classes).suffix not in (
            ".txt",
            ".csv",
        )  # a class may be called 1.0
        if len(names) == 1 and not is_list_of_one and (os.sep in classes or Path(classes).suffix):
            raise InputError(
                f"{option}: there is no file {classes!r}; expected a file or a comma list of classes."
            )
        return _checked(names, option, fewest)
    where = f"{option} {classes}"
    try:
        text = Path(classes).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8; expected one class per line. Save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}). Check its permissions.") from error
    return _checked([name.strip() for name in text.split("\n") if name.strip()], where, fewest)


def _checked(names: Sequence[str], where: str, fewest: int) -> tuple[str, ...]:
    problems = Problems()
    checked = check_classes(names, where, problems, fewest=fewest)
    problems.raise_if_any()
    return checked


def check_classes(
    names: Sequence[str], where: str, problems: Problems, *, fewest: int = FEWEST_CLASSES
) -> tuple[str, ...]:
    """Return the class names without blanks around them; report repeated, empty and too few ones."""
    names = [str(name).strip() for name in names]
    first: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name:
            problems.add(f"{where}: class {place} is empty; expected a name. Remove it.")
        elif name in first:
            problems.add(
                f"{where}: class {name!r} is named twice (places {first[name]} and {place}); expected every "
                "class once. Remove one of them."
            )
        first.setdefault(name, place)
    if len(first) < fewest:
        problems.add(
            f"{where}: names {count_of(len(first), 'class', 'classes')} ({', '.join(first)}); expected at least "
            f"{'two' if fewest > 1 else 'one'}. Name all of them, with commas between them or one per line of a "
            "file."
        )
    return tuple(first)


def sort_classes(names: set[str]) -> tuple[str, ...]:
    """Return the default class order: by value where all are whole numbers, else by spelling."""
    if all(re.fullmatch(r"-?\d{1,300}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def closest_class(name: str, classes: Sequence[str]) -> str | None:
    """Return the class that `name` is probably a misspelling of; whole numbers are never misspelt."""
    meaning = folded(name)
    same = next((other for other in classes if folded(other) == meaning), None)
    if same or meaning.removeprefix("-").isdecimal():
        return same
    return next(iter(difflib.get_close_matches(name, classes, n=1, cutoff=0.65)), None)


def class_warnings(
    classes: tuple[str, ...], given_rows: np.ndarray, trusted_rows: np.ndarray, *, trusted: bool
) -> list[str]:
    """Return what to know about the classes before relying on the result, in full sentences.

    Parameters
    ----------
    classes
        (K,) names.
    given_rows, trusted_rows
        (K,) how many label rows, and trusted images, each class has.
    trusted
        Whether there are trusted labels at all.
    """
    warnings = [
        f"classes {' and '.join(map(shown, alike))} differ only in spelling, and are taken for different classes. "
        "Spell them alike if they are one."
        for alike in spelling_groups(classes)[:SHOWN_CLASSES]
    ]
    if trusted:
        rows = given_rows + trusted_rows
        if len(missing := np.flatnonzero((trusted_rows == 0) & (given_rows > 0))):
            warnings.append(
                f"{count_of(len(missing), 'class', 'classes')} without a trusted row: "
                f"{_named(classes, missing, given_rows, rows)}. "
                "Their noise is taken from the other classes; verify a few rows of each."
            )
        if len(only := np.flatnonzero((trusted_rows > 0) & (given_rows == 0))):
            warnings.append(
                f"{count_of(len(only), 'class', 'classes')} that only the trusted labels know: "
                f"{_named(classes, only, trusted_rows, rows)}. Only trusted rows teach them."
            )
    if len(unused := np.flatnonzero(given_rows + trusted_rows == 0)):
        named = listed([repr(classes[k]) for k in unused])
        warnings.append(f"{count_of(len(unused), 'class', 'classes')} that no row has: {named}.")
    return warnings


def _named(classes: tuple[str, ...], numbers: np.ndarray, rows: np.ndarray, all_rows: np.ndarray) -> str:
    hints = [_with_hint(classes, int(k), int(rows[k]), all_rows) for k in numbers[:SHOWN_CLASSES]]
    return listed(hints + [""] * (len(numbers) - len(hints)))


def _with_hint(classes: tuple[str, ...], k: int, rows: int, all_rows: np.ndarray) -> str:
    """Name a class, and the frequent class that it may be a misspelling of."""
    name = repr(classes[k])
    if rows <= 3:
        frequent = [classes[j] for j in np.flatnonzero(all_rows > 10 * rows)]
        if close := closest_class(classes[k], frequent):
            return f"{name} ({count_of(rows, 'row', 'rows')}; a typo of {close!r}?)"
    return name


def count_of(count: int, one: str, many: str) -> str:
    """Return ``1 row`` or ``1,000 rows``."""
    return f"{count:,} {one if count == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """Return the first ten names with commas between them, and how many more there are."""
    rest = f", … ({len(names) - SHOWN_CLASSES:,} more)" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + rest
