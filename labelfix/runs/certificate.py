"""What a run promises, in words and as ``certificate.json``: of which rows, on which evidence, assuming what."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from labelfix.risk_control.promise import Promise, PromiseKind

__all__ = ["certificate", "how_sure", "statement"]

ASSUMPTIONS = (
    "The rows were verified in the order of the draw, or all of them, and none was left out because it was hard.",
    "A label is right if it is the one that the person who verified would give.",
    "The images are the ones that the rows were drawn from.",
)
ONE_LOOK = (
    "The limit and all settings were chosen before the random rows were verified: every other limit, seed or"
    " setting that is tried on the same rows is a further test, and so are rows added to a table without a record."
)
IN_SIMULATION = (
    "The verified rows also shaped the predictions: that the promise holds all the same was shown by simulation, "
    "not by a proof."
)
ROWS = {
    PromiseKind.FIXES: "soft_labels.parquet: promised; wrong ones that were found and corrected count",
    PromiseKind.LABELS: "soft_labels.parquet: all rows",
    PromiseKind.KEPT: "soft_labels.parquet: kept",
}


def statement(promise: Promise) -> str:
    """Return what is promised, or would be, without saying how sure that is."""
    share, count = f"at most {promise.max_error:.1%}", f"{promise.size:,} " if promise.size else ""
    if promise.kind == PromiseKind.FIXES:
        return f"{share} of the {count}fixes are wrong"
    if promise.kind == PromiseKind.LABELS:
        return f"{share} of all {count}labels are wrong"
    return f"{share} of the {count}kept labels are wrong, if all others are dropped"


def how_sure(promise: Promise) -> str:
    """Return how sure a promise is, and in which sense."""
    return f"{promise.coverage:.0%} sure, {'exact' if promise.exact else 'holds in simulation'}"


def certificate(record: dict[str, Any], promises: Sequence[Promise]) -> dict[str, Any] | None:
    """Return the content of ``certificate.json``; None for a run that was asked for no promise.

    Parameters
    ----------
    record
        Of the run: ``run.json``.
    """
    if not promises:
        return None
    return {
        **{name: record[name] for name in ("run_id", "created", "labelfix")},
        "promises": [
            {
                "statement": statement(promise),
                "holds": promise.size > 0 and not promise.to_verify,
                "sure": how_sure(promise),
                "rows": ROWS[promise.kind],
                **asdict(promise),
            }
            for promise in promises
        ],
        "assumptions": [
            *ASSUMPTIONS,
            *([] if all(p.kind == PromiseKind.FIXES and p.exact for p in promises) else [ONE_LOOK]),
            *([] if all(p.exact for p in promises) else [IN_SIMULATION]),
        ],
    }
