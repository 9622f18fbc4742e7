"""``labelfix check``. Defaults come from `labelfix.settings.check`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelfix.settings import Bound, CheckConfig, parse_share
from labelfix_cli.outcome import ends_cleanly

if TYPE_CHECKING:
    from labelfix.check.gates import CheckResult

__all__ = ["check"]

GATE_FAILED = 1
NEW_SHOWN = 5


def _share_option(text: str) -> Any:
    return typer.Option(metavar="SHARE", help=text, show_default=False)


@ends_cleanly
def check(
    out: Annotated[Path, typer.Argument(help="The --out of a finished labelfix clean.")],
    max_noise: Annotated[str | None, _share_option("Share of wrong labels, as 3% or 0.03.")] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Hold --max-noise for every class as well.")
    ] = CheckConfig.per_class,
    max_fix_error: Annotated[
        str | None, _share_option("The run must promise that at most this share of its fixes is wrong.")
    ] = None,
    max_label_error: Annotated[
        str | None, _share_option("The run must promise that at most this share of all labels is wrong.")
    ] = None,
    max_suspects: Annotated[str | None, _share_option("Share of images whose label is suspected.")] = None,
    max_calibration_error: Annotated[
        str | None, _share_option("How far the confidence is off, on average.")
    ] = None,
    max_quarantined: Annotated[str | None, _share_option("Share of images that could not be read.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier run: say what changed since.  [default: none]")
    ] = None,
    max_increase: Annotated[
        str | None, _share_option("By how much the share of wrong labels may have risen since --baseline.")
    ] = None,
    bound: Annotated[
        Bound,
        typer.Option(
            help="What counts: the estimate, its lower end (fail where the limit is surely passed), or its upper "
            "end (pass where it is surely kept)."
        ),
    ] = CheckConfig.bound,
    junit: Annotated[
        Path | None, typer.Option(help="Write the gates as JUnit XML to this file.  [default: none]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file of --junit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the gates as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print violated gates only (and --json).")
    ] = False,
) -> None:
    """Hold a run against limits, for continuous integration: exit with 1 and a line per violated gate, else 0."""
    limits = {
        name: parse_share("--" + name.replace("_", "-"), text)
        for name, text in (
            ("max_noise", max_noise),
            ("max_fix_error", max_fix_error),
            ("max_label_error", max_label_error),
            ("max_suspects", max_suspects),
            ("max_calibration_error", max_calibration_error),
            ("max_quarantined", max_quarantined),
            ("max_increase", max_increase),
        )
    }
    from labelfix.check.gates import check_run
    from labelfix.check.junit import junit_report
    from labelfix.system.files import write_new_file

    result = check_run(out, baseline=baseline, per_class=per_class, bound=bound, **limits)
    if junit is not None:
        report = junit_report(result, out)
        write_new_file(junit, lambda path: path.write_text(report, encoding="utf-8"), force=force)
    violated = [gate for gate in result.gates if not gate.passed]
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2, ensure_ascii=False))
    else:
        for gate in violated:
            typer.echo(gate.said)
        if not quiet:
            _show_comparison_and_counts(result)
    if violated:
        raise typer.Exit(GATE_FAILED)


def _show_comparison_and_counts(result: "CheckResult") -> None:
    if (changes := result.comparison) is not None:
        typer.echo(
            f"since {changes.baseline[:8]}: {changes.added:,} images added, {changes.removed:,} removed, "
            f"{changes.relabelled:,} given labels changed; {changes.new_suspects:,} new suspects, "
            f"{changes.resolved_suspects:,} no longer"
        )
        for row in changes.worst_new[:NEW_SHOWN]:
            typer.echo(f"  new: {row['image']}, given {row['given_label']}, rather {row['predicted_label']}")
    if result.skipped:
        typer.echo(f"{len(result.skipped):,} classes without a trusted row were not checked")
    if result.gates:
        passed = sum(gate.passed for gate in result.gates)
        typer.echo(f"{passed:,} of {len(result.gates):,} gates passed")
