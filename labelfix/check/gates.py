"""Gates for continuous integration: whether a finished run keeps the limits.

A gate compares a limit with an estimate on trusted rows. It fails where the run has no such estimate.
"""

import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from labelfix.check.baseline import Comparison, compare_runs
from labelfix.errors import SettingError
from labelfix.runs.certificate import how_sure, statement
from labelfix.runs.reading import FinishedRun
from labelfix.runs.summary_text import has_chosen_rows, rows_html
from labelfix.settings import Bound, CheckConfig

if TYPE_CHECKING:
    from labelfix.risk_control.promise import Promise

__all__ = ["CheckResult", "Gate", "check_run"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One limit, the estimate, and the outcome.

    Attributes
    ----------
    name, subject
        The option, and the labels that it is about: ``all`` or those of a class.
    limit
        The largest value that passes.
    value, low, high
        The estimate with its interval (for a count, all the same); None where there is no estimate.
    rows
        Trusted rows behind the estimate; None for a count.
    passed
        Whether the limit is kept.
    said
        The outcome in one line.
    """

    name: str
    subject: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    rows: int | None
    passed: bool
    said: str


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """All gates of one run.

    Attributes
    ----------
    run_id
        The run.
    gates
        One per limit, and per class.
    skipped
        Classes without a trusted row, which ``--per-class`` cannot check.
    comparison
        With the baseline; None without one.
    """

    run_id: str
    gates: tuple[Gate, ...]
    skipped: tuple[str, ...]
    comparison: Comparison | None

    def __repr__(self) -> str:
        kept = sum(gate.passed for gate in self.gates)
        return f"CheckResult({kept:,} of {len(self.gates):,} gates passed)"

    def _repr_html_(self) -> str:
        return rows_html([("passed" if gate.passed else "failed", gate.said) for gate in self.gates])

    @property
    def passed(self) -> bool:
        """Whether every limit was kept."""
        return all(gate.passed for gate in self.gates)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"passed": self.passed, **asdict(self)}


def check_run(
    run: str | os.PathLike[str], *, baseline: str | os.PathLike[str] | None = None, **options: Any
) -> CheckResult:
    """Check a finished run against limits.

    Parameters
    ----------
    baseline
        Another run directory to compare with.
    **options
        The fields of `CheckConfig`: ``max_noise=0.03, per_class=True, …``.

    Raises
    ------
    LabelfixError
        When there is no run, nothing to check, or a limit out of range.
    """
    config = CheckConfig(**options)
    if not config.has_gates and baseline is None:
        raise SettingError("check: no limit was given; expected at least one, for example --max-noise 3%.")
    if config.max_increase is not None and baseline is None:
        raise SettingError("--max-increase: there is nothing to compare with; expected --baseline. Name it.")
    finished = FinishedRun.open(run)
    comparison = None if baseline is None else compare_runs(finished, FinishedRun.open(baseline))
    summary = finished.summary
    gates = _estimate_gates(summary, config) + _count_gates(summary, config)
    gates += _promise_gates(finished.promises, config)
    if config.max_increase is not None and comparison is not None:
        gates.append(_increase_gate(comparison, config.max_increase, config.bound))
    skipped: tuple[str, ...] = ()
    if config.per_class:
        class_gates, skipped = _class_gates(summary, config)
        gates += class_gates
    return CheckResult(run_id=finished.run_id, gates=tuple(gates), skipped=skipped, comparison=comparison)


# -------------------------------------------------------------------------------------------------------- gates


def _estimate_gates(summary: dict[str, Any], config: CheckConfig) -> list[Gate]:
    limits = {
        "max-noise": (config.max_noise, "noise_rate", "of the given labels are wrong"),
        "max-calibration-error": (
            config.max_calibration_error, "calibration_error", "is how far the confidence is off",
        ),
    }  # fmt: skip
    chosen, estimates = has_chosen_rows(summary), summary.get("estimates") or {}
    return [
        _gate(name, "all", limit, estimates.get(key), config.bound, meaning, chosen)
        for name, (limit, key, meaning) in limits.items()
        if limit is not None
    ]


def _class_gates(summary: dict[str, Any], config: CheckConfig) -> tuple[list[Gate], tuple[str, ...]]:
    assert config.max_noise is not None
    gates, skipped, chosen = [], [], has_chosen_rows(summary)
    for name, figures in (summary.get("per_class") or {}).items():
        if figures["noise_rate"]["rows"] == 0:
            skipped.append(name)
            continue
        meaning = f"of the labels {name!r} are wrong"
        gates.append(
            _gate("max-noise", name, config.max_noise, figures["noise_rate"], config.bound, meaning, chosen)
        )
    return gates, tuple(skipped)


def _gate(
    name: str,
    subject: str,
    limit: float,
    estimate: dict[str, Any] | None,
    bound: Bound,
    meaning: str,
    chosen: bool = False,
) -> Gate:
    """Return the gate of an estimate; it fails where the trusted rows are `chosen`, which measures nothing."""
    if chosen or estimate is None or estimate["value"] is None:
        why = "because the trusted rows are not a random sample" if chosen else "for want of trusted rows"
        return Gate(
            name=name, subject=subject, limit=limit, value=None, low=None, high=None, rows=0, passed=False,
            said=f"{name}: unknown, {why}; at most {limit:.1%} is allowed",
        )  # fmt: skip
    figure = estimate[str(bound)]
    prefix = {Bound.VALUE: "", Bound.LOW: "at least ", Bound.HIGH: "up to "}[bound]
    return Gate(
        name=name,
        subject=subject,
        limit=limit,
        value=estimate["value"],
        low=estimate["low"],
        high=estimate["high"],
        rows=estimate["rows"],
        passed=figure <= limit,
        said=(
            f"{name}: {prefix}{figure:.1%} {meaning} (estimate {estimate['value']:.1%}, {estimate['low']:.1%} to "
            f"{estimate['high']:.1%}, {estimate['rows']:,} trusted rows); at most {limit:.1%} is allowed"
        ),
    )


def _count_gates(summary: dict[str, Any], config: CheckConfig) -> list[Gate]:
    images, quarantined = summary["images"], summary["quarantined"]
    limits = {
        "max-suspects": (config.max_suspects, summary["suspects"], images, "images are suspects"),
        "max-quarantined": (
            config.max_quarantined, quarantined, images + quarantined, "images could not be read",
        ),
    }  # fmt: skip
    gates = []
    for name, (limit, count, total, meaning) in limits.items():
        if limit is not None:
            share = count / max(total, 1)
            message = (
                f"{name}: {share:.1%} ({count:,} of {total:,} {meaning}); at most {limit:.1%} is allowed"
            )
            gates.append(_exact_gate(name, limit, share, share <= limit, message))
    return gates


def _promise_gates(promises: "tuple[Promise, ...]", config: CheckConfig) -> list[Gate]:
    """Return the gates of promises; of several lists of fixes, all that are promised have to keep the limit."""
    limits = {
        "fixes": ("max-fix-error", config.max_fix_error),
        "labels": ("max-label-error", config.max_label_error),
    }
    gates = []
    for kind, (name, limit) in limits.items():
        if limit is not None:
            asked = [promise for promise in promises if promise.kind == kind]
            gates.append(_promise_gate(name, kind, limit, asked))
    return gates


def _promise_gate(name: str, kind: str, limit: float, asked: "list[Promise]") -> Gate:
    made = [promise for promise in asked if promise.size]
    open_rows = sum(promise.to_verify for promise in made)
    if not asked:
        message = (
            f"{name}: the run promises nothing of its {kind}; run labelfix clean with --{name} {limit:g}"
        )
        return _exact_gate(name, limit, None, False, message)
    if not made:
        rows, promised = max(promise.looked for promise in asked), max(promise.max_error for promise in asked)
        message = f"{name}: nothing could be promised at {promised:.1%} with {rows:,} verified rows"
        return _exact_gate(name, limit, None, False, message)
    promised = max(promise.max_error for promise in made)
    still = f" once {open_rows:,} more are verified" if open_rows else ""
    message = "; ".join(f"{statement(promise)} ({how_sure(promise)})" for promise in made)
    message = f"{name}: {message}{still}; at most {limit:.1%} is allowed"
    return _exact_gate(name, limit, promised, promised <= limit and not open_rows, message)


def _increase_gate(comparison: Comparison, limit: float, bound: Bound) -> Gate:
    name, change = "max-increase", comparison.noise_change
    gate = _gate(name, "all", limit, change, bound, "more of the labels are wrong than in the baseline")
    if change is None:
        return gate
    message = (
        f"{name}: {comparison.noise_before:.1%} of the labels were wrong, {comparison.noise_after:.1%} are "
        f"({change['value']:+.1%}, {change['low']:+.1%} to {change['high']:+.1%}); a rise of {limit:.1%} is allowed"
    )
    return replace(gate, said=message)


def _exact_gate(name: str, limit: float, value: float | None, passed: bool, message: str) -> Gate:
    return Gate(
        name=name, subject="all", limit=limit, value=value, low=value, high=value, rows=None, passed=passed,
        said=message,
    )  # fmt: skip
