"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators.

Nothing is trained before everything here has passed. N images, R label rows, K classes, E extra trusted
images (trusted, but without a given label). Every image keeps the row number it gets here: its place in the
order of first appearance in the labels table.
"""

import difflib
import posixpath
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.tables import Problems, RawTable, read_table

__all__ = ["LabelTable", "read_class_list", "read_label_table"]

# What turns the names of one table into identities: (names, folder of the table) -> keys, None where unknown.
Identify = Callable[[list[str], Path | None], list[str | None]]
NO_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The validated input.

    Attributes
    ----------
    images
        (N,) large_string: names as the labels table writes them, in order of first appearance.
    keys
        (N,) large_string: what identifies each image (for a folder: its path relative to the folder).
    classes
        (K,) class names; every label below is an index into them.
    given
        (N,) int32: the given label; with several annotators their majority.
    trusted
        (N,) int32: the trusted label, -1 where there is none.
    row_image, row_label, row_annotator
        (R,) int32 per label row: image number, label, annotator (-1 where the cell is empty).
    annotators
        Names of the annotators; empty where the table has no such column.
    extra_keys, extra_trusted
        (E,) trusted images that are not in the labels table, and their labels.
    ties
        How many majorities were tied and went to the first class in class order.
    missing
        Names of images that were left out because there is no such file.
    warnings
        What a person should know before trusting the result, in full sentences.
    """

    images: pa.Array
    keys: pa.Array
    classes: tuple[str, ...]
    given: np.ndarray
    trusted: np.ndarray
    row_image: np.ndarray
    row_label: np.ndarray
    row_annotator: np.ndarray
    annotators: tuple[str, ...]
    extra_keys: pa.Array
    extra_trusted: np.ndarray
    ties: int
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def num_images(self) -> int:
        """N: the number of images that have a given label."""
        return len(self.images)

    @property
    def pairs(self) -> np.ndarray:
        """Image numbers that have both a given and a trusted label, ascending."""
        return np.flatnonzero(self.trusted != NO_LABEL)

    def only(self, kept: np.ndarray) -> "LabelTable":
        """Return the table without some images; `kept` (N + E,) bool covers the extra trusted ones too."""
        kept_N, kept_E = kept[: self.num_images], kept[self.num_images :]
        number = np.cumsum(kept_N, dtype=np.int32) - 1
        rows = kept_N[self.row_image]
        return replace(
            self,
            images=self.images.filter(pa.array(kept_N)),
            keys=self.keys.filter(pa.array(kept_N)),
            given=self.given[kept_N],
            trusted=self.trusted[kept_N],
            row_image=number[self.row_image[rows]],
            row_label=self.row_label[rows],
            row_annotator=self.row_annotator[rows],
            extra_keys=self.extra_keys.filter(pa.array(kept_E)),
            extra_trusted=self.extra_trusted[kept_E],
        )

    def with_extra(self, extra: np.ndarray) -> "LabelTable":
        """Return the table with only some of the extra trusted images, by their positions."""
        kept = np.ones(self.num_images + len(self.extra_trusted), bool)
        kept[self.num_images :] = np.isin(np.arange(len(self.extra_trusted)), extra)
        return self.only(kept)


def read_class_list(classes: str) -> tuple[str, ...]:
    """Read ``--classes``: a file with one class per line, or a comma list.

    Raises
    ------
    InputError
        When a class is repeated, or fewer than two are named.
    """
    path = Path(classes)
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; expected one class per line. Save it as UTF-8.") from None
    names = [name.strip() for name in (text.splitlines() if text is not None else classes.split(","))]
    return _check_classes([name for name in names if name], "--classes")


def _check_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    repeated = (
        sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    )
    if repeated:
        raise InputError(f"{where}: {repeated[0]!r} is named twice; expected every class once.")
    if len(names) < 2:
        raise InputError(f"{where}: names {len(names)} class{'es' * (not names)}; expected at least two.")
    return tuple(names)


def lexical_keys(names: list[str], folder: Path | None) -> list[str | None]:
    """Identify images by their normalised names alone, for sources that are not a folder of images."""
    return [_normal_name(name) for name in names]


def _normal_name(name: str) -> str:
    return posixpath.normpath(unicodedata.normalize("NFC", name))


def read_label_table(
    labels: Any,
    trusted: Any = None,
    *,
    classes: Sequence[str] | None = None,
    identify: Identify = lexical_keys,
    skip_missing: bool = False,
) -> LabelTable:
    """Read and validate the labels and the trusted labels.

    Parameters
    ----------
    labels
        Path or table with ``image``, ``label`` and optionally ``annotator``.
    trusted
        Path or table with ``image`` and ``label``, a list of them, or None.
    classes
        Class names in order; None takes the labels that occur, sorted (by value when all are integers).
    identify
        Turns names into identities; `labelfix.images.ImageFolder.identify` for a folder of images.
    skip_missing
        Leave rows out whose image `identify` does not know, listing them in `missing`, instead of failing.

    Raises
    ------
    InputError
        With every fault: unknown files, repeated rows, empty cells, contradicting trusted labels, labels that
        are not in `classes`.
    """
    problems = Problems()
    given_raw = read_table(labels, problems)
    sources = [] if trusted is None else list(trusted) if isinstance(trusted, (list, tuple)) else [trusted]
    trusted_raw = [read_table(source, problems, trusted=True) for source in sources]
    if given_raw is None or None in trusted_raw:
        problems.raise_if_any()
    assert given_raw is not None
    return _Builder(problems, identify, skip_missing).build(
        given_raw, [raw for raw in trusted_raw if raw is not None], classes
    )


@dataclass(frozen=True)
class _Column:
    """One dictionary-encoded column: `codes` (R,) int32 into `values`, -1 where null."""

    codes: np.ndarray
    values: list[str]


def _encode(column: pa.Array) -> _Column:
    encoded = pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return _Column(codes, encoded.dictionary.to_pylist())


class _Builder:
    def __init__(self, problems: Problems, identify: Identify, skip_missing: bool):
        self.problems = problems
        self.identify = identify
        self.skip_missing = skip_missing
        self.missing: list[str] = []
        self.warnings: list[str] = []

    def build(
        self, given: RawTable, trusted: list[RawTable], wanted_classes: Sequence[str] | None
    ) -> LabelTable:
        if wanted_classes is not None:
            wanted_classes = _check_classes(list(wanted_classes), "--classes")
        images = [self._identify(raw) for raw in (given, *trusted)]
        labels = [_encode(raw.columns["label"]) for raw in (given, *trusted)]
        classes = self._classes(labels, wanted_classes)
        codes = [
            self._label_codes(raw, label, classes, wanted_classes is not None)
            for raw, label in zip((given, *trusted), labels, strict=True)
        ]
        annotator = given.columns.get("annotator")
        nobody = _Column(np.full(given.num_rows, -1, np.int32), [])
        who = _encode(annotator) if annotator is not None else nobody
        self._report_repeats(given, images[0], who)
        truth = self._merge_trusted(trusted, images[1:], codes[1:], classes)
        self.problems.raise_if_any()
        return self._assemble(given, images[0], codes[0], who, truth, classes)

    # ------------------------------------------------------------------------------------------------ images

    def _identify(self, raw: RawTable) -> _Column:
        """Return every row's image identity; -1 where the cell is empty or the image unknown."""
        names = _encode(raw.columns["image"])
        keys = self.identify(names.values, raw.folder)
        number_of: dict[str, int] = {}
        lookup = [NO_LABEL if key is None else number_of.setdefault(key, len(number_of)) for key in keys]
        codes = np.array([*lookup, NO_LABEL], np.int32)[names.codes]
        lost = np.flatnonzero((names.codes >= 0) & (codes < 0))
        if self.skip_missing:
            self.missing.extend(names.values[code] for code in dict.fromkeys(names.codes[lost].tolist()))
        else:
            self.problems.add_many(len(lost), lambda: _describe_lost(raw, names, lost, list(number_of)))
        return _Column(codes, list(number_of))

    def _report_repeats(self, raw: RawTable, images: _Column, who: _Column) -> None:
        """Report every row that repeats the (image, annotator) pair of an earlier row."""
        rows = np.flatnonzero(images.codes >= 0)
        pairs = images.codes[rows].astype(np.int64) * (len(who.values) + 1) + who.codes[rows] + 1
        _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        before = rows[first][inverse]
        repeats = np.flatnonzero(before != rows)
        self.problems.add_many(
            len(repeats),
            lambda: _describe_repeats(raw, who, [(rows[i], before[i]) for i in repeats[:SHOWN_PROBLEMS]]),
        )

    # ----------------------------------------------------------------------------------------------- classes

    def _classes(self, labels: list[_Column], wanted: Sequence[str] | None) -> tuple[str, ...]:
        if wanted is not None:
            return tuple(wanted)
        names = sorted({name for column in labels for name in column.values})
        if all(_is_integer(name) for name in names):
            names.sort(key=lambda name: (int(name), name))
        if len(names) < 2 and not self.problems.count:
            self.problems.add(
                f"the tables hold {len(names)} class{'es' * (not names)} ({', '.join(names)}); expected at "
                "least two. Name the classes with --classes if some do not occur."
            )
        return tuple(names)

    def _label_codes(
        self, raw: RawTable, labels: _Column, classes: tuple[str, ...], named: bool
    ) -> np.ndarray:
        index = {name: k for k, name in enumerate(classes)}
        lookup = np.array([index.get(name, NO_LABEL) for name in labels.values] + [NO_LABEL], np.int32)
        if named:
            wrong = np.flatnonzero((labels.codes >= 0) & (lookup[labels.codes] == NO_LABEL))
            self.problems.add_many(len(wrong), lambda: _describe_unknown(raw, labels, wrong, classes))
        return lookup[labels.codes]

    # ----------------------------------------------------------------------------------------------- trusted

    def _merge_trusted(
        self,
        tables: list[RawTable],
        images: list[_Column],
        codes: list[np.ndarray],
        classes: tuple[str, ...],
    ) -> dict[str, int]:
        """Return the trusted label of every image; report images that were given two."""
        truth: dict[str, int] = {}
        origin: dict[str, tuple[int, int]] = {}
        clashes: list[tuple[tuple[int, int], tuple[int, int], str, int, int]] = []
        for t, (image, table_codes) in enumerate(zip(images, codes, strict=True)):
            for row, (code, label) in enumerate(zip(image.codes.tolist(), table_codes.tolist(), strict=True)):
                if code < 0 or label == NO_LABEL:
                    continue
                key = image.values[code]
                if truth.setdefault(key, label) != label:
                    clashes.append(((t, row), origin[key], key, label, truth[key]))
                origin.setdefault(key, (t, row))
        self.problems.add_many(
            len(clashes),
            lambda: (
                f"{tables[here[0]].at([here[1]])[0]}: the trusted label of {key!r} is {classes[label]!r}, "
                f"but {classes[other]!r} at {tables[there[0]].at([there[1]])[0]}. Keep the right one."
                for here, there, key, label, other in clashes
            ),
        )
        return truth

    # -------------------------------------------------------------------------------------------- everything

    def _assemble(
        self,
        given: RawTable,
        images: _Column,
        row_label: np.ndarray,
        who: _Column,
        truth: dict[str, int],
        classes: tuple[str, ...],
    ) -> LabelTable:
        rows = np.flatnonzero(images.codes >= 0)
        if not len(rows):
            raise InputError(f"{given.name}: none of its images exists. Check the image folder.")
        codes, first = np.unique(images.codes[rows], return_index=True)
        order = np.argsort(first)  # order of first appearance
        keys = [images.values[code] for code in codes[order]]
        rank = np.empty(len(images.values), np.int32)
        rank[codes[order]] = np.arange(len(keys))
        row_image = rank[images.codes[rows]]
        majority, ties = _majority(row_image, row_label[rows], len(classes))
        trusted = np.array([truth.get(key, NO_LABEL) for key in keys], np.int32)
        labelled = set(keys)
        extra = {key: label for key, label in truth.items() if key not in labelled}
        extra_trusted = np.array(list(extra.values()), np.int32)
        self._warn(
            classes, row_label[rows], np.concatenate([trusted[trusted >= 0], extra_trusted]), bool(truth)
        )
        if ties:
            self.warnings.append(
                f"{ties:,} images have a tie among their annotators; the first class in class order was taken."
            )
        return LabelTable(
            images=given.columns["image"].take(pa.array(rows[first[order]])),
            keys=pa.array(keys, pa.large_string()),
            classes=classes,
            given=majority,
            trusted=trusted,
            row_image=row_image,
            row_label=row_label[rows],
            row_annotator=who.codes[rows],
            annotators=tuple(who.values),
            extra_keys=pa.array(list(extra), pa.large_string()),
            extra_trusted=extra_trusted,
            ties=ties,
            missing=tuple(dict.fromkeys(self.missing)),
            warnings=tuple(self.warnings),
        )

    def _warn(
        self, classes: tuple[str, ...], given: np.ndarray, trusted: np.ndarray, any_trusted: bool
    ) -> None:
        given_rows = np.bincount(given, minlength=len(classes))
        trusted_rows = np.bincount(trusted, minlength=len(classes))
        if not any_trusted:
            return
        if len(missing := np.flatnonzero((trusted_rows == 0) & (given_rows > 0))):
            named = [_with_hint(classes, k, int(given_rows[k]), given_rows + trusted_rows) for k in missing]
            self.warnings.append(
                f"{_count(len(missing), 'class', 'classes')} without a trusted row: {_listed(named)}. "
                "Their noise is taken from the other classes; verify a few rows of each."
            )
        if len(only := np.flatnonzero((trusted_rows > 0) & (given_rows == 0))):
            self.warnings.append(
                f"{_count(len(only), 'class', 'classes')} that only the trusted labels know: "
                f"{_listed([repr(classes[k]) for k in only])}. No given label names them; check the spelling."
            )


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _majority(row_image: np.ndarray, row_label: np.ndarray, num_classes: int) -> tuple[np.ndarray, int]:
    """Return the most frequent label per image, ties to the lower class number, and how many were tied."""
    pairs, votes = np.unique(row_image.astype(np.int64) * num_classes + row_label, return_counts=True)
    image, label = pairs // num_classes, (pairs % num_classes).astype(np.int32)
    order = np.lexsort((label, -votes, image))
    winners = order[np.unique(image[order], return_index=True)[1]]
    most = votes[winners]
    tied = np.bincount(image[votes == most[image]]) > 1
    return label[winners], int(tied.sum())


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _listed(names: Sequence[str], shown: int = 10) -> str:
    rest = f", … ({len(names) - shown:,} more)" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _with_hint(classes: tuple[str, ...], k: int, rows: int, all_rows: np.ndarray) -> str:
    """Name a class, and the frequent class that it may be a misspelling of."""
    name = repr(classes[k])
    if rows <= 3:
        frequent = [other for j, other in enumerate(classes) if all_rows[j] > 10 * rows]
        close = difflib.get_close_matches(classes[k], frequent, n=1, cutoff=0.7)
        if close:
            return f"{name} ({_count(rows, 'row', 'rows')}; a typo of {close[0]!r}?)"
    return name


def _describe_lost(raw: RawTable, names: _Column, rows: Any, known: list[str]) -> Any:
    by_base = {posixpath.basename(key): key for key in known[:100_000]}
    shown = rows[:SHOWN_PROBLEMS]
    for row, place in zip(shown, raw.at(shown), strict=True):
        name = names.values[names.codes[row]]
        close = by_base.get(posixpath.basename(name.replace("\\", "/")))
        guess = [close] if close else difflib.get_close_matches(name, known[:2000], n=1, cutoff=0.8)
        hint = f" A file like it is {guess[0]!r}." if guess else ""
        yield (
            f"{place}: there is no file {name!r} in the image folder.{hint} "
            "Correct the row, or go on without such rows with --missing quarantine."
        )


def _describe_repeats(raw: RawTable, who: _Column, repeats: list[tuple[int, int]]) -> Any:
    for row, before in repeats:
        here, there = raw.at([row, before])
        name = raw.columns["image"][row].as_py()
        by = f" by annotator {who.values[who.codes[row]]!r}" if who.codes[row] >= 0 else ""
        yield (
            f"{here}: {name!r} was already labelled{by} at {there.rsplit(', ', 1)[-1]}; expected one row per "
            "image and annotator. Remove one of the two, or add an annotator column."
        )


def _describe_unknown(raw: RawTable, labels: _Column, rows: np.ndarray, classes: tuple[str, ...]) -> Any:
    shown = rows[:SHOWN_PROBLEMS]
    for row, place in zip(shown, raw.at(shown), strict=True):
        name = labels.values[labels.codes[row]]
        close = difflib.get_close_matches(name, classes, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        yield (
            f"{place}: label {name!r} is not one of the {len(classes)} classes given by --classes "
            f"({_listed(list(classes), 3)}).{hint} Fix the row, or add {name!r} to --classes."
        )
