"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators.

Nothing is trained before everything here has passed. Every image keeps the row number that it gets here: its
position in the order of first appearance in the labels table. Work per row is done in arrays; loops run over
distinct names only. N images, R label rows, K classes, E extra trusted images.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.inputs.classes import check_classes, class_warnings, sort_classes
from labelfix.inputs.draw_columns import image_ids
from labelfix.inputs.encoding import Column, encode
from labelfix.inputs.image_names import Identify, lexical_keys
from labelfix.inputs.label_table import NO_LABEL, LabelTable
from labelfix.inputs.majority_vote import majority_labels
from labelfix.inputs.messages import describe_repeats, describe_unknown
from labelfix.inputs.readers import WEIGHT_NAMES, Problems, RawTable, plain_title, read_table
from labelfix.inputs.trusted_labels import TrustedLabels, merge_trusted

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
        Path or table with ``image`` and ``label``, a list of them, or None. Tables without sampling weights are
        one simple random sample. Each table with weights is a draw of its own; weights are proportional to
        1 / inclusion probability, and rows without a label are left out. ``drawn_from`` holds the draw of a row and
        its sampling frame (`labelfix.inputs.draw_columns`).
    classes
        Class names in order; None takes the labels that occur, sorted (by value when all are integers).
    identify
        Turns names into identities; `labelfix.images.folder.ImageFolder.identify` for a folder of images.
    skip_missing
        Whether to leave out rows whose image `identify` does not know, and list them in `missing`; else they are
        faults.
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
    several = isinstance(trusted, (list, tuple))
    sources = [labels, *(trusted if several else [] if trusted is None else [trusted])]
    raws = [
        read_table(source, problems, trusted=number > 0, name=name, weight=trusted_weights)
        for number, (source, name) in enumerate(zip(sources, _names(sources), strict=True))
    ]
    trusted_tables = [raw for raw in raws[1:] if raw]
    if trusted_weights is not None and not any(_has_weights(raw, trusted_weights) for raw in trusted_tables):
        problems.add(
            f"--trusted-weights: no trusted table has a column {trusted_weights!r}; expected one. Name the column "
            "of sampling weights, or leave the option out for a random sample."
        )
    return _Reading(problems, identify, skip_missing).read(raws[0], trusted_tables, wanted)


def _has_weights(raw: RawTable, title: str) -> bool:
    """Return whether a column of that name holds the weights; tables of labelfix next have their own."""
    return "weight" in raw.columns and ("drawn_from" not in raw.columns or plain_title(title) in WEIGHT_NAMES)


def _names(sources: list[Any]) -> list[str]:
    """Return what to call each table, labels first: its file name, or its path where two have the same name."""
    num_trusted = len(sources) - 1
    trusted = [f"trusted {n}" if num_trusted > 1 else "trusted" for n in range(1, num_trusted + 1)]
    short, full = [], []
    for source, name in zip(sources, ["labels", *trusted], strict=True):
        is_path = isinstance(source, (str, os.PathLike))
        short.append(os.path.basename(os.fspath(source)) if is_path else name)
        full.append(os.fspath(source) if is_path else name)
    times = Counter(short)
    return [path if times[name] > 1 else name for name, path in zip(short, full, strict=True)]


class _Reading:
    """Reads the tables of one run into a `LabelTable`, and collects faults and warnings on the way."""

    def __init__(self, problems: Problems, identify: Identify, skip_missing: bool):
        self.problems = problems
        self.identify = identify
        self.skip_missing = skip_missing
        self.number_of: dict[str, int] = {}  # identity -> its number, over all tables
        self.missing: dict[str, None] = {}
        self.unmatched = 0  # how many images of sampling frames are not among the labels
        self.decimal_labels: list[
            tuple[str, str, str]
        ] = []  # per table with labels such as 5.0: name, label, class
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
        annotators = self._annotators(given)
        if given:
            self._report_repeats(given, images[0], annotators)
        first = 1 if given else 0  # position of the first trusted table
        truth = merge_trusted(trusted, images[first:], codes[first:], classes, self.problems)
        self.unfilled = [(raw.name, raw.columns["label"].null_count, raw.num_rows) for raw in trusted]
        self.problems.raise_if_any()
        assert given is not None
        return self._assemble(given, images[0], codes[0], annotators, truth, classes, bool(trusted))

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
        annotators = encode(given.columns["annotator"])
        order = sorted(range(len(annotators.values)), key=annotators.values.__getitem__)
        rank = np.empty(len(order) + 1, np.int32)
        rank[order] = np.arange(len(order))
        rank[-1] = -1
        return Column(rank[annotators.codes], [annotators.values[i] for i in order])

    def _report_repeats(self, raw: RawTable, images: np.ndarray, annotators: Column) -> None:
        """Report every row that repeats the (image, annotator) pair of an earlier row."""
        rows = np.flatnonzero(images >= 0)
        pairs = images[rows].astype(np.int64) * (len(annotators.values) + 1) + annotators.codes[rows] + 1
        _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        before = rows[first][inverse]
        repeats = np.flatnonzero(before != rows)
        self.problems.add_many(
            len(repeats),
            lambda: describe_repeats(
                raw, annotators, rows[repeats[:SHOWN_PROBLEMS]], before[repeats[:SHOWN_PROBLEMS]]
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
        """Return the trusted labels of a draw as whole numbers; pandas writes 5.0 in columns with empty cells."""
        whole = [label.removesuffix(".0") for label in labels.values]
        if "weight" not in raw.columns or not whole or not names.issuperset(whole):
            return labels
        if any(label == name or label in names for label, name in zip(labels.values, whole, strict=True)):
            return labels
        self.decimal_labels.append((raw.name, labels.values[0], whole[0]))
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

    # -------------------------------------------------------------------------------------------- everything

    def _assemble(
        self,
        given: RawTable,
        images: np.ndarray,
        labels: np.ndarray,
        annotators: Column,
        truth: TrustedLabels,
        classes: tuple[str, ...],
        any_trusted: bool,
    ) -> LabelTable:
        rows = np.flatnonzero(images >= 0)
        if not len(rows):
            raise InputError(
                f"{given.name}: none of its images exists ({next(iter(self.missing))!r}, for one); expected at "
                "least one. Check the image folder."
            )
        # numbers were given in order of first appearance, so ascending numbers are in that order too
        numbers, first = np.unique(images[rows], return_index=True)
        rank = np.full(len(self.number_of), -1, np.int32)
        rank[numbers] = np.arange(len(numbers), dtype=np.int32)
        row_image, row_label = rank[images[rows]], labels[rows]
        trusted, weight, sample = truth.by_image(len(self.number_of))
        trusted, weight, sample = trusted[numbers], weight[numbers], sample[numbers]
        is_extra = rank[truth.image] < 0
        majority, tied = majority_labels(row_image, row_label, annotators.codes[rows], trusted, len(classes))
        keys = pa.array(list(self.number_of), pa.large_string())
        names = given.columns["image"].take(pa.array(rows[first]))
        ids = image_ids(names.to_pylist()) if truth.sampling_frames else np.empty(0, np.uint64)
        frames = {
            draw: np.array(sorted(set(listed)), np.uint64) for draw, listed in truth.sampling_frames.items()
        }
        self.unmatched = sum(int((~np.isin(frame, ids)).sum()) for frame in frames.values())
        return LabelTable(
            images=names,
            keys=keys.take(pa.array(numbers)),
            classes=classes,
            given=majority,
            trusted=trusted,
            trusted_weight=weight,
            trusted_sample=sample,
            sampling_frames={draw: np.isin(ids, frame) for draw, frame in frames.items()},
            row_image=row_image,
            row_label=row_label,
            row_annotator=annotators.codes[rows],
            annotators=tuple(annotators.values),
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
        for name, label, whole in self.decimal_labels:
            yield f"{name}: its labels are taken for whole numbers, {label!r} for {whole!r}."
        if self.unmatched:
            yield (
                f"{_images(self.unmatched)} listed in columns drawn_from not among the labels by that name: of "
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


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
