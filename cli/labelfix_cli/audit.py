"""``labelfix audit``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labelfix.errors import SettingError
from labelfix_cli.outcome import ends_cleanly

__all__ = ["audit"]


@ends_cleanly
def audit(
    out: Annotated[Path, typer.Argument(help="The --out of a finished labelfix clean.")],
    interval: Annotated[
        float | None, typer.Option(help="Coverage of the intervals.  [default: that of the run]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
) -> None:
    """Show the accuracy of each annotator with its interval, what they confuse and how many labels are wrong.

    clean writes the same to annotators.parquet. Ranks are those that the intervals allow: an annotator ranks before
    another only where their intervals do not overlap.
    """
    from labelfix.audit.annotators import audit_run

    if interval is not None and not 0 < interval < 1:
        raise SettingError(f"--interval: got {interval}; expected a number between 0 and 1.")
    result = audit_run(out, interval=interval)
    annotators = result.annotators.to_pylist()
    if as_json:
        several = None if result.consensus is None else result.consensus.num_rows
        summary = {
            "accuracy": result.accuracy,
            "annotators": annotators,
            "images_with_several_labels": several,
        }
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    _show_table(annotators, result.accuracy)


def _show_table(annotators: list[dict[str, Any]], accuracy: float) -> None:
    wrong = sum(annotator["wrong"] or 0.0 for annotator in annotators)
    rows = sum(annotator["rows"] for annotator in annotators)
    typer.echo(
        f"{len(annotators):,} annotators, {rows:,} labels: {accuracy:.1%} right, about {wrong:,.0f} wrong\n"
    )
    width = max([len("annotator"), *(len(annotator["annotator"]) for annotator in annotators)])
    head = ("rows", "right", "interval", "rank", "wrong", "excess", "others", "confuses most")
    typer.echo(f"{'annotator':<{width}}  " + "  ".join(t.rjust(w) for t, w in zip(head, WIDTHS, strict=True)))
    for annotator in sorted(annotators, key=_rank_key):
        typer.echo(f"{annotator['annotator']:<{width}}  " + _cells(annotator))
    undecided = sum(annotator["standing"] == "undecided" for annotator in annotators)
    typer.echo(
        "\nright: share of right labels; rank: 1 is best, all that the intervals allow; excess: wrong labels\n"
        "beyond an average annotator's; others: next to all others together, of which "
        f"{undecided:,} of {len(annotators):,} cannot be told."
    )


def _rank_key(annotator: dict[str, Any]) -> tuple[Any, ...]:
    """Order by rank, then accuracy, then name."""
    accuracy = annotator["accuracy"] or 0.0
    return annotator["best_rank"], annotator["worst_rank"], -accuracy, annotator["annotator"]


WIDTHS = (7, 6, 15, 9, 8, 8, 9, 0)


def _cells(annotator: dict[str, Any]) -> str:
    if annotator["accuracy"] is None:
        return "no labels that count"
    pairs = ", ".join(
        f"{cell['true_label']} as {cell['given_label']} ({cell['rows']:,.0f})"
        for cell in annotator["confused"][:2]
        if cell["rows"] >= 1
    )
    ranks = (annotator["best_rank"], annotator["worst_rank"])
    cells = (
        f"{annotator['rows']:,}",
        f"{annotator['accuracy']:.1%}",
        f"{annotator['low']:.1%} – {annotator['high']:.1%}",
        str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]} – {ranks[1]}",
        f"{annotator['wrong']:,.0f}",
        f"{annotator['excess']:+,.0f}",
        annotator["standing"],
        pairs or "nothing",
    )
    return "  ".join(cell.rjust(w) for cell, w in zip(cells, WIDTHS, strict=True))
