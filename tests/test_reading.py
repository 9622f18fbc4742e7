"""From tables to the label table: identities, classes, majorities, trusted labels, and every fault at once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.errors import InputError
from labelfix.images.folder import ImageFolder
from labelfix.inputs import LabelTable, lexical_keys, read_class_list, read_label_table
from labelfix.inputs.classes import closest_class, sort_classes
from labelfix.inputs.majority_vote import majority_labels
from labelfix.settings import Spellings

Rows = list[tuple[str, ...]]


def table(*rows: tuple[str | None, ...]) -> pa.Table:
    names = ["image", "label", "annotator"][: len(rows[0])]
    return pa.table(
        {
            name: pa.array(column, pa.string())
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
    )


def labels_of(read: LabelTable) -> dict[str, str]:
    return {key: read.classes[k] for key, k in zip(read.keys.to_pylist(), read.given, strict=True)}


def trusted_of(read: LabelTable) -> dict[str, str]:
    keys = read.keys.to_pylist() + read.extra_keys.to_pylist()
    codes = [*read.trusted, *read.extra_trusted]
    return {key: read.classes[k] for key, k in zip(keys, codes, strict=True) if k >= 0}


def fault(labels: object, trusted: object = None, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_label_table(labels, trusted, **options)  # type: ignore[arg-type]
    return caught.value


# --------------------------------------------------------------------------------------------------- identity


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("b/../a.png", "a.png"),
        ("b//a.png", "b/a.png"),
        ("b\\a.png", "b/a.png"),
        (" a.png ", "a.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("/x/./a.png", "/x/a.png"),
        ("a b.png", "a b.png"),
        ("..a/.b", "..a/.b"),
        ("a..b", "a..b"),
    ],
)
def test_lexical_keys(name: str, key: str) -> None:
    assert lexical_keys([name], None) == [key]
    assert lexical_keys([key], None) == [key]


def test_spellings_of_one_image_are_one_image() -> None:
    read = read_label_table(
        table(("a.png", "x", "ann"), ("./a.png", "x", "bob"), ("d\\b.png", "y", "ann")),
        table(("d/b.png", "x"), ("./a.png", "y")),
    )
    assert read.images.to_pylist() == ["a.png", "d\\b.png"]
    assert read.row_image.tolist() == [0, 0, 1]
    assert trusted_of(read) == {"a.png": "y", "d/b.png": "x"}


def test_rows_annotators_and_extras() -> None:
    read = read_label_table(
        table(("q", "b", "zoe"), ("p", "a", "ann"), ("q", "b", "ann"), ("r", "a", None)),
        table(("z", "b"), ("p", "b"), ("y", "c"), ("z", "b")),
        new_classes=["c"],
    )
    assert read.keys.to_pylist() == ["q", "p", "r"]
    assert read.classes == ("a", "b", "c")
    assert read.annotators == ("ann", "zoe")
    assert read.row_annotator.tolist() == [1, 0, 0, -1]
    assert read.row_label.tolist() == [1, 0, 1, 0]
    assert read.given.tolist() == [1, 0, 0]
    assert read.trusted.tolist() == [-1, 1, -1]
    assert read.pairs.tolist() == [1]
    assert read.extra_keys.to_pylist() == ["z", "y"]
    assert read.extra_trusted.tolist() == [1, 2]
    assert read.ties == 0


def test_only_keeps_rows_together() -> None:
    read = read_label_table(
        table(("q", "b", "zoe"), ("p", "a", "ann"), ("q", "b", "ann"), ("r", "a", "bob")),
        table(("z", "b"), ("p", "b"), ("y", "a")),
    )
    part = read.only(np.array([True, False, True, False, True]))
    assert part.images.to_pylist() == part.keys.to_pylist() == ["q", "r"]
    assert part.row_image.tolist() == [0, 0, 1]
    assert part.row_label.tolist() == [1, 1, 0]
    assert part.row_annotator.tolist() == [2, 0, 1]
    assert (part.given.tolist(), part.trusted.tolist()) == ([1, 0], [-1, -1])
    assert (part.extra_keys.to_pylist(), part.extra_trusted.tolist()) == (["y"], [0])
    assert read.with_extra(np.array([0])).extra_keys.to_pylist() == ["z"]
    assert read.with_extra(np.array([], int)).num_images == 3


# ---------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ({"10", "9", "-1", "2"}, ("-1", "2", "9", "10")),
        ({"007", "7", "10"}, ("007", "7", "10")),
        ({"10", "9", "x"}, ("10", "9", "x")),
        ({"1.5", "10", "9"}, ("1.5", "10", "9")),
        ({"b", "B", "a"}, ("B", "a", "b")),
        ({"-", "1"}, ("-", "1")),
        ({"9" * 5000, "10"}, ("10", "9" * 5000)),
        ({"NA", "nan"}, ("NA", "nan")),
    ],
)
def test_default_class_order(names: set[str], order: tuple[str, ...]) -> None:
    assert sort_classes(names) == order


def test_class_list_from_text_and_files(tmp_path: Path) -> None:
    assert read_class_list("cat, dog ,bird,") == ("cat", "dog", "bird")
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffcat\r\n\r\n big dog \nsea, lion\u2028x".encode())
    assert read_class_list(str(path)) == ("cat", "big dog", "sea, lion\u2028x")
    many = tuple(f"a_rather_long_class_name_{k}" for k in range(1000))
    assert read_class_list(",".join(many)) == many


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names 0 classes"),
        ("cat", "names 1 class (cat); expected at least two"),
        ("cat,dog,cat,dog", "class 'cat' is named twice (places 1 and 3)"),
        ("classes.txt", "there is no file 'classes.txt'"),
        ("no/such/file", "there is no file 'no/such/file'"),
    ],
)
def test_class_lists_that_are_none(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_class_list(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("--classes: ")


@pytest.mark.parametrize(
    ("content", "said"), [(b"caf\xe9\ndog\n", "is not UTF-8"), (b"cat\n", "names 1 class"), (b"", "names 0")]
)
def test_class_files_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_class_list(str(path))


def test_faults_of_the_class_list_come_with_those_of_the_tables() -> None:
    error = fault(table(("a", "x"), ("a", "y")), classes=["x", "y", "x", " "])
    assert error.count == 3
    assert "'x' is named twice" in error.problems[0]
    assert "class 4 is empty" in error.problems[1]
    assert "labels, row 2: 'a' was already labelled" in error.problems[2]


def test_a_class_list_with_a_fault_does_not_make_every_label_one() -> None:
    assert fault(table(("a", "x"), ("b", "y")), classes=["x"]).count == 1


def test_given_class_order_holds() -> None:
    read = read_label_table(table(("a", "x"), ("b", "10"), ("c", "9")), classes=("x", " 10 ", "9", "unused"))
    assert read.classes == ("x", "10", "9", "unused")
    assert read.given.tolist() == [0, 1, 2]
    assert read.warnings == ("1 class that no row has: 'unused'.",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Cat", "cat"), ("CAT", "cat"), ("cta", "cat"), ("sea lion", "sea_lion"), ("07", "7"), ("zebra", None)],
)
def test_closest_class(name: str, meant: str | None) -> None:
    assert closest_class(name, ["dog", "cat", "sea_lion", "7", "70"]) == meant


def test_labels_outside_the_classes() -> None:
    labels = table(("a", "cat"), ("b", "cta"), ("c", "zebra"))
    error = fault(labels, [table(("a", "Dog")), table(("a", "cat"))], classes=("cat", "dog", "owl", "bat"))
    assert error.problems == (
        "labels, row 2: label 'cta' is not one of the 4 classes given by --classes (cat, dog, owl, …). "
        "Did you mean 'cat'? Fix the row, or add 'cta' to --classes.",
        "labels, row 3: label 'zebra' is not one of the 4 classes given by --classes (cat, dog, owl, …). "
        "Fix the row, or add 'zebra' to --classes.",
        "trusted 1, row 1: label 'Dog' is not one of the 4 classes given by --classes (cat, dog, owl, …). "
        "Did you mean 'dog'? Fix the row, or add 'Dog' to --classes.",
    )


def test_one_class_is_a_fault() -> None:
    assert "hold 1 class (x); expected at least two" in str(fault(table(("a", "x"), ("b", "x"))))
    assert read_label_table(table(("a", "x"), ("b", "x")), classes=("x", "y")).given.tolist() == [0, 0]


# --------------------------------------------------------------------------------------------------- warnings


def test_no_warning_where_nothing_is_odd() -> None:
    labels = table(("a", "x"), ("b", "y"))
    assert read_label_table(labels, table(("a", "x"), ("c", "y"))).warnings == ()
    assert read_label_table(labels).warnings == ()


def test_classes_that_one_side_does_not_know_are_named() -> None:
    labels = table(*((f"{k}{i}", k) for k in ("cat", "dog", "owl") for i in range(40)), ("z", "caat"))
    trusted = table(("cat0", "cat"), ("dog1", "dgo"), ("new", "eel"))
    read = read_label_table(labels, trusted, new_classes=["dgo", "eel"])
    assert read.warnings == (
        "3 classes without a trusted row: 'caat' (1 row; a typo of 'cat'?), 'dog', 'owl'. Their noise is taken "
        "from the other classes; verify a few rows of each.",
        "2 classes that only the trusted labels know: 'dgo' (1 row; a typo of 'dog'?), 'eel'. Only trusted "
        "rows teach them.",
    )


def test_long_lists_of_classes_are_cut() -> None:
    labels = table(*((f"{k}", f"class {k}") for k in range(500)))
    (warning,) = read_label_table(labels, table(("0", "class 0"))).warnings
    assert warning.startswith("499 classes without a trusted row: 'class 1', ")
    assert "… (489 more)" in warning
    assert warning.count("'class") == 10


def test_classes_that_look_alike_are_named() -> None:
    rows = table(("a", "007"), ("b", "7"), ("c", "cat"), ("d", "x"))
    (warning,) = read_label_table(rows, spellings=Spellings.KEEP).warnings
    assert warning.startswith(
        "classes '007' and '7' differ only in spelling, and are taken for different classes."
    )
    (warning,) = read_label_table(rows, classes=["cat", "7", "x", "007"]).warnings
    assert warning.startswith("classes '7' and '007' differ only in spelling")
    cats = read_label_table(table(("a", "cat"), ("b", "Cat")), spellings=Spellings.KEEP)
    assert "'Cat' and 'cat'" in cats.warnings[0]


# ---------------------------------------------------------------------------------------------------- trusted


def test_several_trusted_tables_are_one() -> None:
    labels = table(("a", "x"), ("b", "y"), ("c", "y"))
    read = read_label_table(labels, [table(("a", "y"), ("d", "x")), table(("b", "y"), ("a", "y"))])
    assert trusted_of(read) == {"a": "y", "b": "y", "d": "x"}
    assert read.extra_keys.to_pylist() == ["d"]


def test_contradicting_trusted_labels(tmp_path: Path) -> None:
    for folder, rows in (("one", "a,x\nb,y\n./a,y\n"), ("two", "c,x\nb,x\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text("image,label\n" + rows)
    first, second = tmp_path / "one" / "t.csv", tmp_path / "two" / "t.csv"
    error = fault(table(("a", "x"), ("b", "y")), [first, second])
    assert error.problems == (
        f"{first}, line 4: the trusted label of './a' is 'y', but 'x' at {first}, line 2; expected one. Keep the "
        "right one.",
        f"{second}, line 3: the trusted label of 'b' is 'x', but 'y' at {first}, line 3; expected one. Keep the "
        "right one.",
    )


# ---------------------------------------------------------------------------------------------------- repeats


def test_repeated_rows_are_reported_by_pair() -> None:
    fine = table(("a", "x", "ann"), ("a", "y", "bob"), ("a", "y", None), ("b", "x", "ann"))
    assert read_label_table(fine).row_image.tolist() == [0, 0, 0, 1]
    twice = table(
        ("a", "x", "ann"), ("b", "y", "ann"), ("./a", "x", "ann"), ("b", "y", None), ("b", "x", None)
    )
    assert fault(twice).problems == (
        "labels, row 3: './a' was already labelled by annotator 'ann' at row 1 (written 'a'); expected one row "
        "per image and annotator. Remove one of the two.",
        "labels, row 5: 'b' was already labelled at row 4; expected one row per image and annotator. Remove one "
        "of the two, or name who labelled it in an annotator column.",
    )


# --------------------------------------------------------------------------------------------------- majority


def majority(
    rows: list[tuple[int, int, int]], trusted: dict[int, int] | None = None
) -> tuple[list[int], int]:
    image, label, who = np.array(rows, np.int32).T
    true = np.full(image.max() + 1, -1, np.int32)
    for number, k in (trusted or {}).items():
        true[number] = k
    given, tied = majority_labels(image, label, who, true, 4)
    return given.tolist(), int(tied.sum())


def test_majority_counts() -> None:
    assert majority([(0, 2, 0), (0, 2, 1), (0, 1, 2), (1, 3, 0)]) == ([2, 3], 0)


def test_tie_goes_to_the_annotator_who_agrees_with_trusted_labels() -> None:
    # Annotator 1 is right on images 1 to 3, annotator 0 is not; on image 0 they disagree.
    rows = [(0, 0, 0), (0, 3, 1)] + [(i, k, who) for i in (1, 2, 3) for who, k in ((0, 1), (1, 2))]
    assert majority(rows, {1: 2, 2: 2, 3: 2}) == ([3, 2, 2, 2], 4)
    assert majority(rows, {1: 1, 2: 1, 3: 1}) == ([0, 1, 1, 1], 4)
    assert majority(rows) == ([0, 1, 1, 1], 4)


def test_tie_goes_to_the_annotator_who_agrees_with_the_others() -> None:
    rows = [(0, 0, 0), (0, 3, 1)]
    rows += [(i, 1 if who else 2, who) for i in (1, 2, 3) for who in (0, 1, 2, 3)]
    assert majority(rows) == ([3, 1, 1, 1], 1)


def test_few_trusted_rows_do_not_outweigh_many_agreements() -> None:
    # Annotator 0 is right on the one trusted image it labelled, and alone with its labels on ten others.
    rows = [(0, 0, 0), (0, 3, 1), (1, 1, 0)]
    rows += [(i, 1 if who else 2, who) for i in range(2, 12) for who in (0, 1, 2, 3)]
    assert majority(rows, {1: 1})[0][0] == 3


def test_the_trusted_label_of_an_image_does_not_settle_its_own_tie() -> None:
    rows = [(0, 0, 0), (0, 3, 1)]
    assert majority(rows, {0: 3}) == majority(rows) == ([0], 1)
    rows += [(1, 1, 0), (1, 2, 1)]
    assert majority(rows, {0: 3})[0] == [0, 2]  # but it does settle the others


def test_the_order_of_sums_settles_no_tie() -> None:
    # Annotators 0 and 1 agree alike with the others, but as floats 1/11 + 3 * 4/11 is not 4/11 * 3 + 1/11.
    rows = [(0, 3, 0), (0, 0, 1)]
    agreed = [(0, 1), (0, 4), (0, 4), (0, 4), (1, 4), (1, 4), (1, 4), (1, 1)]
    for image, (who, count) in enumerate(agreed, 1):
        rows += [(image, 1, who)] + [(image, 1 if i < count else 2, 2 + i) for i in range(11)]
    assert majority(rows) == ([0] + [2] * 8, 1)


def test_ties_are_counted_and_said() -> None:
    read = read_label_table(table(("a", "x", "ann"), ("a", "y", "bob"), ("b", "y", "ann")))
    assert (read.ties, labels_of(read)) == (1, {"a": "x", "b": "y"})
    assert read.warnings[-1].startswith("1 image with a tie among the annotators")


def reference_majority(rows: list[tuple[int, int, int]], trusted: dict[int, int]) -> dict[int, int]:
    """One image and one annotator after the other, as the docstring of `majority_labels` says it."""
    by_image: dict[int, list[tuple[int, int]]] = {}
    for image, label, who in rows:
        by_image.setdefault(image, []).append((label, who))
    shares: dict[int, list[float]] = {}
    for votes in by_image.values():
        for label, who in votes:
            if len(votes) > 1:
                same = sum(other == label for other, _ in votes) - 1
                shares.setdefault(who, []).append(same / (len(votes) - 1))
    every = [share for own in shares.values() for share in own]
    common = (sum(every) + 1) / (len(every) + 2)

    def reliability(who: int, but: int) -> float:
        own = shares.get(who, [])
        with_others = (sum(own) + 4 * common) / (len(own) + 4)
        seen = [(i, k) for i, k, a in rows if a == who and i in trusted and i != but]
        return (sum(trusted[i] == k for i, k in seen) + 4 * with_others) / (len(seen) + 4)

    given = {}
    for image, votes in by_image.items():
        counts = Counter(label for label, _ in votes)
        best = max(counts.values())
        ranked = [
            (-max(round(reliability(who, image), 9) for k, who in votes if k == label), label)
            for label in counts
            if counts[label] == best
        ]
        given[image] = min(ranked)[1]
    return given


VOTES = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(-1, 4)), st.integers(0, 3), min_size=1, max_size=24
)
TRUTHS = st.dictionaries(st.integers(0, 5), st.integers(0, 3))


@settings(max_examples=200, deadline=None)
@given(VOTES, TRUTHS)
def test_majority_is_that_of_a_brute_force_reference(
    votes: dict[tuple[int, int], int], truths: dict[int, int]
) -> None:
    numbers = {image: n for n, image in enumerate(sorted({image for image, _ in votes}))}
    rows = [(numbers[image], label, who) for (image, who), label in votes.items()]
    truths = {numbers[image]: label for image, label in truths.items() if image in numbers}
    given, ties = majority(rows, truths)
    assert dict(enumerate(given)) == reference_majority(rows, truths)
    tops = [Counter(k for i, k, _ in rows if i == image).most_common() for image in numbers.values()]
    assert ties == sum(len(top) > 1 and top[0][1] == top[1][1] for top in tops)


@settings(max_examples=60, deadline=None)
@given(VOTES, TRUTHS, st.randoms(use_true_random=False))
def test_permuting_rows_permutes_the_result(votes: dict, truths: dict, shuffler: object) -> None:
    rows = [(f"i{i}", f"k{k}", None if a < 0 else f"a{a}") for (i, a), k in votes.items()]
    mixed = list(rows)
    shuffler.shuffle(mixed)  # type: ignore[attr-defined]
    trusted = [table(*((f"i{i}", f"k{k}") for i, k in truths.items()))] if truths else None
    classes = ("k0", "k1", "k2", "k3")
    one, two = (read_label_table(table(*r), trusted, classes=classes) for r in (rows, mixed))
    assert labels_of(one) == labels_of(two)
    assert trusted_of(one) == trusted_of(two)
    assert (one.ties, one.annotators, one.warnings) == (two.ties, two.annotators, two.warnings)
    assert two.images.to_pylist() == list(dict.fromkeys(row[0] for row in mixed))
    rebuilt = [
        (two.images[int(i)].as_py(), classes[k], two.annotators[a] if a >= 0 else None)
        for i, k, a in zip(two.row_image, two.row_label, two.row_annotator, strict=True)
    ]
    assert rebuilt == mixed


# ------------------------------------------------------------------------------------- missing, and all at once


def folder_of(path: Path, *names: str) -> ImageFolder:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")
    return ImageFolder(path)


def test_missing_images_are_left_out_on_request(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a", "b")
    labels, trusted = table(("a", "x"), ("gone", "z"), ("b", "y")), table(("lost", "y"), ("b", "x"))
    assert fault(labels, trusted, identify=folder.identify).count == 2
    read = read_label_table(labels, trusted, identify=folder.identify, skip_missing=True)
    assert read.missing == ("gone", "lost")
    assert labels_of(read) == {"a": "x", "b": "y"}
    assert read.row_image.tolist() == [0, 1]
    assert trusted_of(read) == {"b": "x"}
    assert read.warnings[0] == "2 images left out, because there is no such file ('gone', for one)."


def test_nothing_left_is_a_fault(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "b")
    error = fault(table(("a", "x"), ("c", "y")), identify=folder.identify, skip_missing=True)
    assert "labels: none of its images exists ('a', for one)" in str(error)
    read = read_label_table(
        table(("b", "x"), ("c", "y")), table(("a", "y")), identify=folder.identify, skip_missing=True
    )
    assert "none of the trusted images exists" in read.warnings[1]
    assert "without a trusted row" not in str(read.warnings)


def test_all_faults_of_all_tables_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", "a", "b", "c")
    labels = tmp_path / "labels.csv"
    labels.write_text("image,label\na,cat\nb\ngone,dog\na,cat\nc,\nb,cow\n")
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("image,label\na,cat\nlost,dog\n")
    two.write_text("image,label\na,dog\n")
    error = fault(
        labels,
        [one, two, tmp_path / "three.csv"],
        classes=("cat", "dog"),
        identify=folder.identify,
    )
    said = "\n".join(error.problems)
    for start in (
        "labels.csv, line 3: has 1 field",
        "labels.csv, line 6: the label is empty",
        "labels.csv, line 4: there is no file 'gone'",
        "one.csv, line 3: there is no file 'lost'",
        "labels.csv, line 7: label 'cow' is not one of",
        "labels.csv, line 5: 'a' was already labelled at line 2",
        "two.csv, line 2: the trusted label of 'a' is 'dog', but 'cat' at one.csv, line 2",
        f"{tmp_path / 'three.csv'}: does not exist",
    ):
        assert start in said
    assert error.count == len(error.problems) == 8


def test_a_labels_table_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    error = fault(tmp_path / "gone.csv", table(("a", "x"), ("a", "y")))
    assert error.count == 2
    assert "gone.csv: does not exist" in error.problems[0]
    assert "trusted, row 2: the trusted label of 'a' is 'y'" in error.problems[1]


def test_ten_faults_in_full_and_the_count(tmp_path: Path) -> None:
    rows = [(f"gone{i}", "x") for i in range(1000)]
    error = fault(table(*rows), identify=folder_of(tmp_path).identify)
    assert (error.count, len(error.problems)) == (1000, 10)
    assert str(error).endswith("… and 990 more (1,000 faults in all).")


# --------------------------------------------------------------------------------------------------- sampling


def drawn(**columns: list[object]) -> pa.Table:
    return pa.table(columns)


LABELS = table(("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"))


def test_tables_without_weights_are_one_sample_and_each_other_one_is_its_own() -> None:
    read = read_label_table(
        LABELS,
        [
            table(("a", "x")),
            drawn(image=["b"], label=["y"], weight=[12.5]),
            table(("c", "x")),
            drawn(image=["d"], label=["y"], sampling_weight=["3"]),
        ],
    )
    np.testing.assert_array_equal(read.trusted_weight, [1, 12.5, 1, 3])
    np.testing.assert_array_equal(read.trusted_sample, [0, 2, 0, 4])


def test_rows_of_a_draw_that_nobody_labelled_yet_are_left_out() -> None:
    read = read_label_table(
        LABELS, drawn(image=["a", "b", "c"], trusted_label=["x", None, ""], weight=[2, 3, 4], label=["y"] * 3)
    )
    assert trusted_of(read) == {"a": "x"}
    assert any("2 of 3 rows have no label yet" in warning for warning in read.warnings)


def test_integers_that_pandas_wrote_beside_empty_cells_are_integers() -> None:
    """Of a draw that is filled in bit by bit; labels of other tables stay the text that they are."""
    labels = pd.DataFrame({"image": list("abcd"), "label": ["5", "7", "5", "7"]})
    filled = pd.DataFrame({"image": ["a", "b"], "trusted_label": [7, None], "weight": [2, 2]})
    read = read_label_table(labels, filled.astype({"trusted_label": str}).replace("nan", None))
    assert trusted_of(read) == {"a": "7"}
    assert any("'7.0' for '7'" in warning for warning in read.warnings)
    labels.loc[0, "label"] = "7.0"  # a class of that name
    read = read_label_table(labels, drawn(image=["a"], label=["7.0"], weight=[2]), spellings=Spellings.KEEP)
    assert trusted_of(read) == {"a": "7.0"}
    assert "'5' (1 given row) and '5.0' (1 trusted row)" in str(
        fault(labels[1:3], drawn(image=["b"], label=["5.0"]))
    )


def test_without_weights_an_empty_label_is_a_fault() -> None:
    assert "is empty" in str(fault(LABELS, drawn(image=["a", "b"], label=["x", None])))


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "heavy", None])
def test_weights_that_are_no_weights(weight: str | None) -> None:
    error = fault(LABELS, drawn(image=["a", "b"], label=["x", "y"], weight=["1", weight]))
    assert "row 2" in str(error)
    assert "weight" in str(error)


def test_weights_follow_their_rows_when_images_are_left_out() -> None:
    read = read_label_table(LABELS, drawn(image=["b", "d"], label=["y", "y"], weight=[5, 7]))
    left = read.only(np.array([False, True, False, True]))
    np.testing.assert_array_equal(left.trusted_weight, [5, 7])
    np.testing.assert_array_equal(left.trusted_sample, [1, 1])


def test_the_column_of_weights_can_be_named() -> None:
    trusted = drawn(image=["a"], label=["x"], weight=[2], chance=[8])
    assert read_label_table(LABELS, trusted, trusted_weights="chance").trusted_weight[0] == 8
    assert "'odds'" in str(fault(LABELS, trusted, trusted_weights="odds"))
