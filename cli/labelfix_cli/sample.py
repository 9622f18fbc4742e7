"""``labelfix sample``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labelfix.settings import MissingImages, Spellings
from labelfix.system.paths import check_paths
from labelfix_cli.outcome import ends_cleanly

__all__ = ["sample"]


@ends_cleanly
def sample(
    source: Annotated[
        Path, typer.Argument(help="Folder of images, or a .npy/.parquet matrix of features or probabilities.")
    ],
    labels: Annotated[
        Path, typer.Argument(help="Labels: CSV, TSV, JSON lines or Parquet with image, label.")
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many images to draw.")] = 300,
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write and to fill in.")] = Path(
        "to-verify.csv"
    ),
    by_class: Annotated[
        bool, typer.Option("--by-class", help="As many of each given label, where there are as many.")
    ] = False,
    show_given: Annotated[
        bool, typer.Option("--show-given", help="Write given labels too; who sees them agrees more often.")
    ] = False,
    trusted: Annotated[
        list[Path] | None,
        typer.Option("--trusted", "-t", help="Labels verified before, not drawn again.  [default: none]"),
    ] = None,
    reviewed: Annotated[
        list[Path] | None,
        typer.Option("--reviewed", help="The same, of images that somebody chose.  [default: none]"),
    ] = None,
    missing: Annotated[
        MissingImages, typer.Option(help="What happens to rows whose image does not exist.")
    ] = MissingImages.STOP,
    spellings: Annotated[
        Spellings,
        typer.Option(help="Labels that differ in spelling only: an error, one class, or a class each."),
    ] = Spellings.STOP,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace --out.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Draw the images whose labels to verify first, at random.

    Fill in the column trusted_label from the top: a class, or ? where nobody can tell. As far as you get counts; do
    not skip images that are hard. Then pass the table to clean with --trusted. What was drawn is recorded beside
    it, in NAME.draw.parquet: keep the two together.
    """
    check_paths(source, [labels, *(trusted or ()), *(reviewed or ())])

    from labelfix import sample as draw

    found = draw(
        source, labels, count, out, trusted=trusted or None, reviewed=reviewed or None, by_class=by_class,
        show_given=show_given, missing=missing, spellings=spellings, seed=seed, force=force,
    )  # fmt: skip
    rows, size = found.table.num_rows, found.draw.settings["size"]
    if as_json:
        summary = {"out": str(out), "draw": found.draw.id, "rows": rows, "of": size}
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif not quiet:
        typer.echo(f"{rows:,} of {size:,} images to verify in {out}.\n")
        typer.echo(
            "Next: fill in its column trusted_label from the top (? where nobody can tell), and pass it on:"
            f" labelfix clean {source} {labels} --trusted {out}"
        )
