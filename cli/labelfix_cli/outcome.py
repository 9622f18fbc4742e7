"""How a command ends: one place that turns exceptions into a message and an exit code."""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from labelfix.errors import LabelfixError

__all__ = ["ends_cleanly", "when_interrupted"]

BAD_INPUT = 2
OUR_FAULT = 70
INTERRUPTED = 130


def ends_cleanly(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: faults of the input exit with 2, interruptions with 130, our own faults with 70."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LabelfixError as error:
            _say(f"labelfix: {error}")
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt as stop:
            kept = str(stop)
            _say(f"labelfix: interrupted. {kept[:1].upper()}{kept[1:]}".rstrip())
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output went away, which is its right
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("LABELFIX_DEBUG"):
                traceback.print_exc()
            _say(
                f"labelfix: a fault of labelfix itself: {type(error).__name__}: {error}\n"
                "Please report it, with what LABELFIX_DEBUG=1 prints before the same command."
            )
            raise typer.Exit(OUR_FAULT) from None

    return run


@contextmanager
def when_interrupted(words: Callable[[], str]) -> Iterator[None]:
    """Word an interruption that says nothing itself by what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or words()) from None


def _say(message: str) -> None:
    typer.echo(message, err=True)
