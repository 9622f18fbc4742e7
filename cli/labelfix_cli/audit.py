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
    """Say how reliable each annotator is, with intervals, what they confuse and what it costs.

    clean writes the same to annotators.parquet. Ranks are those that the intervals leave open: nobody is put before
    another on fewer rows than that takes.
    """
    from labelfix.audit.annotators import audit_run

    if interval is not None and not 0 < interval < 1:
        raise SettingError(f"--interval: got {interval}; expected a number between 0 and 1.")
    found = audit_run(out, interval=interval)
    people = found.annotators.to_pylist()
    if as_json:
        several = None if found.consensus is None else found.consensus.num_rows
        summary = {"accuracy": found.accuracy, "annotators": people, "images_with_several_labels": several}
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    _show(people, found.accuracy)


def _show(people: list[dict[str, Any]], accuracy: float) -> None:
    wrong = sum(person["wrong"] or 0.0 for person in people)
    rows = sum(person["rows"] for person in people)
    typer.echo(
        f"{len(people):,} annotators, {rows:,} labels: {accuracy:.1%} right, about {wrong:,.0f} wrong\n"
    )
    width = max([len("annotator"), *(len(person["annotator"]) for person in people)])
    head = ("rows", "right", "interval", "rank", "wrong", "excess", "others", "confuses most")
    typer.echo(f"{'annotator':<{width}}  " + "  ".join(t.rjust(w) for t, w in zip(head, WIDTHS, strict=True)))
    for person in sorted(people, key=_place):
        typer.echo(f"{person['annotator']:<{width}}  " + _cells(person))
    undecided = sum(person["standing"] == "undecided" for person in people)
    typer.echo(
        "\nright: share of right labels; rank: 1 is best, all that the intervals leave open; excess: wrong labels\n"
        "beyond an average annotator's; others: next to all others together, of which "
        f"{undecided:,} of {len(people):,} cannot be told."
    )


def _place(person: dict[str, Any]) -> tuple[Any, ...]:
    return person["best_rank"], person["worst_rank"], -(person["accuracy"] or 0.0), person["annotator"]


WIDTHS = (7, 6, 15, 9, 8, 8, 9, 0)


def _cells(person: dict[str, Any]) -> str:
    if person["accuracy"] is None:
        return "no labels that count"
    pairs = ", ".join(
        f"{cell['true_label']} as {cell['given_label']} ({cell['rows']:,.0f})"
        for cell in person["confused"][:2]
        if cell["rows"] >= 1
    )
    ranks = (person["best_rank"], person["worst_rank"])
    cells = (
        f"{person['rows']:,}",
        f"{person['accuracy']:.1%}",
        f"{person['low']:.1%} – {person['high']:.1%}",
        str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]} – {ranks[1]}",
        f"{person['wrong']:,.0f}",
        f"{person['excess']:+,.0f}",
        person["standing"],
        pairs or "nothing",
    )
    return "  ".join(cell.rjust(w) for cell, w in zip(cells, WIDTHS, strict=True))
