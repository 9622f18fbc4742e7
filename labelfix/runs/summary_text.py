"""The summary of a run in words: the same lines on the screen and in a notebook."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelfix.system.run_files import REPORT_FILE, RUN_FILE

__all__ = ["has_chosen_rows", "next_steps", "rows_html", "summary_html", "summary_lines"]


def has_chosen_rows(summary: dict[str, Any]) -> bool:
    """Return whether the trusted rows were found not to be a random sample, so that nothing is measured."""
    return bool((summary.get("sample") or {}).get("alarm"))


def summary_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labelled lines: inputs, results, files and times."""
    lines: list[tuple[str, str]] = []

    def add(label: str, text: str) -> None:
        lines.append((label, text))

    classes, seconds = summary["classes"], summary["seconds"]
    add("images", _images(summary))
    add("classes", f"{len(classes)}: {_listed(classes)}")
    add("trusted", _trusted(summary))
    if summary["calibrated"]:
        estimates = summary["estimates"]
        if has_chosen_rows(summary):
            add("NOT RANDOM", summary["sample"]["message"])
        add("noise rate", f"{_interval(estimates['noise_rate'])} of the given labels are wrong")
        add("suspects", f"{summary['suspects']:,} labels, worst first in suspects.parquet")
        add("  precision", f"{_interval(estimates['precision'])} of the suspects are wrong")
        add("  recall", f"{_interval(estimates['recall'])} of the wrong labels are suspects")
        add("calibration", _calibration(estimates))
        if summary.get("guarantee"):
            promise = _promise(summary["guarantee"], summary["suspects"])
            add("promise", "none: the trusted rows are not random" if has_chosen_rows(summary) else promise)
    else:
        add("suspects", f"{summary['suspects']:,} labels, worst first in suspects.parquet")
        add("not calibrated", "no sampled trusted labels: nothing here is measured, and nothing is promised")
    report = f"{REPORT_FILE}, " if _has_report(summary) else ""
    add("files", f"{summary['out']}/ ({report}soft_labels.parquet, suspects.parquet, {RUN_FILE}, …)")
    add("time", ", ".join(f"{stage} {value:,.1f} s" for stage, value in seconds.items()))
    return lines


def summary_html(summary: dict[str, Any]) -> str:
    """Return the lines as a table of HTML, for notebooks."""
    return rows_html([(label.strip(), text) for label, text in summary_lines(summary)])


def rows_html(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table of HTML; the first cell of each is its title."""
    left = " style='text-align:left'"
    lines = [
        f"<tr><th{left}>{html.escape(title)}</th>"
        + "".join(f"<td{left}>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for title, *cells in rows
    ]
    return f"<table>{''.join(lines)}</table>"


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
    text += f", {summary['trusted_extra']:,} more without a given one" if summary["trusted_extra"] else ""
    picked = summary.get("hand_picked")
    return text + (f"; {picked:,} of them hand-picked, in no estimate" if picked else "")


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


def _promise(guarantee: dict[str, Any], num_issues: int) -> str:
    claim = f"at most {guarantee['max_fix_error']:.1%} of the automatic fixes are wrong"
    observed = f"{guarantee['wrong']} of {guarantee['rows']:,} such trusted rows were"
    if guarantee["threshold"] is not None:
        coverage = f"{guarantee['coverage']:.0%} sure"
        fixes = f"{guarantee['fixes']:,} labels from confidence {guarantee['threshold']:.3f} on"
        frame = ", of those that labelfix next drew from" if guarantee["frames"] else ""
        condition = (
            ""
            if guarantee["exact"]
            else ", if the error rate is the same at similar confidence and never lower at lower confidence"
        )
        return f"{claim} ({coverage}; {observed}): {fixes}{frame}{condition}"
    if not num_issues:
        return "none: there is no suspect to fix"
    needed = guarantee["rows_needed"]
    if needed is None:
        return (
            f"none: that {claim} cannot be promised ({observed}); even the best suspects seem wrong too often"
        )
    return (
        f"none yet: to promise that {claim}, verify about {needed:,} more random rows, or fewer chosen by "
        f"labelfix next ({observed})"
    )


def next_steps(summary: dict[str, Any]) -> list[str]:
    """Return what to do next, in sentences."""
    if not summary["calibrated"]:
        return ["Next: verify a few hundred randomly chosen labels and pass them with --trusted."]
    if not summary["suspects"]:
        return ["Next: nothing to review; no label is more likely wrong than right."]
    open_report = f"open {summary['out']}/{REPORT_FILE}, or " if _has_report(summary) else ""
    return [
        f"Next: {open_report}review suspects.parquet from the top; label_score is the chance of being right.",
        "Hand what you verify there back with --reviewed: rows that were chosen are no random sample.",
    ]


def _has_report(summary: dict[str, Any]) -> bool:
    return (Path(summary["out"]) / REPORT_FILE).exists()
