"""Which labels are classes: new ones, tables without a class in common, words for no label, names in schemas."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from labelfix.errors import InputError, SettingError
from labelfix.inputs import read_class_list, read_label_table
from labelfix.inputs.null_words import is_null_word
from labelfix.inputs.readers import read_whole_table
from labelfix.settings import CleanConfig
from labelfix_cli import app


def table(*labels: str | None, **more: list[object]) -> pa.Table:
    """Return a table in which image i has the i-th label."""
    images = [f"{i}.png" for i in range(len(labels))]
    return pa.table({"image": images, "label": pa.array(labels, pa.string()), **more})


def fault(*args: object, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_label_table(*args, **options)  # type: ignore[arg-type]
    return caught.value


# ------------------------------------------------------------------------------------------------- new classes


def test_a_trusted_label_that_no_given_row_has_is_a_fault() -> None:
    labels = table("cat", "dog", "owl", "bat", "cat")
    error = fault(
        labels, [table("cat", "dgo", "zebra"), table("cat", "dgo", None, "owl", weight=[1, 2, 3, 4])]
    )
    assert error.problems == (
        "trusted 1, row 2: the trusted label 'dgo' (2 rows) is one that no given row has; expected one of the 4 "
        "classes (bat, cat, dog, …). Did you mean 'dog'? Correct it, or name it with --new-classes if it is a "
        "class.",
        "trusted 1, row 3: the trusted label 'zebra' (1 row) is one that no given row has; expected one of the 4 "
        "classes (bat, cat, dog, …). Correct it, or name it with --new-classes if it is a class.",
    )


def test_all_such_labels_are_counted() -> None:
    error = fault(table("a", "b"), table("a", *(f"new {k}" for k in range(30))))
    assert error.count == 30
    assert str(error).endswith("… and 20 more (30 faults in all).")


def test_no_whole_number_is_a_typo_of_another() -> None:
    assert "Did you mean" not in str(fault(table("12", "120"), table("12", "1200")))


def test_new_classes_are_classes() -> None:
    read = read_label_table(table("10", "9"), table("9", "11"), new_classes=["11", "8"])
    assert read.classes == ("8", "9", "10", "11")
    assert read.trusted.tolist() == [1, 3]
    assert read.warnings == (
        "1 class without a trusted row: '10'. Their noise is taken from the other classes; verify a few rows of "
        "each.",
        "1 class that only the trusted labels know: '11'. Only trusted rows teach them.",
        "1 class that no row has: '8'.",
    )


def test_new_classes_come_after_a_class_list() -> None:
    read = read_label_table(table("b", "a"), table("c"), classes=["b", "a"], new_classes=["c", "a"])
    assert read.classes == ("b", "a", "c")
    assert "label 'd' is not one of the 3 classes" in str(
        fault(table("b", "a"), table("d"), classes=["b", "a"], new_classes=["c"])
    )


def test_faults_of_the_new_classes_come_alone() -> None:
    error = fault(table("a", "b"), table("a", "c"), new_classes=["c", "c"])
    assert error.problems == (
        "--new-classes: class 'c' is named twice (places 1 and 2); expected every class once. Remove one of them.",
    )


def test_new_classes_of_the_command_line(tmp_path: Path) -> None:
    def new_classes(text: str) -> tuple[str, ...]:
        return read_class_list(text, option="--new-classes", fewest=1)

    assert new_classes("eel") == ("eel",)
    assert new_classes("eel, 1.5") == ("eel", "1.5")
    assert new_classes("1.5") == ("1.5",)
    (tmp_path / "new.txt").write_text("eel\nbig dog\n")
    assert new_classes(str(tmp_path / "new.txt")) == ("eel", "big dog")
    with pytest.raises(InputError, match=r"--new-classes: there is no file 'gone.txt'"):
        new_classes("gone.txt")
    with pytest.raises(InputError, match=r"--new-classes: names 0 classes \(\); expected at least one"):
        new_classes(",")


def test_class_names_are_no_plain_string() -> None:
    assert CleanConfig(new_classes=["eel", 5]).new_classes == ("eel", "5")  # type: ignore[arg-type, list-item]
    for name in ("classes", "new_classes"):
        with pytest.raises(SettingError, match="got 'eel'; expected a sequence of names"):
            CleanConfig.from_options({name: "eel"})


# --------------------------------------------------------------------------------------- no class in common


def test_tables_without_a_class_in_common() -> None:
    labels = table(*(str(k) for k in range(12)))
    error = fault(labels, table("cat", "dog", "eel", "fox"))
    assert error.problems == (
        "trusted: none of its labels (cat, dog, eel, …) is one of the 12 classes of labels (0, 1, 2, …); expected "
        "classes in common. Check that the tables belong together, and name the classes alike, or name those that "
        "no given row has with --new-classes.",
    )
    assert fault(labels, [table("cat"), table("1", "dog")]).count == 2  # one in common
    read = read_label_table(labels, table("cat"), new_classes=["cat"])
    assert len(read.classes) == 13


def test_classes_in_another_spelling_are_in_common() -> None:
    error = fault(table("cat", "dog"), table("CAT", "DOG"))
    assert error.count == 1
    assert "differ only in spelling" in str(error)


# ------------------------------------------------------------------------------------------------- null words


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "None", "NULL", "N/A", "n/a", "<NA>", "NaT", "-", "''", "\u200b", "—"]
)
def test_words_for_no_label_are_named(word: str) -> None:
    assert is_null_word(word)
    (warning,) = read_label_table(table("cat", word, "dog", word)).warnings
    assert warning == f"labels: the label {word!r} stands in 2 rows; if it means no label, remove these rows."
    assert read_label_table(table("cat", word), classes=["cat", word]).warnings == ()


@pytest.mark.parametrize("word", ["nano", "nun", "no", "0", "?", "background", "+", "naN"])
def test_other_words_are_labels(word: str) -> None:
    assert read_label_table(table("cat", word)).warnings == ()


def test_words_for_no_label_among_trusted_labels() -> None:
    labels = table("cat", "nan")
    drawn = read_label_table(labels, table("nan", "cat", weight=[2, 2])).warnings
    assert drawn[1] == "trusted: the label 'nan' stands in 1 row; if it means no label, empty these cells."
    said = str(fault(table("cat", "dog"), table("nan", "cat")))
    assert "'nan' (1 row) is one that no given row has" in said
    assert "If it means no label, remove these rows. Correct it" in said


def test_annotators_called_nan_are_unnamed() -> None:
    read = read_label_table(table("cat", "dog", "cat", "dog", annotator=["zoe", "nan", "None", "nan"]))
    assert read.annotators == ("zoe",)
    assert read.row_annotator.tolist() == [0, -1, -1, -1]
    assert read.warnings == (
        "the annotator 'None' (1 row) counts as unnamed, as in an empty cell. Call it otherwise if it is a name.",
        "the annotator 'nan' (2 rows) counts as unnamed, as in an empty cell. Call it otherwise if it is a name.",
    )


# ------------------------------------------------------------------------------------------- names in a schema


def with_names(codes: pa.Array, names: list[str]) -> pa.Table:
    features = {"image": {"dtype": "string"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = [f"{i}.png" for i in range(len(codes))]
    return pa.table({"image": images, "label": codes}).replace_schema_metadata(metadata)


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.uint16()])
def test_class_names_are_read_from_the_schema(tmp_path: Path, kind: pa.DataType) -> None:
    labels = with_names(pa.array([1, 0, 2, 1], kind), ["owl", "cat", "eel"])
    pq.write_table(labels, tmp_path / "l.parquet")
    for source in (labels, tmp_path / "l.parquet"):
        read = read_label_table(source, table("cat", "owl"))
        assert [read.classes[k] for k in read.given] == ["cat", "owl", "eel", "cat"]
    assert read_whole_table(tmp_path / "l.parquet").columns[1].to_pylist() == ["cat", "owl", "eel", "cat"]


def test_numbers_without_a_name_are_empty() -> None:
    error = fault(with_names(pa.array([1, -1, 0, 2]), ["owl", "cat"]))
    assert [line.split(":")[0] for line in error.problems] == ["labels, row 2", "labels, row 4"]


@pytest.mark.parametrize(
    "metadata", [b"", b"[]", b"{}", b'{"info": {"features": []}}', b'{"info": {"features": {"label": 1}}}']
)
def test_other_metadata_are_let_be(metadata: bytes) -> None:
    labels = pa.table({"image": ["a", "b"], "label": [0, 1]}).replace_schema_metadata(
        {b"huggingface": metadata}
    )
    assert read_label_table(labels).classes == ("0", "1")


# --------------------------------------------------------------------------------------------- command line


def test_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr("labelfix.clean", lambda *_, **options: seen.append(options))
    for name in ("labels.csv", "trusted.csv"):
        (tmp_path / name).write_text("image,label\na,x\n")
    arguments = [str(tmp_path), str(tmp_path / "labels.csv"), "--quiet", "--new-classes", "eel, fox"]
    result = CliRunner().invoke(app, ["clean", *arguments, "--spellings", "merge"])
    assert result.exit_code == 0, result.output
    assert seen[0]["new_classes"] == ("eel", "fox")
    assert seen[0]["spellings"] == "merge"
