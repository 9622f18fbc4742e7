"""From labels to codes: which classes there are, and what becomes of labels that are none of them.

Classes are ``--classes``, or the labels of the given table, and what ``--new-classes`` adds. K classes; a label
code is an index into them. Work per row is done in arrays; loops run over distinct labels only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.classes import count_of, listed, sort_classes
from labelfix.inputs.encoding import Column, count_values, encode
from labelfix.inputs.label_table import NO_LABEL
from labelfix.inputs.messages import (
    describe_new_labels,
    describe_no_common_class,
    describe_spellings,
    describe_unknown,
    no_label_advice,
)
from labelfix.inputs.null_words import is_null_word
from labelfix.inputs.readers import Problems, RawTable
from labelfix.inputs.spellings import folded, merging, shown
from labelfix.settings import Spellings

__all__ = ["ClassRules", "LabelCodes", "encode_labels"]


@dataclass(frozen=True, kw_only=True)
class ClassRules:
    """The class list `wanted`, or else `new` classes, and what happens to several `spellings` of a class."""

    wanted: tuple[str, ...] | None
    new: tuple[str, ...]
    spellings: Spellings


@dataclass(frozen=True, kw_only=True)
class LabelCodes:
    """The classes (K,), the labels of every table as `codes` (R,) int32 into them, -1 where null, and warnings."""

    classes: tuple[str, ...]
    codes: list[np.ndarray]
    warnings: tuple[str, ...]


def encode_labels(
    given: RawTable | None, trusted: list[RawTable], rules: ClassRules | None, problems: Problems
) -> LabelCodes:
    """Return the classes and the label codes of all tables, those of `given` first; add faults to `problems`.

    Without `given` or `rules`, which had faults of their own then, every label is a class.
    """
    tables = [given, *trusted] if given else trusted
    labels = [encode(raw.columns["label"]) for raw in tables]
    warnings: list[str] = []
    classes = sort_classes({name for column in labels for name in column.values})
    if given and rules:
        labels[1:] = _whole_numbers(trusted, labels, rules, warnings)
        if rules.spellings == Spellings.MERGE:
            labels, rules = _merged(labels, rules, warnings)
        classes = rules.wanted or sort_classes({*labels[0].values, *rules.new})
        _report(tables, labels, classes, rules, problems)
        warnings.extend(_null_words(tables, labels, {*(rules.wanted or ()), *rules.new}))
    if len(classes) < 2 and not problems.count:
        problems.add(
            f"the tables hold {count_of(len(classes), 'class', 'classes')} ({', '.join(classes)}); expected at "
            "least two. Name the classes with --classes if some do not occur."
        )
    index = {name: k for k, name in enumerate(classes)}
    codes = [
        np.array([*(index.get(name, NO_LABEL) for name in column.values), NO_LABEL], np.int32)[column.codes]
        for column in labels
    ]
    return LabelCodes(classes=classes, codes=codes, warnings=tuple(warnings))


def _whole_numbers(
    trusted: list[RawTable], labels: list[Column], rules: ClassRules, warnings: list[str]
) -> Iterator[Column]:
    """Yield the labels of each trusted table, in a draw with 5 for 5.0 where only the first is a class.

    Pandas writes whole numbers so in columns with empty cells, and a draw is filled in bit by bit.
    """
    names = {*(rules.wanted or labels[0].values), *rules.new}
    for raw, column in zip(trusted, labels[1:], strict=True):
        whole = {name: name.removesuffix(".0") for name in column.values if name not in names}
        whole = {name: number for name, number in whole.items() if number in names}
        if not raw.is_to_fill_in or not whole:
            yield column
            continue
        name = min(whole)
        warnings.append(f"{raw.name}: its labels are taken for whole numbers, {name!r} for {whole[name]!r}.")
        yield _renamed(column, whole)


def _renamed(column: Column, names: Mapping[str, str]) -> Column:
    return Column(column.codes, [names.get(name, name) for name in column.values])


def _class_of(labels: list[Column], rules: ClassRules) -> dict[str, str]:
    """Return for every label that is another spelling of a class the name of that class, in class order."""
    given, names = set(labels[0].values), {*count_values(labels), *rules.new}
    ordered = (*sort_classes(given), *sort_classes(names - given))
    return merging(ordered, count_values(labels[:1]), rules.wanted)


def _merged(labels: list[Column], rules: ClassRules, warnings: list[str]) -> tuple[list[Column], ClassRules]:
    """Return labels and rules with one spelling per class, and say in one warning what was merged."""
    rows = count_values(labels)
    class_of = _class_of(labels, rules)
    if merged := [name for name in class_of if rows[name]]:
        named = [f"{shown(name)} as {shown(class_of[name])}" for name in merged]
        count = sum(rows[name] for name in merged)
        warnings.append(f"--spellings merge: {listed(named)}; {count_of(count, 'row', 'rows')} changed.")
    new = tuple(class_of.get(name, name) for name in rules.new)
    return [_renamed(column, class_of) for column in labels], replace(rules, new=new)


def _report(
    tables: list[RawTable],
    labels: list[Column],
    classes: tuple[str, ...],
    rules: ClassRules,
    problems: Problems,
) -> None:
    """Report labels that are no class, and, unless there is a class list, spellings of one class."""
    if rules.wanted:
        _report_unknown(tables, labels, classes, problems)
        return
    if rules.spellings == Spellings.STOP:
        class_of = _class_of(labels, replace(rules, new=()))
        if class_of:
            problems.add(describe_spellings(tables, labels, class_of))
    _report_new_labels(tables, labels, classes, rules, problems)


def _report_unknown(
    tables: list[RawTable], labels: list[Column], classes: tuple[str, ...], problems: Problems
) -> None:
    """Report every row whose label is not in the class list."""
    names = set(classes)
    for raw, column in zip(tables, labels, strict=True):
        known = np.array([*(name in names for name in column.values), True], bool)
        wrong = np.flatnonzero(~known[column.codes])
        problems.add_many(
            len(wrong),
            lambda raw=raw, column=column, wrong=wrong: (  # type: ignore[misc]
                describe_unknown(raw, column, wrong[:SHOWN_PROBLEMS], classes)
            ),
        )


def _report_new_labels(
    tables: list[RawTable],
    labels: list[Column],
    classes: tuple[str, ...],
    rules: ClassRules,
    problems: Problems,
) -> None:
    """Report trusted labels that are no class, each once, or that the tables have no class in common."""
    names = set(count_values(labels[1:]))
    new = sorted(names - set(classes))
    if rules.spellings == Spellings.STOP:  # other spellings were reported
        meanings = {folded(name) for name in labels[0].values}
        new = [name for name in new if folded(name) not in meanings]
    if new and len(new) == len(names):
        problems.add(describe_no_common_class(tables, classes, sort_classes(names)))
    else:
        problems.add_many(
            len(new), lambda: describe_new_labels(tables[1:], labels[1:], new[:SHOWN_PROBLEMS], classes)
        )


def _null_words(tables: list[RawTable], labels: list[Column], asked: set[str]) -> Iterator[str]:
    """Yield a warning for each label that looks as if there was none, and that nobody named as a class."""
    for raw, column in zip(tables, labels, strict=True):
        for name, rows in sorted(count_values([column]).items()):
            if is_null_word(name) and name not in asked:
                yield (
                    f"{raw.name}: the label {shown(name)} stands in {count_of(rows, 'row', 'rows')}; if it means "
                    f"no label, {no_label_advice(raw)}."
                )
