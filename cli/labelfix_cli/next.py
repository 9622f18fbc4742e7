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
    """Choose the images whose verification is worth most, with known chances of being drawn.

    Fill in the column trusted_label, as far as you come from the top, and pass the file to clean with one more
    --trusted. Its columns weight and drawn_from keep all estimates and promises right: leave them as they are.
    """
    from labelfix.risk_control.select import plan_verification, write_verification
    from labelfix.runs.reading import FinishedRun

    finished = FinishedRun.open(run)
    config = finished.record["config"]
    goal = max_fix_error or config.get("max_fix_error") or 0.05
    plan = plan_verification(
        finished.table("soft_labels"),
        count,
        held_out=finished.table("held_out") if finished.has("held_out") else None,
        max_fix_error=goal,
        coverage=config["interval"],
        seed=seed,
    )
    write_verification(plan, out, force=force)
    summary = {
        "out": str(out),
        "rows": plan.table.num_rows,
        "max_fix_error": goal,
        "fixes": plan.fixes,
        "fixes_drawn": plan.fixes_drawn,
        "chance": plan.chance,
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo(
            f"{plan.table.num_rows:,} images to verify in {out}: {plan.fixes_drawn:,} of the {plan.fixes:,} most "
            "confident fixes, the rest in doubt or at random."
        )
        typer.echo(
            f"Once verified, the chance to promise these fixes with at most {goal:.1%} wrong is about "
            f"{plan.chance:.0%}.\n"
        )
        typer.echo(
            f"Next: fill in its column trusted_label, and run labelfix clean again with one more --trusted {out}."
        )
