"""Rows of the history come back as they were; a terminal shows them, anything else stays quiet."""

import dataclasses
import io
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from labelfix.errors import OutputError
from labelfix.system.progress import SilentProgress, TerminalProgress
from labelfix.training.epoch_log import EpochRow, watching, write_history


def row(epoch: int, *, seconds: float = 60.0, meta_loss: float = 0.5) -> EpochRow:
    return EpochRow(
        fold=0, epoch=epoch, phase="mslg" if epoch > 1 else "warm-up", learning_rate=0.01, train_loss=1.25,
        meta_loss=meta_loss, labels_moved=1234, agreement=0.9, held_out_accuracy=0.875,
        images_per_second=4321.0, seconds=seconds,
    )  # fmt: skip


def shown_on(progress: TerminalProgress, *, terminal: bool) -> io.StringIO:
    file = io.StringIO()
    progress.console = Console(
        file=file, force_terminal=terminal, width=120, highlight=False, color_system=None
    )
    return file


def test_history_comes_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    rows = [row(1, meta_loss=math.nan), row(2)]
    write_history(tmp_path, rows[:1])
    write_history(tmp_path, rows)
    assert [path.name for path in tmp_path.iterdir()] == ["history.parquet"]
    found = pq.read_table(tmp_path / "history.parquet").to_pylist()
    assert [r["phase"] for r in found] == ["warm-up", "mslg"]
    assert math.isnan(found[0]["meta_loss"])
    assert EpochRow(**found[1]) == rows[1]


def test_a_terminal_shows_steps_epochs_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelfix.training.epoch_log.SECONDS_BETWEEN_DRAWINGS", 0.0)
    progress = TerminalProgress()
    file = shown_on(progress, terminal=True)
    with watching(progress) as watch:
        watch.step(1, 7, 391)
        assert "epoch 1: 7 of 391 steps" in file.getvalue()
        assert " left" not in file.getvalue()
        watch.epoch(row(1, meta_loss=math.nan), epochs_left={"warm-up": 0, "mslg": 14})
        watch.epoch(row(2, seconds=120.0), epochs_left={"warm-up": 0, "mslg": 13})
        said = file.getvalue()
    for words in ("26:00 left", "warm-up", "1,234", "90.0%", "87.5%", "4,321", "1.250", "–"):
        assert words in said, words


def test_the_time_left_counts_each_phase_by_its_own_epochs() -> None:
    """An epoch of MSLG takes as long as three of the warm-up."""
    progress = TerminalProgress()
    file = shown_on(progress, terminal=True)

    def title(shown: EpochRow, *, warm_up: int, mslg: int) -> str:
        file.truncate(file.seek(0))
        watch.epoch(shown, epochs_left={"warm-up": warm_up, "mslg": mslg})
        return next(line for line in file.getvalue().splitlines() if "Training" in line).strip()

    with watching(progress) as watch:
        first = dataclasses.replace(row(1), phase="warm-up")
        assert title(first, warm_up=4, mslg=10).endswith(", 4:00 left of the warm-up")
        assert title(first, warm_up=0, mslg=10).endswith("the network")
        assert title(row(2, seconds=180.0), warm_up=5, mslg=9).endswith(", 32:00 left")


def test_a_history_that_cannot_be_written_is_a_fault_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"history\.parquet: cannot be written"):
        write_history(tmp_path / "gone", [row(1)])


def test_steps_are_drawn_seldom() -> None:
    progress = TerminalProgress()
    file = shown_on(progress, terminal=True)
    with watching(progress) as watch:
        watch.step(1, 1, 10_000)
        length = len(file.getvalue())
        for done in range(2, 1000):
            watch.step(1, done, 10_000)
        assert len(file.getvalue()) - length < 5 * length


@pytest.mark.parametrize("silent", [True, False])
def test_nothing_is_shown_elsewhere(silent: bool) -> None:
    progress = TerminalProgress()
    file = shown_on(progress, terminal=False)
    with watching(SilentProgress() if silent else progress) as watch:
        watch.step(1, 1, 10)
        watch.epoch(row(1), epochs_left={})
    assert file.getvalue() == ""
