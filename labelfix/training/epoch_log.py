"""The log of every epoch: the rows of ``history.parquet``, and a live table on a terminal."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.system.files import replace_file
from labelfix.system.progress import Progress, TerminalProgress
from labelfix.system.run_files import HISTORY_FILE

__all__ = ["EpochRow", "EpochWatcher", "history_table", "watching", "write_history"]

ROWS_SHOWN = 12
SECONDS_BETWEEN_DRAWINGS = 0.5


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One epoch of one network.

    Attributes
    ----------
    fold, epoch
        Which network, from 0; which epoch, from 1.
    phase
        ``warm-up`` or ``mslg``.
    learning_rate
        Of the last step.
    train_loss, meta_loss
        Means over the epoch; NaN for the meta-loss during the warm-up.
    labels_moved
        Training rows whose most probable class changed during the epoch.
    agreement
        Share of the training rows whose most probable class is the given label.
    held_out_accuracy
        Of the classifier, on the trusted rows whose trusted labels training does not see; NaN without any.
    images_per_second
        Training images, evaluation not counted.
    seconds
        Of the whole epoch.
    """

    fold: int
    epoch: int
    phase: str
    learning_rate: float
    train_loss: float
    meta_loss: float
    labels_moved: int
    agreement: float
    held_out_accuracy: float
    images_per_second: float
    seconds: float


_TYPES = {int: pa.int32(), float: pa.float64(), str: pa.string()}
_SCHEMA = pa.schema([(f.name, _TYPES[f.type]) for f in fields(EpochRow)])  # type: ignore[index]


def history_table(rows: Sequence[EpochRow]) -> pa.Table:
    """Return one row per epoch and fold."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA)


def write_history(folder: Path, rows: Sequence[EpochRow]) -> None:
    """Replace ``history.parquet`` in `folder`, atomically.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    replace_file(folder / HISTORY_FILE, lambda path: pq.write_table(history_table(rows), path))


class EpochWatcher(Protocol):
    """Receives how far training is."""

    def step(self, epoch: int, done: int, total: int) -> None:
        """Take that `done` of `total` steps of an epoch, numbered from 1, are done."""
        ...

    def epoch(self, row: EpochRow, epochs_left: Mapping[str, int]) -> None:
        """Take one finished epoch, and how many of each phase are still to come in all folds."""
        ...


class _SilentEpochWatcher:
    def step(self, epoch: int, done: int, total: int) -> None:
        pass

    def epoch(self, row: EpochRow, epochs_left: Mapping[str, int]) -> None:
        pass


class _LiveTable:
    """The last epochs as a table on the terminal, the steps of the present one below it."""

    def __init__(self, live: Any):
        self.live = live
        self.shown: list[EpochRow] = []
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)  # by phase, of its last epochs
        self.left = ""
        self.drawn_at = 0.0

    def step(self, epoch: int, done: int, total: int) -> None:
        if time.monotonic() - self.drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._draw(f"epoch {epoch}: {done:,} of {total:,} steps")

    def epoch(self, row: EpochRow, epochs_left: Mapping[str, int]) -> None:
        self.shown = [*self.shown, row][-ROWS_SHOWN:]
        self.seconds[row.phase] = [*self.seconds[row.phase], row.seconds][-ROWS_SHOWN:]
        self.left = _time_left(self.seconds, epochs_left)
        self._draw("")

    def _draw(self, caption: str) -> None:
        self.drawn_at = time.monotonic()
        self.live.update(_drawn(self.shown, self.left, caption), refresh=True)


@contextmanager
def watching(progress: Progress) -> Iterator[EpochWatcher]:
    """Show a live table where `progress` draws on a terminal; else say nothing."""
    if not isinstance(progress, TerminalProgress) or not progress.console.is_terminal:
        yield _SilentEpochWatcher()
        return
    from rich.live import Live

    with Live(console=progress.console, transient=True, auto_refresh=False) as live:
        yield _LiveTable(live)


def _time_left(seconds: Mapping[str, list[float]], epochs_left: Mapping[str, int]) -> str:
    """Say the time left: an epoch of MSLG costs several of the warm-up, so only a phase that was seen is known."""
    to_come = [phase for phase, count in epochs_left.items() if count]
    known = [phase for phase in to_come if seconds.get(phase)]
    time_left = _duration(sum(epochs_left[phase] * fmean(seconds[phase]) for phase in known))
    if known == to_come:
        return f", {time_left} left"
    return f", {time_left} left of the warm-up" if known == ["warm-up"] else ""


def _drawn(rows: list[EpochRow], left: str, caption: str) -> Any:
    from rich.table import Table

    table = Table(title=f"Training the network{left}", title_justify="left")
    table.caption, table.caption_justify = caption, "left"
    for name in (
        "fold",
        "epoch",
        "phase",
        "loss",
        "meta loss",
        "moved",
        "agree",
        "held-out acc.",
        "images/s",
    ):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for row in rows:
        table.add_row(
            str(row.fold + 1),
            str(row.epoch),
            row.phase,
            f"{row.train_loss:.3f}",
            _number(row.meta_loss, ".3f"),
            f"{row.labels_moved:,}",
            f"{row.agreement:.1%}",
            _number(row.held_out_accuracy, ".1%"),
            f"{row.images_per_second:,.0f}",
        )
    return table


def _number(value: float, spec: str) -> str:
    return "–" if value != value else format(value, spec)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
