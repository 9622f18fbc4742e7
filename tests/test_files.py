"""The one way to replace a file: whole or not at all, and never over another one unasked."""

import os
from pathlib import Path

import pytest

from labelfix.errors import InputError, OutputError
from labelfix.system.files import replace_file, write_new_file
from labelfix.system.paths import check_paths


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    replace_file(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"table\.csv: cannot be written \(No space.*\)\. Make room\.$"):
        replace_file(path, half, advice="Make room.")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_file_and_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")) or real(number)
    )
    replace_file(tmp_path / "a", lambda temporary: temporary.write_text("x"))
    assert len(synced) == 2
    assert Path(synced[0]).name.startswith(".a.")
    assert Path(synced[1]) == tmp_path.resolve()


def test_a_new_file_is_not_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "made" / "new.csv"
    write_new_file(path, lambda temporary: temporary.write_text("one"), force=False)
    with pytest.raises(OutputError, match="already exists"):
        write_new_file(path, lambda temporary: temporary.write_text("two"), force=False)
    assert path.read_text() == "one"
    write_new_file(path, lambda temporary: temporary.write_text("two"), force=True)
    assert path.read_text() == "two"


def test_every_wrong_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        check_paths(tmp_path / "file", [tmp_path / "no.csv", tmp_path])
    assert [problem.split(": ")[1].split(";")[0] for problem in caught.value.problems] == [
        "is not a folder", "does not exist", "is not a file",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"probs\.npy: does not exist; expected a \.npy or \.parquet matrix"):
        check_paths(tmp_path / "probs.npy", [tmp_path / "file"])
    check_paths(tmp_path, [tmp_path / "file"])
