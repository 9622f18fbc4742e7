"""Reading tables: every cell as it was written, every fault with its line."""

import csv
import errno
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from labelfix.errors import InputError
from labelfix.inputs.readers import Problems, RawTable, read_table


def read(source: object, **options: object) -> RawTable:
    problems = Problems()
    table = read_table(source, problems, **options)  # type: ignore[arg-type]
    problems.raise_if_any()
    assert table is not None
    return table


def faults(source: object, **options: object) -> list[str]:
    problems = Problems()
    read_table(source, problems, **options)  # type: ignore[arg-type]
    assert problems.count >= len(problems.messages)
    return problems.messages


def rows_of(table: RawTable) -> list[tuple[str | None, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns.values()), strict=True))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---------------------------------------------------------------------------------------- cells as written


def test_numbers_and_null_words_stay_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "image,label\n1,007\n2,7\n3,NA\n4,null\n5,None\n6,1e3\n7,true\n8,nan\n")
    assert read(path).columns["label"].to_pylist() == ["007", "7", "NA", "null", "None", "1e3", "true", "nan"]
    assert read(path).columns["image"].to_pylist() == list("12345678")


def test_labels_are_trimmed_and_image_names_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "image,label,annotator\n a.png ,  big cat ,\tann\u00a0\n")
    assert rows_of(read(path)) == [(" a.png ", "big cat", "ann")]


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".csv", "image,label\na,cat\nb,dog\n"),
        (".csv", "image;label\na;cat\nb;dog\n"),
        (".csv", "image|label\r\na|cat\r\nb|dog"),
        (".csv", "image\tlabel\na\tcat\nb\tdog\n"),
        (".tsv", "image\tlabel\na\tcat\nb\tdog\n"),
        (".tsv", "image,label\na,cat\nb,dog\n"),
        (".CSV", "image,label\na,cat\nb,dog\n"),
        (".txt", "\ufeffimage,label\na,cat\nb,dog\n"),
        (".csv", '\ufeff"image","label"\n"a","cat"\n"b","dog"\n'),
        (".csv", "image,label\ra,cat\rb,dog\r"),
        (".csv", "\n\nimage,label\n\na,cat\n   \n\nb,dog\n\n"),
        (".csv", " Image , LABEL \na,cat\nb,dog\n"),
        (".csv", "File Name,Class\na,cat\nb,dog\n"),
        (".csv", "note,label,path\nx,cat,a\ny,dog,b\n"),
        (".csv", 'image,label,"a, note"\na,cat,"x, y"\nb,dog,"say ""no"""\n'),
        (".csv", '"a, b; c";image;label\n1;a;cat\n2;b;dog\n'),
        (".csv", 'image,label,"two\nlines"\na,cat,1\nb,dog,2\n'),
        (".jsonl", '{"image": "a", "label": "cat"}\n\n{"label": "dog", "image": "b"}\n'),
        (
            ".ndjson",
            '\ufeff{"file_name": "a", "class": "cat", "x": [1]}\r\n{"file_name": "b", "class": "dog"}',
        ),
    ],
)
def test_dialects_read_alike(tmp_path: Path, ending: str, content: str) -> None:
    table = read(write(tmp_path / f"l{ending}", content))
    assert rows_of(table) == [("a", "cat"), ("b", "dog")]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
CELL = TEXT.filter(lambda text: bool(text.strip()) and pa.compute.utf8_trim_whitespace(text).as_py() == text)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", "\t", ";"]),
)
@example(rows=[('"', '""', ",\n,"), ("a\rb", ";", "'")], quoting=csv.QUOTE_ALL, end="\n", delimiter=",")
def test_csv_round_trip(rows: list[tuple[str, str, str]], quoting: int, end: str, delimiter: str) -> None:
    # Older csv modules do not quote a carriage return where lines end in a line feed.
    assume(quoting == csv.QUOTE_ALL or end == "\r\n" or "\r" not in "".join(map("".join, rows)))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end, delimiter=delimiter)  # type: ignore[arg-type]
    writer.writerow(["image", "label", "annotator"])
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        table = read(write(Path(folder) / "l.csv", text.getvalue()))
    assert rows_of(table) == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL | st.integers()), min_size=1, max_size=8), st.booleans())
def test_json_lines_round_trip(rows: list[tuple[str, str | int]], escaped: bool) -> None:
    lines = [json.dumps({"image": image, "label": label}, ensure_ascii=escaped) for image, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        table = read(write(Path(folder) / "l.jsonl", "\n".join(lines)))
    assert rows_of(table) == [(image, str(label)) for image, label in rows]


# -------------------------------------------------------------------------------------------- which column


def test_trusted_labels_come_before_given_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "image,label,trusted_label\na,cat,dog\n")
    assert read(path, trusted=True).columns["label"].to_pylist() == ["dog"]
    assert read(path).columns["label"].to_pylist() == ["cat"]
    path = write(tmp_path / "t.csv", "image,label,true_label\na,cat,dog\n")
    assert read(path, trusted=True).columns["label"].to_pylist() == ["dog"]


def test_own_name_comes_before_synonyms(tmp_path: Path) -> None:
    table = read(write(tmp_path / "l.csv", "path,image,class,label,worker\np,i,c,l,w\n"))
    assert rows_of(table) == [("i", "l", "w")]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("image,label,Label", "2 columns could each be the label column ('label', 'Label')"),
        ("image,image,label", "2 columns could each be the image column"),
        ("filename,path,label", "2 columns could each be the image column ('filename', 'path')"),
        ("image,tag", "has no label column; its columns are 'image', 'tag'. Name one of them 'label'"),
        ("a.png,cat", "has no image column"),
    ],
)
def test_columns_that_cannot_be_told(tmp_path: Path, header: str, said: str) -> None:
    messages = faults(write(tmp_path / "l.csv", header + "\na,b,c\n"))
    assert messages[0].startswith("l.csv: ")
    assert said in messages[0]


# --------------------------------------------------------------------------------------------- line numbers


def test_ragged_rows_are_reported_by_line_and_lose_no_other_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "l.csv",
        'image,label,note\n\na,cat,"two\nlines"\nb,dog\nc,cat,x\nd,dog,x,y\n\n"e,\n",cat,é,"z"\nf,dog,x\n',
    )
    problems = Problems()
    table = read_table(path, problems)
    assert table is not None
    assert rows_of(table) == [("a", "cat"), ("c", "cat"), ("f", "dog")]
    assert table.at([0, 1, 2]) == ["l.csv, line 3", "l.csv, line 6", "l.csv, line 11"]
    assert problems.count == 3
    assert [message.split(":")[0] for message in problems.messages] == [
        "l.csv, line 5", "l.csv, line 7", "l.csv, line 9",
    ]  # fmt: skip
    assert "has 2 fields where the header has 3 ('b,dog')" in problems.messages[0]
    assert "parted by commas" in problems.messages[0]


def test_empty_cells_are_reported_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 'image,label\n\n,cat\nb,\nc,"  "\n,\nd,dog\n')
    assert [message.split(";")[0] for message in faults(path)] == [
        "l.csv, line 3: the image is empty",
        "l.csv, line 4: the label is empty",
        "l.csv, line 5: the label is empty",
        "l.csv, line 6: the image and the label are empty",
    ]


def test_lines_of_other_formats(tmp_path: Path) -> None:
    lines = '\n{"image": "a", "label": null}\n{"image": "b"}\nno\n{"image": "c", "label": 1}\n{"image": ""}\n'
    table_faults = faults(write(tmp_path / "l.jsonl", lines))
    assert [message.split(":")[0] for message in table_faults] == [f"l.jsonl, line {n}" for n in (4, 2, 3, 6)]
    pq.write_table(pa.table({"image": ["a", None], "label": ["x", "y"]}), tmp_path / "l.parquet")
    assert faults(tmp_path / "l.parquet") == [
        "l.parquet, row 2: the image is empty; expected a value. Fill the row in, or remove it."
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a,b\n", "\n", "  \n", '"x\ny",b\n', "a\n", "a,b,c\r\n", "a,\n"]), min_size=1)
)
def test_line_numbers_agree_with_a_count(parts: list[str]) -> None:
    expected_ragged, expected_empty, line = [], [], 2
    for part in parts:
        if part in ("a\n", "a,b,c\r\n"):
            expected_ragged.append(line)
        elif part == "a,\n":
            expected_empty.append(line)
        line += part.count("\n")
    with tempfile.TemporaryDirectory() as folder:
        problems = Problems()
        table = read_table(write(Path(folder) / "l.csv", "image,label\n" + "".join(parts)), problems)
    told = [int(message.split(":")[0].split()[-1]) for message in problems.messages if ", line" in message]
    assert told == (expected_ragged + expected_empty)[:10]
    good = parts.count("a,b\n") + parts.count('"x\ny",b\n')
    assert table is not None
    assert sum(label is not None for label in table.columns["label"].to_pylist()) == good
    no_rows = not good and not expected_ragged and not expected_empty
    assert problems.count == len(expected_ragged) + len(expected_empty) + no_rows


# ----------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", b"", "the file is empty"),
        ("l.csv", b"\n \n\n", "l.csv: holds nothing but blank lines"),
        ("l.csv", b"\xef\xbb\xbf", "l.csv: holds nothing but blank lines"),
        ("l.csv", b"image,label\n", "l.csv: has columns but no rows"),
        ("l.csv", b"image,label\n  \n", "l.csv: has columns but no rows"),
        ("l.csv", "image,label\na,b\n".encode("utf-16"), "l.csv: is encoded in UTF-16; expected UTF-8"),
        ("l.csv", "image,label\na,b\n".encode("utf-16-be"), "l.csv: is encoded in UTF-16; expected UTF-8"),
        ("l.csv", "image,label\na,b\n".encode("utf-16-le"), "l.csv: is encoded in UTF-16; expected UTF-8"),
        ("l.csv", "image,label\na,b\n".encode("utf-32"), "l.csv: is encoded in UTF-32; expected UTF-8"),
        ("l.csv", "image,label\na,b\né,x\n".encode("latin-1"), "l.csv, line 3: byte 0xe9 at position 1"),
        ("l.csv", "imagé,label\na,b\n".encode("latin-1"), "l.csv, line 1: byte 0xe9 at position 5"),
        ("l.csv", b"image,label\na,b\xc3", "l.csv, line 2: byte 0xc3 at position 4"),
        ("l.csv", b"image,label\na,b\nc,d,\xe9\n", "l.csv, line 3: byte 0xe9"),
        ("l.csv", b"image,label\na,b\nc,\0\n", "l.csv, line 3: holds a NUL byte at position 3"),
        ("l.csv", b'image,label\na,b\nc,"d\ne,f\n', "l.csv, line 3: the quotes of this row do not match"),
        ("l.csv", b'image,label\na,b\nc,"d\ne,"f\ng,h\n', "l.csv, line 3: the quotes of this row do not match"),
        ("l.csv", b'image,label,note\nc,d,"x\ne,f,y\n', "l.csv, line 2: the quotes of this row do not match"),
        ("l.csv", b'"image,label\na,b\n', "l.csv, line 1: the quotes of this row do not match"),
        ("l.jsonl", b"\n\n", "l.jsonl: holds no rows"),
        ("l.json", b' [{"image": "a", "label": "b"}]', "l.json: begins with '['"),
        ("l.jsonl", b'{"image": "a"', "l.jsonl, line 1: is not JSON"),
        ("l.jsonl", b'{"image": "a", "label": "\xe9"}', "l.jsonl, line 1: byte 0xe9"),
        ("l.jsonl", '{"image": "a", "label": "b"}'.encode("utf-16"), "l.jsonl: is encoded in UTF-16"),
        ("l.jsonl", b"[" * 3 + b"\n", "begins with '['"),
        ("l.jsonl", b'{"a":' * 100_000, "l.jsonl, line 1: is not JSON"),
        ("l.jsonl", b'"a"\n3\nnull\n', 'l.jsonl, line 1: holds "a"; expected an object'),
        ("l.jsonl", b'{"image": "a", "label": 1.5}', "l.jsonl, line 1: the label is 1.5; expected a string"),
        ("l.jsonl", b'{"image": "a", "label": 1e999}', "l.jsonl, line 1: the label is inf"),
        ("l.jsonl", b'{"image": "a", "label": true}', "l.jsonl, line 1: the label is true"),
        ("l.jsonl", b'{"image": ["a"], "label": "b"}', 'l.jsonl, line 1: the image is ["a"]'),
        ("l.jsonl", b'{"image": "a", "label": "\\ud800"}', "l.jsonl, line 1: the label is"),
        ("l.jsonl", b'{"image": "a\\u0000", "label": "x"}', "l.jsonl, line 1: the image holds a NUL"),
        ("l.jsonl", b'{"image": "a", "label": ' + b"9" * 5000 + b"}", "l.jsonl, line 1: is not JSON"),
        ("l.jsonl", b'{"image": "a", "tag": "b"}', "l.jsonl: has no label column; its columns are 'image', 'tag'"),
        ("l.parquet", b"PAR1 not really", "l.parquet: is not a Parquet file that can be read"),
        ("l.xlsx", b"PK", "the ending '.xlsx' is not one that labelfix reads"),
        ("labels", b"image,label", "the ending '' is not one that labelfix reads"),
    ],
)  # fmt: skip
def test_broken_files(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    messages = faults(write(tmp_path / name, content))
    assert said in messages[0]
    assert messages[0].endswith(".")


def test_every_line_that_is_not_utf8_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", b"image,label\n" + b"a,\xe9\n" * 40)
    problems = Problems()
    assert read_table(path, problems) is None
    assert (problems.count, len(problems.messages)) == (40, 10)
    assert problems.messages[9].startswith("l.csv, line 11: ")


def test_utf8_across_blocks_and_long_fields(tmp_path: Path) -> None:
    note = "é" * (9 << 20)  # two bytes each: a block ends within one of them, whichever way it falls
    path = write(
        tmp_path / "l.csv",
        f'image,label,note\na,cat,\n\nb,dog,"{note[: 7 << 20]}"\n{"x" * 77},c,{note[:99]}\n',
    )
    assert read(path).num_rows == 3
    path = write(tmp_path / "l.csv", f'image,label,note\na,cat,"1\n2"\nb,,"{"x" * 200_000}"\n')
    limit = csv.field_size_limit()
    assert faults(path)[0].startswith("l.csv, line 4: the label is empty")
    assert csv.field_size_limit() == limit


def test_a_letter_cut_short_by_the_end_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelfix.inputs.readers.delimited.BLOCK_BYTES", 64)
    start = b"image,label,note\na,cat,"
    whole = start + b"x" * (63 - len(start)) + "é".encode() + b"\nb,dog,x\n"
    assert read(write(tmp_path / "l.csv", whole)).num_rows == 2
    broken = whole.replace("é".encode(), b"\xc3") + b"c" * 99 + b",cat,x\n"
    assert faults(write(tmp_path / "l.csv", broken))[0].startswith("l.csv, line 2: byte 0xc3 at position 47")


def test_paths_that_are_no_tables(tmp_path: Path) -> None:
    assert "is not a file" in faults(tmp_path)[0]
    assert "does not exist" in faults(tmp_path / "gone.csv")[0]
    assert "expected a CSV" in faults("x" * 5000)[0] or "cannot be read" in faults("x" * 5000)[0]
    assert "does not exist" in faults("a\0b.csv")[0]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write(tmp_path / f"l{ending}", "image,label\na,b\n")
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so modes do not do
    assert faults(path) == [f"{path}: cannot be read (Permission denied). Check the path and permissions."]


def test_truncated_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a"] * 99, "label": ["x"] * 99}), tmp_path / "l.parquet")
    content = (tmp_path / "l.parquet").read_bytes()
    write(tmp_path / "l.parquet", content[: len(content) // 2])
    assert "l.parquet: is not a Parquet file that can be read" in faults(tmp_path / "l.parquet")[0]


def test_json_keys_may_come_late(tmp_path: Path) -> None:
    lines = '{"image": "a", "label": "x"}\n{"image": "b", "label": "y", "annotator": "ann"}\n'
    assert rows_of(read(write(tmp_path / "l.jsonl", lines))) == [("a", "x", None), ("b", "y", "ann")]


def test_json_fault_leaves_the_other_rows_and_their_lines(tmp_path: Path) -> None:
    lines = '{"image": "a", "label": 1.5}\n\n{"image": "b", "label": "y"}\n'
    problems = Problems()
    table = read_table(write(tmp_path / "l.jsonl", lines), problems)
    assert table is not None
    assert (rows_of(table), table.at([0]), problems.count) == ([("b", "y")], ["l.jsonl, line 3"], 1)


# ---------------------------------------------------------------------------------- Arrow, pandas and Parquet


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([7, 8]), ["7", "8"]),
        (pa.array([7, 8], pa.uint8()).dictionary_encode(), ["7", "8"]),
        (pa.array(["007", "x"]).dictionary_encode(), ["007", "x"]),
        (pa.array(["007", "x"], pa.large_string()), ["007", "x"]),
        (pa.array(["007", "x"], pa.string_view()), ["007", "x"]),
        (
            pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["a", "b"], pa.string_view())),
            ["b", "a"],
        ),
        (pa.array([b"007", b"x"]), ["007", "x"]),
    ],
)
def test_arrow_types(tmp_path: Path, values: pa.Array, text: list[str]) -> None:
    table = pa.table({"image": ["a", "b"], "label": values})
    assert read(table).columns["label"].to_pylist() == text
    twice = pa.concat_tables([table, table])
    assert read(twice).columns["label"].to_pylist() == text * 2
    if "view" not in str(values.type):  # older Parquet writers have no views
        pq.write_table(twice, tmp_path / "l.parquet")
        assert read(tmp_path / "l.parquet").columns["label"].to_pylist() == text * 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([1.0, 2.0]), "is of type double; expected strings or whole numbers"),
        (pa.array([True, False]), "is of type bool"),
        (pa.array([["a"], ["b"]]), "is of type list"),
        (pa.array([b"\xe9", b"x"]), "the label column 'label' is not text in UTF-8"),
        (pa.array([b"\xe9", b"x"]).dictionary_encode(), "the label column 'label' is not text in UTF-8"),
        (pa.nulls(2), "labels, row 1: the label is empty"),
        (pa.array(["a\0", "b"]), "labels, row 1: the label holds a NUL character"),
    ],
)
def test_arrow_types_that_are_no_labels(values: pa.Array, said: str) -> None:
    assert said in faults(pa.table({"image": ["a", "b"], "label": values}))[0]


def test_invalid_utf8_in_parquet_strings(tmp_path: Path) -> None:
    offsets = pa.array([0, 1], pa.int32()).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xe9")])
    pq.write_table(pa.table({"image": ["a"], "label": bad}), tmp_path / "l.parquet")
    assert "not text in UTF-8" in faults(tmp_path / "l.parquet")[0]


def test_folders_named_like_columns_add_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "label=cat"
    folder.mkdir()
    pq.write_table(pa.table({"image": ["a"], "label": ["dog"]}), folder / "l.parquet")
    assert read(folder / "l.parquet").columns["label"].to_pylist() == ["dog"]


@pytest.mark.parametrize("kind", ["str", "object", "string", "category", "string[pyarrow]"])
def test_pandas(kind: str) -> None:
    frame = pd.DataFrame({"image": ["a", "b"], "label": ["007", "x"], "other": [object(), {}]}, index=[5, 3])
    frame["label"] = frame["label"].astype(kind)
    assert rows_of(read(frame)) == [("a", "007"), ("b", "x")]


def test_pandas_integers_and_missing_values() -> None:
    frame = pd.DataFrame({"image": [1, 2], "label": pd.array([3, None], "Int64")})
    assert rows_of(read(pd.DataFrame({"image": [1, 2], "label": [3, 4]}))) == [("1", "3"), ("2", "4")]
    assert faults(frame)[0].startswith("labels, row 2: the label is empty")
    assert "is of type double" in faults(pd.DataFrame({"image": [1, 2], "label": [3, np.nan]}))[0]
    assert "DataFrame cannot be read" in faults(pd.DataFrame({"image": ["a", "b"], "label": ["x", 3]}))[0]


class Capsule:
    """A table of another library: all it offers is Arrow's stream."""

    def __init__(self, table: pa.Table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_any_table_with_an_arrow_stream() -> None:
    table = Capsule(pa.table({"image": ["a"], "label": pa.array(["x"], pa.string_view())}))
    assert rows_of(read(table)) == [("a", "x")]
    assert rows_of(read({"image": ["a"], "label": ["x"]})) == [("a", "x")]


@pytest.mark.parametrize("source", [5, [{"image": "a"}], {"image": ["a"], "label": ["x", "y"]}, object()])
def test_what_is_no_table(source: object) -> None:
    assert "cannot be read as a table" in faults(source)[0]


def test_empty_tables_in_memory() -> None:
    assert faults(pa.table({"image": pa.array([], pa.string()), "label": pa.array([], pa.string())})) == [
        "labels: has columns but no rows; expected at least one row. Check the file."
    ]


# -------------------------------------------------------------------------------------------------- Problems


def test_problems_describe_no_more_than_they_show() -> None:
    problems = Problems()
    described = []

    def describe() -> object:
        for number in range(100):
            described.append(number)
            yield f"fault {number}"

    problems.add("first")
    problems.add_many(100, describe)  # type: ignore[arg-type]
    problems.add("last")
    assert len(described) <= 10
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    lines = str(caught.value).split("\n")
    assert lines[:2] == ["first", "fault 0"]
    assert lines[9:] == ["fault 8", "… and 92 more (102 faults in all)."]
    assert caught.value.count == 102
