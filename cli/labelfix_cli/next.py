"""``labelfix next``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labelfix_cli.outcome import ends_cleanly

__all__ = ["next_rows"]


@ends_cleanly
def next_rows(
    run: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a finished labelfix clean.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many images to verify.")] = 100,
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write and to fill in.")] = Path(
        "next.csv"
    ),
    max_fix_error: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.999,
            help="The promise to work towards.  [default: that of the run, else 0.05]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace --out.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Choose the images whose verification is worth most, with known inclusion probabilities.

    Fill in the column trusted_label from the top, as far as you get, and pass the file to clean with one more
    --trusted. Its columns weight and drawn_from keep all estimates and promises valid: leave them as they are.
    """
    from labelfix import open_run

    plan = open_run(run).next(count, out, max_fix_error=max_fix_error, seed=seed, force=force)
    summary = {
        "out": str(out),
        "rows": plan.table.num_rows,
        "max_fix_error": plan.max_fix_error,
        "fixes": plan.fixes,
        "fixes_drawn": plan.fixes_drawn,
        "chance": plan.power,
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo(
            f"{plan.table.num_rows:,} images to verify in {out}: {plan.fixes_drawn:,} of the {plan.fixes:,} most "
            "confident fixes, the rest in doubt or at random."
        )
        typer.echo(
            f"Once verified, the chance to promise these fixes with at most {plan.max_fix_error:.1%} wrong is "
            f"about {plan.power:.0%}.\n"
        )
        typer.echo(
            f"Next: fill in its column trusted_label, and run labelfix clean again with one more --trusted {out}."
        )
