"""What a person sees at the end of a run."""

from pathlib import Path
from typing import Any

import typer

__all__ = ["show_summary"]

LABEL_WIDTH = 18


def show_summary(summary: dict[str, Any]) -> None:
    """Print the summary of a run: what was read, what was found, where it is and what to do next."""
    classes, seconds = summary["classes"], summary["seconds"]
    _line("images", _images(summary))
    _line("classes", f"{len(classes)}: {_listed(classes)}")
    _line("trusted", _trusted(summary))
    if summary["calibrated"]:
        estimates = summary["estimates"]
        _line("noise rate", f"{_interval(estimates['noise_rate'])} of the given labels are wrong")
        _line("suspects", f"{summary['suspects']:,} labels, worst first in suspects.parquet")
        _line("  precision", f"{_interval(estimates['precision'])} of the suspects are wrong")
        _line("  recall", f"{_interval(estimates['recall'])} of the wrong labels are suspects")
        _line("calibration", _calibration(estimates))
        if summary.get("guarantee"):
            _line("promise", _promise(summary["guarantee"], summary["suspects"]))
    else:
        _line("suspects", f"{summary['suspects']:,} labels, worst first in suspects.parquet")
        _line("not calibrated", "no trusted labels: nothing here is measured, and nothing is promised")
    report = "report.html, " if _has_report(summary) else ""
    _line("files", f"{summary['out']}/ ({report}soft_labels.parquet, suspects.parquet, run.json, …)")
    _line("time", ", ".join(f"{stage} {value:,.1f} s" for stage, value in seconds.items()))
    typer.echo()
    for step in _next_steps(summary):
        typer.echo(step)


def _line(label: str, text: str) -> None:
    typer.echo(f"{label:<{LABEL_WIDTH}}{text}")


def _images(summary: dict[str, Any]) -> str:
    parts = [f"{summary['images']:,}"]
    if summary["label_rows"] != summary["images"]:
        parts.append(f"{summary['label_rows']:,} label rows")
    if summary["annotators"]:
        parts.append(f"{summary['annotators']:,} annotators")
    if summary["quarantined"]:
        parts.append(f"{summary['quarantined']:,} could not be read (quarantine.parquet)")
    if summary["ties"]:
        parts.append(f"{summary['ties']:,} ties among annotators")
    return ", ".join(parts)


def _trusted(summary: dict[str, Any]) -> str:
    text = f"{summary['trusted_pairs']:,} images with a given and a trusted label"
    return text + (
        f", {summary['trusted_extra']:,} more without a given one" if summary["trusted_extra"] else ""
    )


def _listed(names: list[str], shown: int = 8) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def _interval(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "unknown: no trusted row tells what share"
    return (
        f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%}, "
        f"{estimate['rows']:,} trusted rows)"
    )


def _calibration(estimates: dict[str, Any]) -> str:
    error, loss, brier = (estimates[name] for name in ("calibration_error", "log_loss", "brier"))
    if error["value"] is None or loss["value"] is None:
        return "unknown: too few trusted rows"
    return (
        f"confidence is off by {error['value']:.1%} on average ({error['low']:.1%} to {error['high']:.1%}); "
        f"log loss {loss['value']:.3f} ({loss['low']:.3f} to {loss['high']:.3f}), "
        f"Brier {brier['value']:.3f} ({brier['low']:.3f} to {brier['high']:.3f})"
    )


def _promise(guarantee: dict[str, Any], suspects: int) -> str:
    wanted = f"at most {guarantee['max_fix_error']:.1%} of the automatic fixes are wrong"
    seen = f"{guarantee['wrong']} of {guarantee['rows']:,} such trusted rows were"
    if guarantee["threshold"] is not None:
        sure = f"{guarantee['coverage']:.0%} sure"
        fixes = f"{guarantee['fixes']:,} labels from confidence {guarantee['threshold']:.3f} on"
        among = ", of those that labelfix next drew from" if guarantee["frames"] else ""
        given = (
            "" if guarantee["exact"] else ", if errors are alike at like confidence and no rarer with doubt"
        )
        return f"{wanted} ({sure}; {seen}): {fixes}{among}{given}"
    if not suspects:
        return "none: there is no suspect to fix"
    needed = guarantee["rows_needed"]
    if needed is None:
        return f"none: that {wanted} cannot be promised ({seen}); even the best suspects seem wrong too often"
    return (
        f"none yet: to promise that {wanted}, verify about {needed:,} more random rows, or fewer chosen by "
        f"labelfix next ({seen})"
    )


def _next_steps(summary: dict[str, Any]) -> list[str]:
    if not summary["calibrated"]:
        return ["Next: verify a few hundred randomly chosen labels and pass them with --trusted."]
    if not summary["suspects"]:
        return ["Next: nothing to review; no label is more likely wrong than right."]
    first = f"open {summary['out']}/report.html, or " if _has_report(summary) else ""
    return [f"Next: {first}review suspects.parquet from the top; label_score is the chance of being right."]


def _has_report(summary: dict[str, Any]) -> bool:
    return (Path(summary["out"]) / "report.html").exists()
