"""``labelfix next``."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelfix_cli.outcome import ends_cleanly

if TYPE_CHECKING:
    from labelfix.drawing import Verification

__all__ = ["next_rows"]


class Goal(StrEnum):
    """The promise that rows are verified for."""

    FIX_ERROR = "fix-error"
    LABEL_ERROR = "label-error"


@ends_cleanly
def next_rows(
    run: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a finished labelfix clean.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many images to verify.")] = 200,
    goal: Annotated[
        Goal,
        typer.Option(
            "--for",
            help="A promise of fixes: a sample of them; or of all labels: every label that is left open.",
        ),
    ] = Goal.FIX_ERROR,
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
    show_given: Annotated[
        bool,
        typer.Option(
            "--show-given", help="Write given label and suggestion too; who sees them agrees more often."
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how likely a promise is, for several -n; draw nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace --out.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Draw the images whose verification is worth most.

    Fill in the column trusted_label from the top: a class, or ? where nobody can tell. As far as you get counts,
    and you may run clean in between: a promise holds at every look. Pass the table to clean with one more
    --trusted. What was drawn is recorded beside it, in NAME.draw.parquet, and in OUT/draws.
    """
    from labelfix import open_run

    found = open_run(run).next(
        count,
        None if plan else out,
        purpose=goal.value,
        max_fix_error=max_fix_error,
        seed=seed,
        show_given=show_given,
        force=force,
    )
    if as_json:
        typer.echo(json.dumps(_summary(found, out), indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo("\n".join(_chances(found) if plan else _lines(found, out, goal)).rstrip())


def _summary(found: "Verification", out: Path) -> dict[str, object]:
    summary = {
        "out": str(out),
        "draw": found.draw.id,
        "rows": found.table.num_rows,
        "for": str(found.draw.purpose),
    }
    if found.plan is not None:
        plans = [vars(plan) for plan in found.options]
        summary |= {"fixes": found.plan.size, "chance": found.plan.chance, "plans": plans}
        summary |= {"max_fix_error": found.draw.settings["max_error"]}
    return summary


def _lines(found: "Verification", out: Path, goal: Goal) -> list[str]:
    rows = found.table.num_rows
    then = (
        f"Next: fill in the column trusted_label of {out} from the top (? where nobody can tell), and run "
        f"labelfix clean again with one more --trusted {out}"
    )
    if not rows:
        return ["No label is left open: nothing to verify."]
    if goal is Goal.LABEL_ERROR:
        return [
            (
                f"{rows:,} images to verify in {out}, the least confident first: with all of them, at most "
                f"{found.draw.settings['max_error']:.1%} of all labels are wrong.\n"
            ),
            f"{then} --max-label-error {found.draw.settings['max_error']:g}.",
        ]
    return [
        (
            f"{rows:,} images to verify in {out}: a random sample of the {found.draw.settings['size']:,} most"
            " confident fixes.\n"
        ),
        *_chances(found),
        f"{then} --max-fix-error {found.draw.settings['max_error']:g}.",
    ]


def _chances(found: "Verification") -> list[str]:
    """Return the chance of the promise for several numbers of rows, and which of them to take."""
    from labelfix.risk_control.plan import GOOD_CHANCE, recommended

    limit = found.draw.settings["max_error"]
    if found.plan is None:
        return [f"{found.table.num_rows:,} images have to be verified."]
    lines = [
        f"  {'verify':>8}{'chance':>9}{'fixes':>9}   to promise that at most {limit:.1%} of the fixes are wrong"
    ]
    lines += [
        f"  {plan.drawn:8,}{plan.chance:9.0%}{plan.size:9,}"
        + ("   this draw" if plan.drawn == found.plan.drawn else "")
        for plan in found.options
    ]
    best = recommended(found.options)
    if best is None:
        lines.append(
            f"\nNo plan is likely to succeed: even the most confident fixes seem wrong more often than {limit:.1%}."
            " Allow more with --max-fix-error, verify the suspects one by one and hand them back with --reviewed,"
            " or train with more trusted rows.\n"
        )
    elif best.drawn != found.plan.drawn and found.plan.chance < GOOD_CHANCE:
        lines.append(f"\nRecommended: -n {best.drawn}, a chance of {best.chance:.0%}.\n")
    else:
        lines.append("")
    return lines
