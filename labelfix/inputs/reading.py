"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators.

Nothing is trained before everything here has passed. Every image keeps the row number that it gets here: its
position in the order of first appearance in the labels table. Work per row is done in arrays; loops run over
distinct names only. N images, R label rows, K classes, E extra trusted images.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.inputs.answers import AnsweredDraw, answer_warnings, answered_draws, without_unsure
from labelfix.inputs.classes import check_classes, class_warnings, count_of
from labelfix.inputs.draws import find_draws
from labelfix.inputs.encoding import Column, count_values, encode
from labelfix.inputs.image_names import Identify, lexical_keys
from labelfix.inputs.label_codes import ClassRules, LabelCodes, encode_labels
from labelfix.inputs.label_table import NO_LABEL, LabelTable
from labelfix.inputs.majority_vote import majority_labels
from labelfix.inputs.messages import describe_repeats
from labelfix.inputs.null_words import is_null_word
from labelfix.inputs.readers import Problems, RawTable, read_table
from labelfix.inputs.spellings import shown
from labelfix.inputs.trusted_labels import TrustedLabels, merge_trusted
from labelfix.settings import Spellings
from labelfix.system.folds import names_digest

__all__ = ["read_label_table"]


def read_label_table(
    labels: Any,
    trusted: Any = None,
    reviewed: Any = None,
    *,
    classes: Sequence[str] | None = None,
    new_classes: Sequence[str] | None = None,
    spellings: Spellings = Spellings.STOP,
    identify: Identify = lexical_keys,
    skip_missing: bool = False,
    trusted_weights: str | None = None,
    trusted_strata: str | None = None,
    draws: Sequence[str | os.PathLike[str]] = (),
) -> LabelTable:
    """Read and validate the labels and the trusted labels.

    Parameters
    ----------
    labels
        Path or table with ``image``, ``label`` and optionally ``annotator``.
    trusted
        Path or table with ``image`` and ``label``, a list of them, or None. Tables without sampling weights are
        one simple random sample. Each table with weights is a draw of its own; weights are proportional to
        1 / inclusion probability, and rows without a label are left out. ``draw`` names the recorded draw of a row
        (`labelfix.inputs.draws`), or says ``hand-picked``. The label ``?`` means that nobody can tell.
    reviewed
        The same for labels that a person verified of images of their own choice: known labels, which represent no
        other rows.
    classes
        Class names in order; None takes the given labels, sorted (by value when all are integers).
    new_classes
        Classes that no given label has. Any other trusted label that is no class is a fault.
    spellings
        Whether labels that differ only in spelling (``1`` and ``1.0``, ``cat`` and ``Cat``) are a fault, one class
        or a class each. With `classes`, a label that is not one of them is a fault, or merged with one of them.
    identify
        Turns names into identities; `labelfix.images.folder.ImageFolder.identify` for a folder of images.
    skip_missing
        Whether to leave out rows whose image `identify` does not know, and list them in `missing`; else they are
        faults.
    trusted_weights
        The column of sampling weights; None takes ``weight`` or ``sampling_weight`` where there is one.
    trusted_strata
        Column of the labels with the strata that the trusted rows may have been drawn from; None for given labels.
    draws
        Records of draws, or folders of them, beside those in the folders of the trusted tables.

    Raises
    ------
    InputError
        With every fault: unknown files, repeated rows, empty cells, contradicting trusted labels, labels that
        are no class, tables without a class in common.
    """
    problems = Problems()
    rules = _class_rules(classes, new_classes, spellings, problems)
    sampled, picked = as_list(trusted), as_list(reviewed)
    sources = [labels, *sampled, *picked]
    names = _names(sources)
    raws = [read_table(labels, problems, name=names[0], stratum=trusted_strata)]
    for source, name in zip(sources[1:], names[1:], strict=True):
        raws.append(read_table(source, problems, trusted=True, name=name, weight=trusted_weights))
    trusted_tables = [raw for raw in raws[1:] if raw]
    hand_picked = [raw for raw in raws[1 + len(sampled) :] if raw]
    if trusted_weights is not None and not any("weight" in raw.columns for raw in trusted_tables):
        problems.add(
            f"--trusted-weights: no trusted table has a column {trusted_weights!r}; expected one. Name the column "
            "of sampling weights, or leave the option out for a random sample."
        )
    folders = dict.fromkeys(
        raw.folder for raw in trusted_tables if raw.folder is not None and "draw" in raw.columns
    )
    records = find_draws([*folders, *draws])
    reading = _Reading(problems, identify, skip_missing, records)
    return reading.read(raws[0], trusted_tables, rules, len(hand_picked))


def as_list(tables: Any) -> list[Any]:
    """Return one table, a list of them, or None as a list."""
    return list(tables) if isinstance(tables, (list, tuple)) else [] if tables is None else [tables]


def _class_rules(
    classes: Sequence[str] | None, new: Sequence[str] | None, spellings: Spellings, problems: Problems
) -> ClassRules | None:
    """Return what the classes are to be; None where a list has faults, for labels would be held against them."""
    wanted = None if classes is None else check_classes(list(classes), "--classes", problems)
    extra = () if new is None else check_classes(list(new), "--new-classes", problems, fewest=1)
    if problems.count:
        return None
    if wanted is None:
        return ClassRules(wanted=None, new=extra, spellings=spellings)
    return ClassRules(wanted=tuple(dict.fromkeys((*wanted, *extra))), new=(), spellings=spellings)


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

    def __init__(
        self, problems: Problems, identify: Identify, skip_missing: bool, records: Mapping[str, Path]
    ):
        self.problems = problems
        self.identify = identify
        self.skip_missing = skip_missing
        self.records = records
        self.number_of: dict[str, int] = {}  # identity -> its number, over all tables
        self.missing: dict[str, None] = {}
        self.unnamed: list[tuple[str, int]] = []  # annotators called nan and the like, and their rows
        self.unfilled: list[str] = []  # what is said of rows to verify that have no label

    def read(
        self,
        given: RawTable | None,
        trusted: list[RawTable],
        rules: ClassRules | None,
        num_hand_picked: int,
    ) -> LabelTable:
        """Read the label table and the trusted tables, of which the last `num_hand_picked` hold chosen images."""
        folder = given.folder if given else None  # a draw names images as the label table does
        trusted = [replace(raw, folder=folder) if "draw" in raw.columns else raw for raw in trusted]
        trusted, unsure = map(list, zip(*map(without_unsure, trusted), strict=True)) if trusted else ([], [])
        tables = [given, *trusted] if given else trusted
        images = [self._identify(raw) for raw in tables]
        labels = encode_labels(given, trusted, rules, self.problems)
        annotators = self._annotators(given)
        if given:
            self._report_repeats(given, images[0], annotators)
        first = 1 if given else 0  # position of the first trusted table
        sampled, digest = len(trusted) - num_hand_picked, self._digest(images[0])
        draws, draw_of_row = answered_draws(
            trusted[:sampled], images[first : first + sampled], labels.codes[first : first + sampled],
            unsure[:sampled], self.records, lambda names: self._numbers(names, folder), digest, self.problems,
        )  # fmt: skip
        truth = merge_trusted(
            trusted, images[first:], labels.codes[first:], labels.classes, trusted[sampled:], draws, draw_of_row,
            unsure, self.problems,
        )  # fmt: skip
        draws = [draw.checked(truth.image) for draw in draws]
        self.unfilled = [*answer_warnings(trusted, unsure, draws)]
        self.problems.raise_if_any()
        assert given is not None
        return self._assemble(given, images[0], annotators, truth, draws, labels, digest, bool(trusted))

    # ------------------------------------------------------------------------------------------------ images

    def _identify(self, raw: RawTable) -> np.ndarray:
        """Return, (R,) int32, every row's image number; -1 where the cell is empty or the image unknown."""
        names = encode(raw.columns["image"])
        codes = np.append(self._numbers(names.values, raw.folder), np.int32(NO_LABEL))[names.codes]
        lost = np.flatnonzero((names.codes >= 0) & (codes < 0))
        if self.skip_missing:
            self.missing.update(dict.fromkeys(names.values[code] for code in names.codes[lost].tolist()))
        else:
            self.problems.add_many(len(lost), lambda: self._describe_lost(raw, lost[:SHOWN_PROBLEMS]))
        return codes

    def _numbers(self, names: list[str], folder: Path | None) -> np.ndarray:
        """Return the image number of every name, (n,) int32; -1 where the image is unknown."""
        number_of = self.number_of
        keys = self.identify(names, folder)
        return np.array(
            [NO_LABEL if key is None else number_of.setdefault(key, len(number_of)) for key in keys], np.int32
        )

    def _digest(self, images: np.ndarray) -> int:
        """Return the digest of the images of the label table, whatever their order."""
        keys = list(self.number_of)
        return names_digest(keys[number] for number in np.unique(images[images >= 0]).tolist())

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
        rows = count_values([annotators])
        self.unnamed = [(name, count) for name, count in sorted(rows.items()) if is_null_word(name)]
        names = sorted(name for name in rows if not is_null_word(name))
        number_of = {name: number for number, name in enumerate(names)}
        numbers = np.array([*(number_of.get(name, -1) for name in annotators.values), -1], np.int32)
        return Column(numbers[annotators.codes], names)

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

    # -------------------------------------------------------------------------------------------- everything

    def _assemble(
        self,
        given: RawTable,
        images: np.ndarray,
        annotators: Column,
        truth: TrustedLabels,
        draws: list[AnsweredDraw],
        labels: LabelCodes,
        digest: int,
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
        row_image, row_label = rank[images[rows]], labels.codes[0][rows]
        truth_of = truth.by_image(len(self.number_of))
        trusted, weight, sample, verified_as = (values[numbers] for values in truth_of)
        is_extra = rank[truth.image] < 0
        majority, tied = majority_labels(
            row_image, row_label, annotators.codes[rows], trusted, len(labels.classes)
        )
        strata = given.columns.get("stratum")  # an empty cell is a stratum of its own
        stratum = None if strata is None else encode(strata.fill_null("")).codes[rows[first]]
        keys = pa.array(list(self.number_of), pa.large_string())
        names = given.columns["image"].take(pa.array(rows[first]))
        return LabelTable(
            images=names,
            keys=keys.take(pa.array(numbers)),
            classes=labels.classes,
            given=majority,
            trusted=trusted,
            trusted_weight=weight,
            trusted_sample=sample,
            verified_as=verified_as,
            draws=[draw.renumbered(rank) for draw in draws],
            stratum=stratum,
            digest=digest,
            row_image=row_image,
            row_label=row_label,
            row_annotator=annotators.codes[rows],
            annotators=tuple(annotators.values),
            extra_keys=keys.take(pa.array(truth.image[is_extra])),
            extra_trusted=truth.label[is_extra],
            ties=int(tied.sum()),
            missing=tuple(self.missing),
            warnings=(*self._warnings(row_label, truth.label, labels, int(tied.sum()), any_trusted),),
        )

    def _warnings(
        self,
        given: np.ndarray,
        trusted: np.ndarray,
        labels: LabelCodes,
        ties: int,
        any_trusted: bool,
    ) -> Iterator[str]:
        if self.missing:
            yield (
                f"{_images(len(self.missing))} left out, because there is no such file "
                f"({next(iter(self.missing))!r}, for one)."
            )
        yield from self.unfilled
        yield from labels.warnings
        for name, rows in self.unnamed:
            yield (
                f"the annotator {shown(name)} ({count_of(rows, 'row', 'rows')}) counts as unnamed, as in an empty "
                "cell. Call it otherwise if it is a name."
            )
        if any_trusted and not len(trusted):
            yield "none of the trusted images exists, so that there is no trusted label."
        yield from class_warnings(
            labels.classes,
            np.bincount(given, minlength=len(labels.classes)),
            np.bincount(trusted, minlength=len(labels.classes)),
            trusted=len(trusted) > 0,
        )
        if ties:
            yield (
                f"{_images(ties)} with a tie among the annotators; the label of the more reliable one was taken, "
                "or the first in class order."
            )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
