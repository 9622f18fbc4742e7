"""``labelfix demo``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labelfix_cli.outcome import ends_cleanly, when_interrupted

__all__ = ["demo"]


@ends_cleanly
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo data and its run.")] = Path(
        "labelfix-demo"
    ),
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an earlier demo.")] = False,
    seed: Annotated[int, typer.Option(help="Of the planted noise and of the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Write a small real data set with planted label noise, clean it, and compare with the truth."""
    from labelfix.demo import SIDE, run_demo
    from labelfix.system.progress import SilentProgress, TerminalProgress
    from labelfix_cli.screen import show_summary

    with when_interrupted(lambda: "Start over in another folder, or with --force in this one."):
        outcome = run_demo(
            folder, force=force, seed=seed, progress=SilentProgress() if quiet else TerminalProgress()
        )
    compared = {
        "rows": outcome.rows,
        "planted": outcome.planted,
        "flagged": outcome.flagged,
        "found": outcome.found,
        "precision": outcome.precision,
        "recall": outcome.recall,
        "noise_before": outcome.noise_before,
        "noise_after": outcome.noise_after,
    }
    if as_json:
        typer.echo(json.dumps({**outcome.result.summary, "truth": compared}, indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo(
            f"$ labelfix clean {folder}/images {folder}/labels.csv --trusted {folder}/trusted.csv "
            f"--out {folder}/labelfix-out --image-size {SIDE}\n"
        )
        show_summary(outcome.result.summary)
        typer.echo(
            f"\nAgainst the planted truth, on the {outcome.rows:,} images that nobody verified:\n"
            f"  planted wrong labels   {outcome.planted:,}\n"
            f"  flagged                {outcome.flagged:,}, of which wrong {outcome.found:,}: "
            f"precision {outcome.precision:.1%}, recall {outcome.recall:.1%}\n"
            f"  noise rate             {outcome.noise_before:.1%} before, {outcome.noise_after:.1%} after "
            "taking every predicted label"
        )
