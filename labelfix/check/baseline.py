"""Comparison of a run with a baseline: images, labels and estimates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.runs.reading import FinishedRun
from labelfix.runs.summary_text import has_chosen_rows

__all__ = ["Comparison", "compare_runs"]

# New label issues that a comparison lists.
WORST_NEW = 20


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Changes since the baseline; counts are of images.

    Attributes
    ----------
    baseline
        The run id of the baseline.
    added, removed, common
        Images that only this run has, only the baseline has, and both have.
    relabelled
        Given labels that changed, among the common images.
    new_suspects, resolved_suspects
        Common images that have a label issue now and had none, and the other way round.
    noise_before, noise_after
        Estimated shares of wrong labels; None where nothing is trusted.
    noise_change
        Their difference, with an interval from both intervals (Newcombe 1998, method 10: square and add), as
        ``value``, ``low``, ``high`` and ``rows`` (trusted ones of this run); None where one is unknown.
    worst_new
        The new label issues with the lowest label_score, at most `WORST_NEW`: image, given and predicted label,
        label_score.
    """

    baseline: str
    added: int
    removed: int
    common: int
    relabelled: int
    new_suspects: int
    resolved_suspects: int
    noise_before: float | None
    noise_after: float | None
    noise_change: dict[str, float] | None
    worst_new: tuple[dict[str, Any], ...]


def compare_runs(run: FinishedRun, baseline: FinishedRun) -> Comparison:
    """Compare `run` with `baseline`; images with equal names are the same image."""
    columns = ["image", "given_label", "predicted_label", "label_score", "is_label_issue"]
    now, then = run.table("soft_labels", columns), baseline.table("soft_labels", columns)
    baseline_row = pc.index_in(now["image"], value_set=then["image"].combine_chunks())
    common = np.asarray(baseline_row.is_valid())
    common_now = now.filter(baseline_row.is_valid())
    common_then = then.take(baseline_row.drop_null())
    issue_now, issue_then = (np.asarray(table["is_label_issue"]) for table in (common_now, common_then))
    before, after = _noise_rate(baseline), _noise_rate(run)
    new_issues = common_now.filter(pa.array(issue_now & ~issue_then)).drop_columns(["is_label_issue"])
    return Comparison(
        baseline=baseline.run_id,
        added=int((~common).sum()),
        removed=then.num_rows - int(common.sum()),
        common=int(common.sum()),
        relabelled=int(np.asarray(pc.not_equal(common_now["given_label"], common_then["given_label"])).sum()),
        new_suspects=int((issue_now & ~issue_then).sum()),
        resolved_suspects=int((~issue_now & issue_then).sum()),
        noise_before=before["value"] if before else None,
        noise_after=after["value"] if after else None,
        noise_change=_change(before, after) if before and after else None,
        worst_new=tuple(new_issues.sort_by("label_score").slice(0, WORST_NEW).to_pylist()),
    )


def _noise_rate(run: FinishedRun) -> dict[str, Any] | None:
    if has_chosen_rows(run.summary):
        return None
    estimate = (run.summary.get("estimates") or {}).get("noise_rate")
    return estimate if estimate is not None and estimate["value"] is not None else None


def _change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Return after - before; the interval is conservative where both runs share trusted rows."""
    value = after["value"] - before["value"]
    down = np.hypot(after["value"] - after["low"], before["high"] - before["value"])
    up = np.hypot(after["high"] - after["value"], before["value"] - before["low"])
    return {"value": value, "low": value - float(down), "high": value + float(up), "rows": after["rows"]}
