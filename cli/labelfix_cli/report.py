"""``labelfix report``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labelfix_cli.outcome import ends_cleanly

__all__ = ["report"]


@ends_cleanly
def report(
    out: Annotated[Path, typer.Argument(help="The --out of a finished labelfix clean.")],
    to: Annotated[
        Path | None,
        typer.Option(help="The file to write.  [default: report.html in OUT]", show_default=False),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Where the image folder is now.  [default: where it was]", show_default=False),
    ] = None,
    suspects: Annotated[int, typer.Option(help="Suspects to show at most, worst first.")] = 5000,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace the file even if it is not a report.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Write a run as one HTML page that needs no network.

    An earlier report at the same path is replaced: the run holds everything that it shows.
    """
    from labelfix.report import write_report

    written = write_report(out, to, images=images, suspects=suspects, force=force)
    if as_json:
        summary = {
            "path": str(written.path),
            "bytes": written.size,
            "suspects": written.suspects,
            "thumbnails": written.thumbnails,
            "notes": list(written.notes),
        }
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo(
            f"{written.path}: {written.suspects:,} suspects, {written.thumbnails:,} thumbnails, "
            f"{written.size / 1e6:.1f} MB"
        )
        for note in written.notes:
            typer.echo(f"note: {note}")
