"""``labelfix export``. Defaults come from `labelfix.settings.export`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labelfix.errors import SettingError
from labelfix.settings import ExportConfig, ExportFormat, Policy, RowChoice, Transfer
from labelfix_cli.outcome import ends_cleanly

__all__ = ["export"]


@ends_cleanly
def export(
    out: Annotated[Path, typer.Argument(help="The --out of a finished labelfix clean.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The folder to make.")],
    to: Annotated[ExportFormat, typer.Option(help="What the export is for.")],
    policy: Annotated[
        Policy | None,
        typer.Option(
            help="What becomes of suspects.  [default: csv, imagefolder: relabel; huggingface, torch: soft; "
            "else review-only]"
        ),
    ] = ExportConfig.policy,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Also act on suspects of at least this confidence, without a promise.  [default: the run's own "
            "fixes only]"
        ),
    ] = ExportConfig.min_confidence,
    rows: Annotated[RowChoice, typer.Option(help="Which images to export.")] = ExportConfig.rows,
    copy: Annotated[bool, typer.Option("--copy", help="Copy image files.  [default: hard links]")] = False,
    symlink: Annotated[
        bool, typer.Option("--symlink", help="Link image files symbolically.  [default: hard links]")
    ] = False,
    images: Annotated[
        str | None, typer.Option(help="Where the image folder is now.  [default: where it was]")
    ] = ExportConfig.images,
    labels: Annotated[
        str | None, typer.Option(help="Where the label table is now.  [default: where it was]")
    ] = ExportConfig.labels,
    url_prefix: Annotated[
        str, typer.Option(help="What goes before an image's path in a Label Studio task.")
    ] = ExportConfig.url_prefix,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Write the labels of a run for another tool.

    Inputs are never changed: image files are linked (or copied), and DEST is a new folder. Every export tells for
    each image the run, the old and the new label and the reason.
    """
    from labelfix.export import export_run

    if copy and symlink:
        raise SettingError("--copy, --symlink: both were given; expected one of them. Leave one out.")
    transfer = Transfer.COPY if copy else Transfer.SYMLINK if symlink else ExportConfig.transfer
    result = export_run(
        out,
        destination,
        force=force,
        to=to,
        policy=policy,
        min_confidence=min_confidence,
        rows=rows,
        transfer=transfer,
        images=images,
        labels=labels,
        url_prefix=url_prefix,
    )
    if as_json:
        typer.echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    elif not quiet:
        counts = result.summary["actions"]
        actions = ", ".join(
            f"{count:,} {name}" for name, count in counts.items() if count and name != "changed"
        )
        typer.echo(
            f"{result.path}/: {result.summary['images']:,} images for {to}, policy {result.summary['policy']}"
        )
        typer.echo(f"actions: {actions or 'none'}; {counts['changed']:,} labels changed")
        if result.summary["policy"] == Policy.DROP:
            typer.echo(_class_mix(result.summary["class_mix"]))
        if result.summary["policy"] == Policy.RELABEL and counts["review"]:
            typer.echo(
                f"{counts['review']:,} suspects keep their label: review them, or run clean with --max-fix-error, "
                "or export with --min-confidence or --policy soft."
            )


def _class_mix(mix: dict[str, tuple[float, float]], shown: int = 3) -> str:
    """Return the classes whose share dropping changes most."""
    changed = sorted(mix, key=lambda name: abs(mix[name][1] - mix[name][0]), reverse=True)[:shown]
    listed = ", ".join(f"{name} {mix[name][0]:.1%} to {mix[name][1]:.1%}" for name in changed)
    return f"dropping changes the mix of classes: {listed}"
