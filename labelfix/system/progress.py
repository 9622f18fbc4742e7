"""How a stage tells a person how far it is.

Stages take a `Progress` and know nothing of terminals. `SilentProgress` is the default for Python callers;
`TerminalProgress` draws rich bars on standard error, with the rate and the time left.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Progress", "SilentProgress", "TerminalProgress"]

Advance = Callable[[int], None]


class Progress(Protocol):
    """Receives how far a stage is."""

    def stage(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Open a stage of `total` units; the value of the context advances it by n units."""
        ...

    def note(self, message: str) -> None:
        """Say one sentence that stays on the screen."""
        ...


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """Open a stage that nobody watches."""
        yield lambda count: None

    def note(self, message: str) -> None:
        """Keep quiet."""


class TerminalProgress:
    """Draws bars on standard error when that is a terminal; says notes there in any case."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """Open a stage with a bar, its rate in units per second and the time left."""
        from rich import progress

        with progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bars:
            task_id = bars.add_task(title, total=total, rate="")

            def advance(count: int) -> None:
                bars.advance(task_id, count)
                speed = bars.tasks[0].speed
                bars.update(task_id, rate=f"{speed:,.0f} {unit}/s" if speed else "")

            yield advance

    def note(self, message: str) -> None:
        """Print one line."""
        self.console.print(message, markup=False, soft_wrap=True)
