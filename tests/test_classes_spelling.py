"""One class under several spellings: what counts as one, and what stop, merge and keep make of it."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.errors import InputError
from labelfix.inputs import LabelTable, read_label_table
from labelfix.inputs.spellings import folded, spelling_groups
from labelfix.settings import Spellings

STOP, MERGE, KEEP = Spellings


def table(*labels: str, **more: list[object]) -> pa.Table:
    """Return a table in which image i has the i-th label."""
    return pa.table({"image": [f"{i}.png" for i in range(len(labels))], "label": list(labels), **more})


def names_of(read: LabelTable) -> tuple[list[str], list[str]]:
    """Return given and trusted labels by name; without a trusted label there is an empty name."""
    names = np.array([*read.classes, ""])
    return names[read.given].tolist(), names[read.trusted].tolist()


def fault(*args: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_label_table(*args, **options)  # type: ignore[arg-type]
    return str(caught.value)


# ---------------------------------------------------------------------------------------- what is one spelling

KINDS = {
    "point zero": [("3", "3.0"), ("12", "12.00"), ("-4", "-4.0")],
    "quotes": [("owl", "'owl'"), ("owl", '"owl"'), ("owl", "“ owl ”"), ("owl", "\"'owl'\"")],
    "case": [("owl", "OWL"), ("straße", "STRASSE"), ("Öl", "öl")],
    "Unicode form": [("ca\u0303o", "cão"), ("fish", "\ufb01sh"), ("7", "\uff17"), ("x2", "x²")],
    "invisible": [("owl", "owl\u200b"), ("owl", "\ufeffowl"), ("owl", "o\u00adwl")],
    "leading zeros": [("5", "005"), ("0", "00"), ("-7", "-07")],
    "separators": [
        ("polar bear", "polar_bear"),
        ("polar-bear", "polarbear"),
        ("4-2", "4_2"),
        ("a b", "a  b"),
    ],
}


@pytest.mark.parametrize(("one", "other"), [pair for pairs in KINDS.values() for pair in pairs])
def test_spellings_of_one_class_stop_the_run(one: str, other: str) -> None:
    within = fault(table(one, other, "z"))
    assert "1 pair of labels differs only in spelling" in within
    between = fault(table(one, one, "z"), table(other, other, "z"))
    assert "(2 given rows) and" in between
    assert "(2 trusted rows); expected one spelling" in between
    merged = read_label_table(table(one, one, "z"), table(other, "z"), spellings=MERGE)
    assert names_of(merged) == ([one, one, "z"], [one, "z", ""])


@pytest.mark.parametrize(
    "names",
    [
        ("1", "10", "100", "-1", "11", "0"),
        ("1.5", "15", "1.05", "-1.5", "1.50"),
        ("1-1", "11", "1.1"),
        ("1_0", "10"),
        ("-.5", ".5", "5"),
        ("-", "_", "'", '""', "+"),
        ("cat", "cats", "chat"),
    ],
)
def test_different_classes_stay_different(names: tuple[str, ...]) -> None:
    assert spelling_groups(names) == []
    assert set(read_label_table(table(*names)).classes) == set(names)


@settings(max_examples=300)
@given(st.integers(-(10**20), 10**20), st.integers(-1100, 1100))
def test_whole_numbers_fold_together_if_they_are_equal(one: int, other: int) -> None:
    assert (folded(str(one)) == folded(str(other))) == (one == other)
    assert folded(f"{other}.0") == folded(str(other))


@given(st.text(min_size=1))
def test_folding_leaves_something(name: str) -> None:
    assert folded(name)


# -------------------------------------------------------------------------------------------- stop, merge, keep


def test_the_error_names_pairs_and_rows() -> None:
    labels = table("dog", "Dog", "dog", "owl")
    assert fault(labels, table("dog", "'owl'", "DOG")) == (
        "labels, trusted: 3 pairs of labels differ only in spelling: 'dog' (2 given rows, 1 trusted row) and 'Dog' "
        "(1 given row), 'dog' (2 given rows, 1 trusted row) and 'DOG' (1 trusted row), 'owl' (1 given row) and "
        "\"'owl'\" (1 trusted row); expected one spelling of each class. Correct the labels, or take each pair as "
        "one class with --spellings merge, or as two, such as the letters a and A, with --spellings keep."
    )


def test_ten_pairs_in_class_order_and_the_count() -> None:
    numbers = [str(k) for k in range(8, 21)]
    said = fault(table(*numbers[::-1]), table(*(f"{k}.0" for k in numbers)))
    assert said.startswith(
        "trusted: 13 pairs of labels differ only in spelling: '8' (1 given row) and '8.0' (1 trusted"
    )
    assert re.findall(r"and '(\d+)\.0'", said) == numbers[:10]
    assert "'17.0' (1 trusted row), … (3 more); expected" in said


def test_what_cannot_be_seen_is_shown() -> None:
    assert r"'café' (1 given row) and 'cafe\u0301' (1 trusted row)" in fault(
        table("café", "z"), table("cafe\u0301", "z")
    )
    assert r"'owl' (1 given row) and 'owl\u200b' (1 trusted row)" in fault(
        table("owl", "z"), table("owl\u200b", "z")
    )


def test_merge_takes_the_most_frequent_given_spelling() -> None:
    read = read_label_table(
        table("2.0", "2.0", "2", "b", "B"), table("2", "b", "2", "B", "b"), spellings=MERGE
    )
    assert read.classes == ("2.0", "B")  # of b and B, with a row each, the first in class order
    assert names_of(read) == (["2.0", "2.0", "2.0", "B", "B"], ["2.0", "B", "2.0", "B", "B"])
    assert read.warnings == ("--spellings merge: '2' as '2.0', 'b' as 'B'; 6 rows changed.",)


def test_merged_trusted_labels_do_not_contradict_each_other() -> None:
    labels = table("x", "y")
    assert "the trusted label of '0.png' is 'x'" in fault(
        labels, [table("X"), table("x")], spellings=KEEP, new_classes=["X"]
    )
    assert names_of(read_label_table(labels, [table("X"), table("x")], spellings=MERGE))[1] == ["x", ""]


def test_keep_takes_each_spelling_for_a_class() -> None:
    read = read_label_table(table("a", "A", "a", "b"), table("A", "a", "a", "b"), spellings=KEEP)
    assert read.classes == ("A", "a", "b")
    assert names_of(read) == (["a", "A", "a", "b"], ["A", "a", "a", "b"])
    assert read.warnings == (
        "classes 'A' and 'a' differ only in spelling, and are taken for different classes. Spell them alike if "
        "they are one.",
    )


def test_keep_makes_no_class_of_a_spelling_that_no_given_row_has() -> None:
    said = fault(table("a", "b"), table("A", "b"), spellings=KEEP)
    assert "the trusted label 'A' (1 row) is one that no given row has" in said
    assert "Did you mean 'a'?" in said
    read = read_label_table(table("a", "b"), table("A", "b"), spellings=KEEP, new_classes=["A"])
    assert read.classes == ("A", "a", "b")


def test_a_class_list_decides_what_is_a_class() -> None:
    labels, trusted = table("a", "A", "b"), table("a", "A", "b")
    for spellings in Spellings:
        read = read_label_table(labels, trusted, classes=["b", "a", "A"], spellings=spellings)
        assert names_of(read) == (["a", "A", "b"], ["a", "A", "b"])
    assert "label 'A' is not one of the 2 classes" in fault(labels, trusted, classes=["a", "b"])
    merged = read_label_table(labels, trusted, classes=["b", "a"], spellings=MERGE)
    assert (merged.classes, names_of(merged)[0]) == (("b", "a"), ["a", "a", "b"])
    said = fault(table("'a'", "b"), classes=["a", "A", "b"], spellings=MERGE)  # which of the two is not known
    assert "is not one of the 3 classes" in said


@pytest.mark.parametrize("spellings", [MERGE, KEEP])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["1", "1.0", "01", "2", "b", "B"]), min_size=2, max_size=12), st.randoms())
def test_the_order_of_rows_plays_no_part(spellings: Spellings, labels: list[str], shuffler: object) -> None:
    labels = [*labels, "z", "y"]
    rows = list(range(len(labels)))
    shuffler.shuffle(rows)  # type: ignore[attr-defined]
    one = table(*labels)
    mixed = one.take(pa.array(rows))
    reads = [read_label_table(each, each, spellings=spellings) for each in (one, mixed)]
    assert reads[0].classes == reads[1].classes
    assert reads[0].warnings == reads[1].warnings
    by_image = [
        dict(zip(read.images.to_pylist(), zip(*names_of(read), strict=True), strict=True)) for read in reads
    ]
    assert by_image[0] == by_image[1]
    if len(spelling_groups(sorted(set(labels)))):
        assert fault(one, one) == fault(mixed, mixed)


def test_whole_numbers_of_a_draw_need_no_option() -> None:
    """Pandas makes 5.0 of 5 in a column with empty cells; the list of rows to verify is filled in bit by bit."""
    drawn = pd.DataFrame(
        {"image": ["0.png", "1.png", "2.png"], "trusted_label": [5, 7, None], "weight": [2, 2, 2]}
    )
    drawn = drawn.astype({"trusted_label": str}).replace("nan", None)
    read = read_label_table(table("5", "7", "5"), drawn)
    assert names_of(read)[1] == ["5", "7", ""]
    assert "'5.0' for '5'" in str(read.warnings)
    said = fault(table("5", "6", "5"), drawn)
    assert "trusted, row 2: the trusted label '7.0' (1 row) is one that no given row has" in said
    assert names_of(read_label_table(table("5", "6", "5"), drawn, new_classes=["7"]))[1] == ["5", "7", ""]
