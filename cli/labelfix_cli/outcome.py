"""The end of a command: exceptions become a message and an exit code."""

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
INTERNAL_ERROR = 70
INTERRUPTED = 130


def ends_cleanly(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: bad input exits with 2, an interruption with 130, an error of labelfix itself with 70."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LabelfixError as error:
            _echo_error(f"labelfix: {error}")
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt as stop:
            advice = str(stop)
            _echo_error(f"labelfix: interrupted. {advice[:1].upper()}{advice[1:]}".rstrip())
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of the output closed the pipe: no error
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("LABELFIX_DEBUG"):
                traceback.print_exc()
            _echo_error(
                f"labelfix: a fault of labelfix itself: {type(error).__name__}: {error}\n"
                "Please report it, with what LABELFIX_DEBUG=1 prints before the same command."
            )
            raise typer.Exit(INTERNAL_ERROR) from None

    return run


@contextmanager
def when_interrupted(advice: Callable[[], str]) -> Iterator[None]:
    """Give an interruption without a message the `advice`: what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or advice()) from None


def _echo_error(message: str) -> None:
    typer.echo(message, err=True)
