"""The results file survives crashes and several writers."""

import json
import multiprocessing
from pathlib import Path

import pytest

from labelfix.benchmark.results import append_row, finished_keys, read_rows
from labelfix.errors import InputError, OutputError


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert read_rows(path) == []
    rows = [{"key": "a", "last": 0.5}, {"key": "b", "last": None, "failed": "…"}]
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == rows
    assert finished_keys(path) == {"a", "b"}


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"key": "a"})
    with path.open("ab") as file:
        file.write(b'{"key": "b", "la')
    assert finished_keys(path) == {"a"}
    append_row(path, {"key": "c"})
    assert [row["key"] for row in read_rows(path)] == ["a", "c"]
    path.write_bytes(b'{"key": "to')
    append_row(path, {"key": "d"})
    assert [row["key"] for row in read_rows(path)] == ["d"]


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"key": "a", "last": 1})
    append_row(path, {"key": "a", "last": 2})
    assert read_rows(path) == [{"key": "a", "last": 2}]


def test_foreign_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "a"}\nnonsense\n[1]\n{"last": 1}\n')
    with pytest.raises(InputError) as caught:
        read_rows(path)
    assert caught.value.count == 3
    assert "line 2: is not a row of results" in str(caught.value)


def _append(path: Path, number: int) -> None:
    for i in range(20):
        append_row(path, {"key": f"{number}-{i}", "filler": "x" * 5000})


def test_several_writers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(path.read_text().splitlines()) == len(finished_keys(path)) == 60
    assert all(json.loads(line)["filler"] == "x" * 5000 for line in path.read_text().splitlines())


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Choose another --out"):
        append_row(tmp_path / "file" / "rows.jsonl", {"key": "a"})
