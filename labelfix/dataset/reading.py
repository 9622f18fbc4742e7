"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators.

Nothing is trained before everything here has passed. N images, R label rows, K classes, E extra trusted
images. Every image keeps the row number it gets here: its place in the order of first appearance in the
labels table. What is done per row is done in arrays; loops run over distinct names only.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.dataset.classes import check_classes, class_warnings, sort_classes
from labelfix.dataset.consensus import majority_labels
from labelfix.dataset.encoding import Column, encode
from labelfix.dataset.faults import describe_repeats, describe_unknown, name_at, places_of
from labelfix.dataset.identity import Identify, lexical_keys
from labelfix.dataset.label_table import NO_LABEL, LabelTable
from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.frames import image_ids, parse_cell
from labelfix.sampling import RANDOM_SAMPLE
from labelfix.tables import WEIGHT_NAMES, Problems, RawTable, plain_title, read_table

__all__ = ["read_label_table"]


def read_label_table(
    labels: Any,
    trusted: Any = None,
    *,
    classes: Sequence[str] | None = None,
    identify: Identify = lexical_keys,
    skip_missing: bool = False,
    trusted_weights: str | None = None,
) -> LabelTable:
    """Read and validate the labels and the trusted labels.

    Parameters
    ----------
    labels
        Path or table with ``image``, ``label`` and optionally ``annotator``.
    trusted
        Path or table with ``image`` and ``label``, a list of them, or None. One with sampling weights is a
        draw of its own; the weights are proportional to 1 / probability of having been drawn, and rows that
        have no label yet are left out. Those without weights are one plain random sample. ``drawn_from`` says
        which draw a row is of, and from which images (`labelfix.frames`).
    classes
        Class names in order; None takes the labels that occur, sorted (by value when all are integers).
    identify
        Turns names into identities; `labelfix.images.ImageFolder.identify` for a folder of images.
    skip_missing
        Leave rows out whose image `identify` does not know, listing them in `missing`, instead of failing.
    trusted_weights
        The column of sampling weights; None takes ``weight`` or ``sampling_weight`` where there is one.

    Raises
    ------
    InputError
        With every fault: unknown files, repeated rows, empty cells, contradicting trusted labels, labels that
        are not in `classes`.
    """
    problems = Problems()
    wanted = None if classes is None else check_classes(list(classes), "--classes", problems)
    wanted = None if problems.count else wanted  # else every label would be reported against a wrong list
    more = [] if trusted is None else list(trusted) if isinstance(trusted, (list, tuple)) else [trusted]
    raws = [
        read_table(source, problems, trusted=number > 0, name=name, weight=trusted_weights)
        for number, (source, name) in enumerate(zip([labels, *more], _names(labels, more), strict=True))
    ]
    known = [raw for raw in raws[1:] if raw]
    if trusted_weights is not None and not any(_has_weights(raw, trusted_weights) for raw in known):
        problems.add(
            f"--trusted-weights: no trusted table has a column {trusted_weights!r}; expected one. Name the column "
            "of sampling weights, or leave the option out for a random sample."
        )
    return _Reading(problems, identify, skip_missing).read(raws[0], known, wanted)


def _has_weights(raw: RawTable, title: str) -> bool:
    """Return whether a column of that name holds the weights; tables of labelfix next have their own."""
    return "weight" in raw.columns and ("drawn_from" not in raw.columns or plain_title(title) in WEIGHT_NAMES)


def _names(labels: Any, trusted: list[Any]) -> list[str]:
    """Return what to call each table: its file name, or its path where two have the same name."""
    memory = [f"trusted {n}" if len(trusted) > 1 else "trusted" for n in range(1, len(trusted) + 1)]
    plain, full = [], []
    for source, name in zip([labels, *trusted], ["labels", *memory], strict=True):
        is_path = isinstance(source, (str, os.PathLike))
        plain.append(os.path.basename(os.fspath(source)) if is_path else name)
        full.append(os.fspath(source) if is_path else name)
    times = Counter(plain)
    return [long if times[short] > 1 else short for short, long in zip(plain, full, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """Trusted images (T,) by number, each once: label, sampling weight, and which draw it is from."""

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    sample: np.ndarray

    def by_image(self, num_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return label, weight and draw of all images; -1, 1 and 0 where nothing is trusted."""
        label = np.full(num_images, NO_LABEL, np.int32)
        weight, sample = np.ones(num_images), np.zeros(num_images, np.int32)
        label[self.image], weight[self.image], sample[self.image] = self.label, self.weight, self.sample
        return label, weight, sample


class _Reading:
    def __init__(self, problems: Problems, identify: Identify, skip_missing: bool):
        self.problems = problems
        self.identify = identify
        self.skip_missing = skip_missing
        self.number_of: dict[str, int] = {}  # identity -> its number, over all tables
        self.missing: dict[str, None] = {}
        self.frames: dict[int, list[int]] = {}  # number of a draw -> identifiers of the images it is from
        self.strangers = 0  # how many of these are not among the labels
        self.pointed: list[tuple[str, str, str]] = []  # of tables with labels such as 5.0: name, label, class
        self.unfilled: list[tuple[str, int, int]] = []  # per trusted table: name, rows without a label, rows

    def read(
        self, given: RawTable | None, trusted: list[RawTable], wanted: tuple[str, ...] | None
    ) -> LabelTable:
        tables = [given, *trusted] if given else trusted
        images = [self._identify(raw) for raw in tables]
        labels = [encode(raw.columns["label"]) for raw in tables]
        if given:
            names = set(labels[0].values) if wanted is None else set(wanted)
            labels[1:] = [
                self._whole_numbers(raw, label, names) for raw, label in zip(trusted, labels[1:], strict=True)
            ]
        classes = wanted if wanted is not None else self._classes(labels)
        codes = [self._label_codes(raw, label, classes) for raw, label in zip(tables, labels, strict=True)]
        who = self._annotators(given)
        if given:
            self._report_repeats(given, images[0], who)
        extra = 1 if given else 0
        truth = self._merge_trusted(trusted, images[extra:], codes[extra:], classes)
        self.unfilled = [(raw.name, raw.columns["label"].null_count, raw.num_rows) for raw in trusted]
        self.problems.raise_if_any()
        assert given is not None
        return self._assemble(given, images[0], codes[0], who, truth, classes, bool(trusted))

    # ------------------------------------------------------------------------------------------------ images

    def _identify(self, raw: RawTable) -> np.ndarray:
        """Return, (R,) int32, every row's image number; -1 where the cell is empty or the image unknown."""
        names = encode(raw.columns["image"])
        number_of = self.number_of
        keys = self.identify(names.values, raw.folder)
        lookup = [NO_LABEL if key is None else number_of.setdefault(key, len(number_of)) for key in keys]
        codes = np.array([*lookup, NO_LABEL], np.int32)[names.codes]
        lost = np.flatnonzero((names.codes >= 0) & (codes < 0))
        if self.skip_missing:
            self.missing.update(dict.fromkeys(names.values[code] for code in names.codes[lost].tolist()))
        else:
            self.problems.add_many(len(lost), lambda: self._describe_lost(raw, lost[:SHOWN_PROBLEMS]))
        return codes

    def _describe_lost(self, raw: RawTable, rows: np.ndarray) -> Iterator[str]:
        names = [raw.columns["image"][int(row)].as_py() for row in rows]
        explain = getattr(self.identify, "explain", None)
        reasons = (
            explain(names, raw.folder) if explain else [f"there is no image {name!r}." for name in names]
        )
        for place, reason in zip(raw.at(rows), reasons, strict=True):
            yield f"{place}: {reason} Correct the row, or go on without such rows with --missing quarantine."

    def _annotators(self, given: RawTable | None) -> Column:
        """Return the annotator of every row, numbered in the order of their names."""
        if given is None or "annotator" not in given.columns:
            return Column(np.full(given.num_rows if given else 0, -1, np.int32), [])
        who = encode(given.columns["annotator"])
        order = sorted(range(len(who.values)), key=who.values.__getitem__)
        rank = np.empty(len(order) + 1, np.int32)
        rank[order] = np.arange(len(order))
        rank[-1] = -1
        return Column(rank[who.codes], [who.values[i] for i in order])

    def _report_repeats(self, raw: RawTable, images: np.ndarray, who: Column) -> None:
        """Report every row that repeats the (image, annotator) pair of an earlier row."""
        rows = np.flatnonzero(images >= 0)
        pairs = images[rows].astype(np.int64) * (len(who.values) + 1) + who.codes[rows] + 1
        _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        before = rows[first][inverse]
        repeats = np.flatnonzero(before != rows)
        self.problems.add_many(
            len(repeats),
            lambda: describe_repeats(
                raw, who, rows[repeats[:SHOWN_PROBLEMS]], before[repeats[:SHOWN_PROBLEMS]]
            ),
        )

    # ----------------------------------------------------------------------------------------------- classes

    def _classes(self, labels: list[Column]) -> tuple[str, ...]:
        classes = sort_classes({name for column in labels for name in column.values})
        if len(classes) < 2 and not self.problems.count:
            self.problems.add(
                f"the tables hold {len(classes)} class{'es' * (not classes)} ({', '.join(classes)}); expected at "
                "least two. Name the classes with --classes if some do not occur."
            )
        return classes

    def _whole_numbers(self, raw: RawTable, labels: Column, names: set[str]) -> Column:
        """Return the trusted labels of a draw, without the point that pandas gives integers beside empty cells."""
        whole = [label.removesuffix(".0") for label in labels.values]
        if "weight" not in raw.columns or not whole or not names.issuperset(whole):
            return labels
        if any(label == name or label in names for label, name in zip(labels.values, whole, strict=True)):
            return labels
        self.pointed.append((raw.name, labels.values[0], whole[0]))
        return Column(labels.codes, whole)

    def _label_codes(self, raw: RawTable, labels: Column, classes: tuple[str, ...]) -> np.ndarray:
        index = {name: k for k, name in enumerate(classes)}
        lookup = np.array([index.get(name, NO_LABEL) for name in labels.values] + [NO_LABEL], np.int32)
        codes = lookup[labels.codes]
        wrong = np.flatnonzero((labels.codes >= 0) & (codes == NO_LABEL))
        self.problems.add_many(
            len(wrong), lambda: describe_unknown(raw, labels, wrong[:SHOWN_PROBLEMS], classes)
        )
        return codes

    # ----------------------------------------------------------------------------------------------- trusted

    def _merge_trusted(
        self,
        tables: list[RawTable],
        images: list[np.ndarray],
        codes: list[np.ndarray],
        classes: tuple[str, ...],
    ) -> _Truth:
        """Return what is trusted, each image once; report images that have two labels."""
        nothing = [np.empty(0, np.int32)]
        image, label = np.concatenate(images + nothing), np.concatenate(codes + nothing)
        weight, sample = self._sampling(tables)
        rows = np.flatnonzero((image >= 0) & (label != NO_LABEL))
        # an image that several tables name counts as part of the random sample, in whatever order they are given
        rows = rows[np.argsort(sample[rows] != RANDOM_SAMPLE, kind="stable")]
        _, first, inverse = np.unique(image[rows], return_index=True, return_inverse=True)
        origin = rows[first][inverse]
        clashes = np.flatnonzero(label[rows] != label[origin])
        here, there = rows[clashes[:SHOWN_PROBLEMS]], origin[clashes[:SHOWN_PROBLEMS]]

        def describe() -> Iterator[str]:
            places = zip(here, there, places_of(tables, here), places_of(tables, there), strict=True)
            for row, other, place, earlier in places:
                name = name_at(tables, row)
                yield (
                    f"{place}: the trusted label of {name!r} is {classes[label[row]]!r}, but "
                    f"{classes[label[other]]!r} at {earlier}; expected one. Keep the right one."
                )

        self.problems.add_many(len(clashes), describe)
        kept = rows[first]
        return _Truth(image=image[kept], label=label[kept], weight=weight[kept], sample=sample[kept])

    def _sampling(self, tables: list[RawTable]) -> tuple[np.ndarray, np.ndarray]:
        """Return the sampling weight and the draw of all rows of the trusted tables.

        Draws are numbered as they come: each that ``drawn_from`` names, and each table that has weights alone.
        """
        weights, samples = [np.empty(0)], [np.empty(0, np.int32)]
        numbers: dict[str, int] = {}
        for place, raw in enumerate(tables):
            if "weight" not in raw.columns:  # all tables without weights are one
                weights.append(np.ones(raw.num_rows))
                samples.append(np.full(raw.num_rows, RANDOM_SAMPLE, np.int32))
                continue
            weights.append(self._weights(raw))
            if "drawn_from" in raw.columns:
                samples.append(self._framed_draws(raw, numbers))
            else:
                number = numbers.setdefault(f"table {place}", RANDOM_SAMPLE + 1 + len(numbers))
                samples.append(np.full(raw.num_rows, number, np.int32))
        return np.concatenate(weights), np.concatenate(samples)

    def _framed_draws(self, raw: RawTable, numbers: dict[str, int]) -> np.ndarray:
        """Return the draw that each row names, (R,), and add the images that it lists to those of the draw."""
        column = encode(raw.columns["drawn_from"])
        draws = np.full(len(column.values) + 1, RANDOM_SAMPLE, np.int32)
        for code, cell in enumerate(column.values):
            if parsed := parse_cell(cell):
                draw, ids = parsed
                draws[code] = numbers.setdefault(draw, RANDOM_SAMPLE + 1 + len(numbers))
                self.frames.setdefault(int(draws[code]), []).extend(ids)
        draw_of_row = draws[column.codes]
        wrong = np.flatnonzero(draw_of_row == RANDOM_SAMPLE)
        self.problems.add_many(
            len(wrong),
            lambda: (
                f"{place}: the drawn_from is not what labelfix next wrote there; expected words of twelve letters. "
                "Restore the cell from the table that it wrote."
                for place in raw.at(wrong[:SHOWN_PROBLEMS])
            ),
        )
        return draw_of_row

    def _weights(self, raw: RawTable) -> np.ndarray:
        column = encode(raw.columns["weight"])
        values = np.array([*map(_positive, column.values), np.nan])[column.codes]
        wrong = np.flatnonzero(np.isnan(values) & (column.codes >= 0))
        self.problems.add_many(
            len(wrong),
            lambda: (
                f"{place}: the weight is {column.values[column.codes[row]]!r}; expected a number above 0, in "
                "proportion to 1 / probability of having been drawn. Correct the cell."
                for row, place in zip(wrong, raw.at(wrong[:SHOWN_PROBLEMS]), strict=False)
            ),
        )
        return values

    # -------------------------------------------------------------------------------------------- everything

    def _assemble(
        self,
        given: RawTable,
        images: np.ndarray,
        labels: np.ndarray,
        who: Column,
        truth: _Truth,
        classes: tuple[str, ...],
        any_trusted: bool,
    ) -> LabelTable:
        rows = np.flatnonzero(images >= 0)
        if not len(rows):
            raise InputError(
                f"{given.name}: none of its images exists ({next(iter(self.missing))!r}, for one); expected at "
                "least one. Check the image folder."
            )
        # Numbers were given in order of first appearance, so this is that order too.
        numbers, first = np.unique(images[rows], return_index=True)
        rank = np.full(len(self.number_of), -1, np.int32)
        rank[numbers] = np.arange(len(numbers), dtype=np.int32)
        row_image, row_label = rank[images[rows]], labels[rows]
        trusted, weight, sample = truth.by_image(len(self.number_of))
        trusted, weight, sample = trusted[numbers], weight[numbers], sample[numbers]
        is_extra = rank[truth.image] < 0
        majority, tied = majority_labels(row_image, row_label, who.codes[rows], trusted, len(classes))
        keys = pa.array(list(self.number_of), pa.large_string())
        names = given.columns["image"].take(pa.array(rows[first]))
        ids = image_ids(names.to_pylist()) if self.frames else np.empty(0, np.uint64)
        frames = {draw: np.array(sorted(set(listed)), np.uint64) for draw, listed in self.frames.items()}
        self.strangers = sum(int((~np.isin(frame, ids)).sum()) for frame in frames.values())
        return LabelTable(
            images=names,
            keys=keys.take(pa.array(numbers)),
            classes=classes,
            given=majority,
            trusted=trusted,
            trusted_weight=weight,
            trusted_sample=sample,
            frames={draw: np.isin(ids, frame) for draw, frame in frames.items()},
            row_image=row_image,
            row_label=row_label,
            row_annotator=who.codes[rows],
            annotators=tuple(who.values),
            extra_keys=keys.take(pa.array(truth.image[is_extra])),
            extra_trusted=truth.label[is_extra],
            ties=int(tied.sum()),
            missing=tuple(self.missing),
            warnings=(*self._warnings(row_label, truth.label, classes, int(tied.sum()), any_trusted),),
        )

    def _warnings(
        self,
        given: np.ndarray,
        trusted: np.ndarray,
        classes: tuple[str, ...],
        ties: int,
        any_trusted: bool,
    ) -> Iterator[str]:
        if self.missing:
            yield (
                f"{_images(len(self.missing))} left out, because there is no such file "
                f"({next(iter(self.missing))!r}, for one)."
            )
        for name, empty, rows in self.unfilled:
            if empty:
                yield (
                    f"{name}: {empty:,} of {rows:,} rows have no label yet and are left out, as if they had not "
                    "been drawn."
                )
        for name, label, whole in self.pointed:
            yield f"{name}: its labels are taken for whole numbers, {label!r} for {whole!r}."
        if self.strangers:
            yield (
                f"{_images(self.strangers)} listed in columns drawn_from not among the labels by that name: of "
                "them nothing can be promised. Use the names of the run that labelfix next read."
            )
        if any_trusted and not len(trusted):
            yield "none of the trusted images exists, so that there is no trusted label."
        yield from class_warnings(
            classes,
            np.bincount(given, minlength=len(classes)),
            np.bincount(trusted, minlength=len(classes)),
            trusted=len(trusted) > 0,
        )
        if ties:
            yield (
                f"{_images(ties)} with a tie among the annotators; the label of the more reliable one was taken, "
                "or the first in class order."
            )


def _positive(text: str) -> float:
    """Return the number, NaN where it is none above 0."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
