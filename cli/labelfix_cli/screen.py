"""The summary on the screen at the end of a run."""

from typing import Any

import typer

__all__ = ["show_summary"]

LABEL_WIDTH = 18


def show_summary(summary: dict[str, Any]) -> None:
    """Print the summary of a run: inputs, results, files and the next step."""
    from labelfix.runs.summary_text import next_steps, summary_lines

    for label, text in summary_lines(summary):
        typer.echo(f"{label:<{LABEL_WIDTH}}{text}")
    typer.echo()
    for step in next_steps(summary):
        typer.echo(step)
