"""Bad input through the real command line: exit code 2, the place and the remedy, and nothing written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import labelfix
from labelfix.errors import InputError
from labelfix.images.folder import ImageFolder
from labelfix.inputs import read_label_table
from labelfix.settings import Spellings
from labelfix_cli import app

NAMES = [f"{k}/{i}.png" for k in ("cat", "dog") for i in range(4)]
LABELS = "image,label\n" + "".join(f"{name},{name[:3]}\n" for name in NAMES)
TRUSTED = "image,label\ncat/0.png,cat\ndog/0.png,dog\n"


class Case:
    """A sound small data set of two classes, in which one thing is then broken."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.images = folder / "images"
        self.out = folder / "out"
        for name in NAMES:
            path = self.images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (200, 30, 30) if name.startswith("cat") else (30, 30, 200)).save(path)
        self.labels = self.write("labels.csv", LABELS)
        self.trusted = self.write("trusted.csv", TRUSTED)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def clean(self, *more: object, images: object = None, labels: object = None) -> tuple[int, str]:
        """Run ``labelfix clean``; return its exit code, and the lines of what it says on the error stream."""
        arguments = ["clean", images or self.images, labels or self.labels, "--out", self.out, *more]
        if "--trusted" not in arguments:
            arguments += ["--trusted", self.trusted]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stderr

    def refused(self, *more: object, **places: object) -> str:
        """Run ``labelfix clean``, which has to refuse the input and to write nothing; return what it says."""
        code, said = self.clean(*more, **places)
        assert code == 2, said
        assert said.startswith("labelfix: ")
        assert [path for path in self.out.rglob("*") if path.is_file()] == []
        return said.removeprefix("labelfix: ").strip()


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A sound data set, and no training: that input is refused before anything is computed is the point."""

    def compute(*_: object, **__: object) -> None:
        raise AssertionError("bad input went on to the features")

    monkeypatch.setattr("labelfix.cross_fitting.predictions.extract_features", compute)
    monkeypatch.setattr("labelfix.cross_fitting.predictions.cross_fit_head", compute)
    return Case(tmp_path)


def test_the_case_itself_is_sound(case: Case) -> None:
    code, said = case.clean()
    assert code == 70
    assert "bad input went on to the features" in said


# ------------------------------------------------------------------------------------------------ label tables


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty; expected column names and rows."),
        ("\n\n", "labels.csv: holds nothing but blank lines"),
        ("image,label\n", "labels.csv: has columns but no rows"),
        ("cat/0.png,cat\n", "labels.csv: has no image column; its columns are 'cat/0.png', 'cat'."),
        ("image,tag\ncat/0.png,cat\n", "labels.csv: has no label column; its columns are 'image', 'tag'."),
        ("image,label,label\ncat/0.png,cat,cat\n", "labels.csv: 2 columns could each be the label column"),
        (LABELS.encode("utf-16"), "labels.csv: is encoded in UTF-16; expected UTF-8."),
        (LABELS.encode() + b"cat/\xe9.png,cat\n", "labels.csv, line 10: byte 0xe9 at position 5 is not UTF-8."),
        (LABELS.encode() + b"cat/0.png\0,cat\n", "labels.csv, line 10: holds a NUL byte at position 10"),
        (LABELS + "cat/0.png\n", "labels.csv, line 10: has 1 field where the header has 2 ('cat/0.png')."),
        (LABELS + "\n\na,b,c\n", "labels.csv, line 12: has 3 fields where the header has 2 ('a,b,c')."),
        (LABELS + 'x,"cat\ny,dog\n', "labels.csv, line 10: the quotes of this row do not match"),
        (LABELS + ",cat\n", "labels.csv, line 10: the image is empty"),
        (LABELS + "cat/9.png,  \n", "labels.csv, line 10: the label is empty"),
        (LABELS + ",\n", "labels.csv, line 10: the image and the label are empty"),
        (LABELS + "cat/9.png,cat\n", "labels.csv, line 10: there is no file 'cat/9.png' in the image folder"),
        (LABELS + "1.png,cat\n", "A file like it is 'cat/1.png'."),
        (LABELS + "cat/1,cat\n", "A file like it is 'cat/1.png'."),
        (LABELS + "CAT/1.PNG,cat\n", "A file like it is 'cat/1.png'."),
        (LABELS + "dog,dog\n", "labels.csv, line 10: 'dog' is a folder; expected an image file."),
        (LABELS + "dog/1.png,dog\n", "labels.csv, line 10: 'dog/1.png' was already labelled at line 7;"),
        (LABELS + "./dog/1.png,dog\n", "'./dog/1.png' was already labelled at line 7 (written 'dog/1.png');"),
        (LABELS + "dog\\1.png,dog\n", "was already labelled at line 7 (written 'dog/1.png');"),
        (LABELS + "images/dog/1.png,dog\n", "was already labelled at line 7 (written 'dog/1.png');"),
    ],
)  # fmt: skip
def test_label_tables(case: Case, content: str | bytes, said: str) -> None:
    assert said in case.refused(labels=case.write("labels.csv", content))


@pytest.mark.parametrize("content", ["image,label\ncat/0.png,cat\ncat/1.png,cat\n"])
def test_one_class(case: Case, content: str) -> None:
    said = case.refused("--trusted", case.write("t.csv", content), labels=case.write("labels.csv", content))
    assert said.startswith("the tables hold 1 class (cat); expected at least two.")


def test_repeated_image_and_annotator(case: Case) -> None:
    labels = "image,label,annotator\ncat/0.png,cat,ann\ncat/0.png,dog,bob\n\n./cat/0.png,dog,ann\n"
    said = case.refused(labels=case.write("labels.csv", labels))
    assert said == (
        "labels.csv, line 5: './cat/0.png' was already labelled by annotator 'ann' at line 2 (written "
        "'cat/0.png'); expected one row per image and annotator. Remove one of the two."
    )


def test_absolute_paths_are_the_same_images(case: Case) -> None:
    labels = LABELS + f"{case.images / 'dog/1.png'},dog\n"
    assert "was already labelled at line 7" in case.refused(labels=case.write("labels.csv", labels))


def test_composed_and_decomposed_names_are_the_same_image(case: Case) -> None:
    (case.images / "dog/1.png").rename(case.images / "dog/\u00e9.png")
    labels = LABELS.replace("dog/1.png", "dog/e\u0301.png") + "dog/\u00e9.png,cat\n"
    assert "was already labelled at line 7" in case.refused(labels=case.write("labels.csv", labels))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.jsonl", '{"image": "cat/0.png", "label": "cat"}\n{"image":\n', "l.jsonl, line 2: is not JSON"),
        ("l.jsonl", '{"image": "cat/0.png", "label": 0.5}\n', "l.jsonl, line 1: the label is 0.5; expected"),
        ("l.jsonl", '{"image": "cat/0.png", "label": true}\n', "l.jsonl, line 1: the label is true"),
        ("l.jsonl", '{"image": "cat/0.png", "label": null}\n', "l.jsonl, line 1: the label is empty"),
        ("l.jsonl", '\n{"label": "cat"}\n{"image": "x", "label": "cat"}', "l.jsonl, line 2: the image is empty"),
        ("l.json", "[]", "l.json: begins with '[', as a JSON array does"),
        ("l.parquet", "image,label\n", "l.parquet: is not a Parquet file that can be read"),
        ("l.tsv", LABELS.replace(",", " "), "l.tsv: has no image column; its columns are 'image label'."),
        ("l.xls", "x", "the ending '.xls' is not one that labelfix reads"),
    ],
)  # fmt: skip
def test_other_formats(case: Case, name: str, content: str, said: str) -> None:
    assert said in case.refused(labels=case.write(name, content))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [0.0, 1.0],
            "l.parquet: the label column 'label' is of type double; expected strings or whole numbers.",
        ),
        ([None, "cat"], "l.parquet, row 1: the label is empty"),
        ([True, False], "is of type bool"),
    ],
)
def test_parquet_columns(case: Case, values: list[object], said: str) -> None:
    pq.write_table(
        pa.table({"image": ["cat/0.png", "dog/0.png"], "label": values}), case.folder / "l.parquet"
    )
    assert said in case.refused(labels=case.folder / "l.parquet")


# ------------------------------------------------------------------------------------- trusted tables, classes


def test_trusted_labels_that_contradict_each_other(case: Case) -> None:
    one = case.write("one.csv", TRUSTED + "cat/0.png,dog\n")
    two = case.write("two.csv", TRUSTED.replace("dog/0.png,dog", "dog\\0.png,cat"))
    said = case.refused("--trusted", one, "--trusted", two).splitlines()
    assert said == [
        "one.csv, line 4: the trusted label of 'cat/0.png' is 'dog', but 'cat' at one.csv, line 2; expected one. "
        "Keep the right one.",
        "two.csv, line 3: the trusted label of 'dog\\\\0.png' is 'cat', but 'dog' at one.csv, line 3; expected "
        "one. Keep the right one.",
    ]


def test_trusted_files_of_one_name_are_told_apart(case: Case) -> None:
    (case.folder / "old").mkdir()
    old = case.write("old/trusted.csv", TRUSTED + "nothing.png,cat\n")
    assert case.refused("--trusted", case.trusted, "--trusted", old).startswith(
        f"{old}, line 4: there is no file"
    )


def test_trusted_faults_of_every_kind(case: Case) -> None:
    trusted = case.write("t.csv", TRUSTED + "cat/1.png\ncat/7.png,cat\ncat/1.png,\n")
    said = case.refused("--trusted", trusted).splitlines()
    assert [line.split(":")[0] for line in said] == ["t.csv, line 4", "t.csv, line 6", "t.csv, line 5"]


def test_labels_outside_the_classes(case: Case) -> None:
    said = case.refused("--classes", "cat,dgo,owl,eel").splitlines()
    assert said[0] == (
        "labels.csv, line 6: label 'dog' is not one of the 4 classes given by --classes (cat, dgo, owl, …). Did "
        "you mean 'dgo'? Fix the row, or add 'dog' to --classes."
    )
    assert [line.split(":")[0] for line in said[1:]] == [
        "labels.csv, line 7", "labels.csv, line 8", "labels.csv, line 9", "trusted.csv, line 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("trusted", "said"),
    [
        (
            "cat/0.png,cat\ndog/0.png,dgo\n",
            "t.csv, line 3: the trusted label 'dgo' (1 row) is one that no given row has; expected one of the 2 "
            "classes (cat, dog). Did you mean 'dog'? Correct it, or name it with --new-classes if it is a class.",
        ),
        (
            "cat/0.png,Cat\ndog/0.png,dog\n",
            "t.csv: 1 pair of labels differs only in spelling: 'cat' (4 given rows) and 'Cat' (1 trusted row); "
            "expected one spelling of each class. Correct the labels, or take each pair as one class with "
            "--spellings merge, or as two, such as the letters a and A, with --spellings keep.",
        ),
        (
            "cat/0.png,0\ndog/0.png,1\n",
            "t.csv: none of its labels (0, 1) is one of the 2 classes of labels.csv (cat, dog); expected classes "
            "in common. Check that the tables belong together, and name the classes alike, or name those that no "
            "given row has with --new-classes.",
        ),
    ],
)
def test_trusted_labels_that_are_no_class(case: Case, trusted: str, said: str) -> None:
    assert case.refused("--trusted", case.write("t.csv", "image,label\n" + trusted)) == said


def test_trusted_labels_that_are_made_classes(case: Case) -> None:
    trusted = case.write("t.csv", "image,label\ncat/0.png,Cat\ndog/0.png,eel\ncat/1.png,cat\n")
    more = ("--trusted", trusted, "--spellings", "merge", "--new-classes", case.write("new.txt", "eel\n"))
    code, said = case.clean(*more)
    assert code == 70  # it got as far as the features
    assert "--spellings merge: 'Cat' as 'cat'; 1 row changed." in " ".join(said.split())


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("cat,dog,cat", "--classes: class 'cat' is named twice (places 1 and 3); expected every class once."),
        ("cat", "--classes: names 1 class (cat); expected at least two."),
        ("classes.txt", "--classes: there is no file 'classes.txt'"),
        ("a_long_class_name_" * 40 + ",x," * 2, "class 'x' is named twice"),
    ],
)
def test_class_lists(case: Case, classes: str, said: str) -> None:
    assert said in case.refused("--classes", classes)


def test_class_file_in_another_encoding(case: Case) -> None:
    path = case.write("classes.txt", "café\nthé\n".encode("latin-1"))
    assert "is not UTF-8; expected one class per line." in case.refused("--classes", path)


# ------------------------------------------------------------------------------------------------- everything


def test_all_faults_of_all_tables_at_once_with_their_count(case: Case) -> None:
    labels = LABELS + "".join(f"gone/{i}.png,cat\n" for i in range(30)) + "cat/0.png,dog\nx\n"
    trusted = TRUSTED + "cat/0.png,dog\ndog/0.png,\n"
    said = case.refused(
        "--trusted", case.write("t.csv", trusted), labels=case.write("l.csv", labels)
    ).splitlines()
    assert len(said) == 11
    assert [line.split(":")[0] for line in said[:3]] == ["l.csv, line 41", "t.csv, line 5", "l.csv, line 10"]
    assert said[-1] == "… and 24 more (34 faults in all)."


def test_paths_that_do_not_exist(case: Case) -> None:
    assert "does not exist; expected a CSV" in case.refused(labels=case.folder / "gone.csv")
    assert "does not exist; expected a CSV" in case.refused("--trusted", case.folder / "gone.csv")
    assert "is not a file; expected a CSV" in case.refused(labels=case.images)
    assert "does not exist; expected a folder of images" in case.refused(images=case.folder / "gone")
    assert "is not a folder; expected a folder of images" in case.refused(images=case.labels)
    both = case.refused("--trusted", case.folder / "b.csv", labels=case.folder / "a.csv").splitlines()
    assert [line.split(":")[0] for line in both] == [str(case.folder / "a.csv"), str(case.folder / "b.csv")]


def test_an_empty_folder_of_images(case: Case) -> None:
    (case.folder / "empty").mkdir()
    labels = case.write("l.jsonl", '{"image": "0.png", "label": "cat"}\n{"image": "1.png", "label": "dog"}\n')
    said = case.refused("--missing", "quarantine", images=case.folder / "empty", labels=labels)
    assert said.startswith("l.jsonl: none of its images exists ('0.png', for one)")


def test_missing_images_go_to_quarantine_on_request(case: Case) -> None:
    labels = case.write("labels.csv", LABELS + "cat/9.png,cat\n")
    assert "cat/9.png" in case.refused(labels=labels)
    code, said = case.clean("--missing", "quarantine", labels=labels)
    assert code == 70  # it got as far as the features
    assert "1 image left out, because there is no such file ('cat/9.png', for one)" in " ".join(said.split())


def test_an_earlier_run_stays_as_it_is(case: Case) -> None:
    case.out.mkdir()
    kept = case.out / "run.json"
    kept.write_text("{}")
    code, _ = case.clean("--force", labels=case.write("labels.csv", "image,label\n"))
    assert (code, kept.read_text(), [p.name for p in case.out.iterdir()]) == (2, "{}", ["run.json"])


# ---------------------------------------------------------------------------------------------------- matrices


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((7, 2)), "m.npy: has 7 rows; the labels have 8."),
        (np.ones(8), "m.npy: has shape (8,) and type float64; expected a matrix"),
        (np.ones((8, 2), int), "m.npy: has shape (8, 2) and type int64"),
        (np.full((8, 2), np.nan), "m.npy, row 1: holds a number that is not finite"),
        (np.full((8, 3), 1 / 3), "3 columns"),
    ],
)
def test_matrices(case: Case, values: np.ndarray, said: str) -> None:
    np.save(case.folder / "m.npy", values)
    assert said in case.refused(images=case.folder / "m.npy")


def test_parquet_matrix_without_a_row_for_an_image(case: Case) -> None:
    table = pa.table({"image": NAMES[:-1], "v": [[1.0, 2.0]] * 7})
    pq.write_table(table, case.folder / "m.parquet")
    assert "m.parquet: has no row for image 'dog/3.png'" in case.refused(images=case.folder / "m.parquet")


# ------------------------------------------------------------------------------------------------ from Python


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda t: t.assign(label=1.5), "labels: the label column 'label' is of type double"),
        (
            lambda t: t.rename(columns={"image": "id"}),
            "labels: has no image column; its columns are 'id', 'label'",
        ),
        (lambda t: t.iloc[:0], "labels: has columns but no rows"),
        (lambda t: pd.concat([t, t[:1]]), "labels, row 9: 'cat/0.png' was already labelled at row 1"),
        (lambda t: t.replace("dog/3.png", None), "labels, row 8: the image is empty"),
        (lambda t: t["label"], "labels: Series cannot be read as a table"),
        (lambda t: 7, "labels: int cannot be read as a table"),
    ],
)
def test_tables_in_memory(case: Case, break_it: Callable[[pd.DataFrame], object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        labelfix.clean(case.images, break_it(pd.read_csv(case.labels)), case.trusted, out=case.out)
    assert said in str(caught.value)
    assert list(case.out.iterdir()) == []


# -------------------------------------------------------------------------------------------- no good row lost


def test_odd_but_sound_input_loses_no_row(case: Case) -> None:
    """Everything that may look like a fault and is none, in one run that reaches the features."""
    (case.images / "dog/1.png").rename(case.images / "dog/na, \u00efve \u201cx\u201d.png")
    lines = [
        '\ufeff"Note";" File Name ";LABEL;Worker',
        "",
        '"two\r\nlines";cat/0.png;  007 ;ann',
        "x;.\\cat\\1.png;7;ann",
        f"x;{case.images}/cat/2.png;NA;",
        "   ",
        "x;images/cat/3.png;null;bob",
        'x;"dog/na, i\u0308ve \u201cx\u201d.png";None;bob',
        'x;" dog/0.png";"say ""no""";bob',
        "x;dog/2.png;007;bob",
    ]
    labels = case.write("odd.csv", "\r\n".join(lines))
    table = read_label_table(
        labels,
        case.trusted,
        identify=ImageFolder(case.images).identify,
        new_classes=["cat", "dog"],
        spellings=Spellings.KEEP,
    )
    assert table.keys.to_pylist() == [
        "cat/0.png", "cat/1.png", "cat/2.png", "cat/3.png", "dog/na, \u00efve \u201cx\u201d.png", "dog/0.png",
        "dog/2.png",
    ]  # fmt: skip
    assert [table.classes[k] for k in table.given] == ["007", "7", "NA", "null", "None", 'say "no"', "007"]
    assert table.annotators == ("ann", "bob")
    code, said = case.clean("--new-classes", "cat,dog", "--spellings", "keep", labels=labels)
    assert code == 70
    assert "bad input went on to the features" in said
