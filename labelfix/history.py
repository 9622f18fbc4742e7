"""What is said of every epoch: the rows of ``history.parquet``, and a live table on a terminal."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.progress import Progress, TerminalProgress
from labelfix.rundir import HISTORY_FILE

__all__ = ["EpochRow", "Watcher", "history_table", "watching", "write_history"]

ROWS_SHOWN = 12


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
    """Replace ``history.parquet`` in `folder`, atomically."""
    temporary = folder / f".{HISTORY_FILE}.tmp"
    pq.write_table(history_table(rows), temporary)
    os.replace(temporary, folder / HISTORY_FILE)


class Watcher(Protocol):
    """Receives every finished epoch."""

    def __call__(self, row: EpochRow, epochs_left: int) -> None:
        """Take one row, and how many epochs are still to come in all folds."""
        ...


@contextmanager
def watching(progress: Progress) -> Iterator[Watcher]:
    """Show the last epochs as a live table where `progress` draws on a terminal; else say nothing."""
    if not isinstance(progress, TerminalProgress) or not progress.console.is_terminal:
        yield lambda row, epochs_left: None
        return
    from rich.live import Live

    shown: list[EpochRow] = []
    with Live(console=progress.console, transient=True, auto_refresh=False) as live:

        def watch(row: EpochRow, epochs_left: int) -> None:
            shown.append(row)
            live.update(_drawn(shown[-ROWS_SHOWN:], epochs_left), refresh=True)

        yield watch


def _drawn(rows: list[EpochRow], epochs_left: int) -> Any:
    from rich.table import Table

    seconds = sum(row.seconds for row in rows) / len(rows) * epochs_left
    table = Table(title=f"Training the network, {_duration(seconds)} left", title_justify="left")
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
