"""The summary of a run in words: the same lines on the screen and in a notebook."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from labelfix.risk_control.promise import Promise, PromiseKind
from labelfix.runs.certificate import how_sure, statement
from labelfix.system.run_files import REPORT_FILE, RUN_FILE

__all__ = ["has_chosen_rows", "next_steps", "promise_texts", "rows_html", "summary_html", "summary_lines"]


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
        for promise in promise_texts(summary):
            add("promise", promise)
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
    if summary.get("duplicates"):
        parts.append(f"{summary['duplicates']:,} with a twin")
    if summary["ties"]:
        parts.append(f"{summary['ties']:,} ties among annotators")
    return ", ".join(parts)


def _trusted(summary: dict[str, Any]) -> str:
    text = f"{summary['trusted_pairs']:,} images with a given and a trusted label"
    text += f", {summary['trusted_extra']:,} more without a given one" if summary["trusted_extra"] else ""
    picked = summary.get("hand_picked")
    return text + (f"; {picked:,} of them in no random sample, so in no estimate" if picked else "")


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


def promise_texts(summary: dict[str, Any]) -> Iterator[str]:
    """Yield what is promised, or why nothing is, a text per promise that the run was asked for."""
    for promise in (Promise(**values) for values in summary.get("promises", [])):
        said = statement(promise)
        if promise.size:
            yield _made(promise, said, summary["out"])
        elif has_chosen_rows(summary) and not promise.exact:
            yield "none: the trusted rows are not random"
        else:
            yield _not_made(promise, said, summary["out"])


def _made(promise: Promise, said: str, out: str) -> str:
    sure = f"{how_sure(promise)}; {promise.wrong:,} of {promise.looked:,} verified ones were"
    if promise.to_verify:
        more = f"labelfix next {out} --for label-error"
        return f"{said} ({sure}), once {promise.to_verify:,} more are verified: {more}"
    least = "" if promise.kind == PromiseKind.LABELS else f", from confidence {promise.threshold:.3f} on"
    return f"{said} ({sure}), {promise.unverified:,} of them unverified{least}"


def _not_made(promise: Promise, said: str, out: str) -> str:
    if promise.kind != PromiseKind.FIXES and not promise.drawn:
        return (
            f"none that {said}: there is no simple random sample of the images, as labelfix sample draws it"
        )
    observed = f"{promise.wrong:,} of {promise.looked:,} verified ones were"
    if promise.looked < promise.drawn:
        return f"none yet that {said} ({observed}): {promise.drawn - promise.looked:,} drawn rows are not verified"
    if promise.kind == PromiseKind.FIXES and not promise.exact:
        return f"none yet that {said} ({observed}): labelfix next {out} draws the rows that decide"
    return f"none that {said} ({observed})"


def next_steps(summary: dict[str, Any]) -> list[str]:
    """Return what to do next, in sentences."""
    if not summary["calibrated"]:
        return [
            "Next: labelfix sample draws a few hundred images; verify their labels and pass them with --trusted."
        ]
    if not summary["suspects"]:
        return ["Next: nothing to review; no label is more likely wrong than right."]
    open_report = f"open {summary['out']}/{REPORT_FILE}, or " if _has_report(summary) else ""
    return [
        f"Next: {open_report}review suspects.parquet from the top; label_score is the chance of being right.",
        "Hand what you verify there back with --reviewed: rows that were chosen are no random sample.",
    ]


def _has_report(summary: dict[str, Any]) -> bool:
    return (Path(summary["out"]) / REPORT_FILE).exists()
