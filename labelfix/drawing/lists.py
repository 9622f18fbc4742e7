"""Frozen lists of a run, and the rows of them that a person verifies: `labelfix next`.

N rows, n drawn ones, L rows of a list.
"""

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.drawing.verification import Verification, check_count, check_new, listed_table, write_draw
from labelfix.errors import InputError, SettingError
from labelfix.inputs.draws import Draw, Purpose, keep_record, next_number, read_draws
from labelfix.risk_control.plan import choose_list, nested_sizes, plans
from labelfix.risk_control.promise import Promise, PromiseKind, fixes_level
from labelfix.runs.reading import FinishedRun
from labelfix.system.folds import hash_keys
from labelfix.system.run_files import DRAW_FOLDER

__all__ = ["draw_fixes", "draw_labels", "draw_next"]

DEFAULT_FIX_ERROR = 0.05


def draw_next(
    run: FinishedRun,
    count: int,
    out: str | os.PathLike[str] | None = None,
    *,
    purpose: Purpose | str = Purpose.FIXES,
    max_fix_error: float | None = None,
    seed: int = 0,
    show_given: bool = False,
    force: bool = False,
) -> Verification:
    """Draw what to verify next after a run; record it there, and write it to the CSV file `out`, if one is named.

    Where nothing is left open, nothing is written.

    Parameters
    ----------
    count
        How many rows, where they are drawn: a promise of all labels has its own.
    purpose
        ``fix-error``: a random sample of the most confident fixes. ``label-error``: every row that the promise of
        all labels leaves open.
    max_fix_error
        The promise to work towards; None takes that of the run, else 0.05.

    Raises
    ------
    LabelfixError
        When nothing is left to verify, or a file cannot be written.
    """
    if purpose not in (Purpose.FIXES, Purpose.LABELS):
        raise SettingError(f"--for: got {purpose!r}; expected fix-error or label-error.")
    config, folder = run.record["config"], run.path / DRAW_FOLDER
    number = next_number(read_draws(folder), Purpose(purpose))
    settings = {"seed": seed, "number": number, "run_id": run.run_id, "labelfix": run.record.get("labelfix"),
                "table_digest": run.record.get("table_digest")}  # fmt: skip
    table, promises = run.table("soft_labels"), run.promises
    if purpose == Purpose.LABELS:
        of_labels = [p for p in promises if p.kind == PromiseKind.LABELS]
        if not of_labels:
            raise InputError(
                f"{run.path}: promises nothing of all labels; expected a run with --max-label-error. Run labelfix "
                "clean with it first."
            )
        found = draw_labels(table, of_labels[0], settings)
    else:
        if any(p.exact for p in promises):  # what another list promises is not promised again
            table = table.filter(pc.invert(table["promised"]))
        found = draw_fixes(
            table, count, max_error=max_fix_error or config.get("max_fix_error") or DEFAULT_FIX_ERROR,
            coverage=config["interval"], level=fixes_level(config["interval"], number, frozen=True),
            settings=settings,
        )  # fmt: skip
    if out is not None and found.table.num_rows:
        check_new(out, force=force)
        # the record first: a list that is not counted would spend the level of another one
        keep_record(found.draw, folder)
        write_draw(found, out, show_given=show_given, force=force)
    return found


def draw_fixes(
    soft_labels: pa.Table,
    count: int,
    *,
    max_error: float,
    coverage: float,
    level: float,
    settings: dict[str, Any],
) -> Verification:
    """Draw a random sample of the most confident fixes of a run: of as many as are likely to be promised.

    Parameters
    ----------
    soft_labels
        ``soft_labels.parquet`` of a run, or its columns image, given_label, predicted_label, confidence,
        is_label_issue, trusted_label.
    count
        n; all fixes where there are fewer.
    max_error, coverage
        The promise to work towards.
    level
        The probability that this list may be promised wrongly.
    settings
        What else is recorded; has the `seed`.

    Raises
    ------
    InputError
        When there is no fix that nobody verified.
    SettingError
        When `count` is below 1.
    """
    check_count(count)
    rows = soft_labels.filter(
        pc.and_(soft_labels["is_label_issue"], pc.is_null(soft_labels["trusted_label"]))
    )
    if not rows.num_rows:
        raise InputError(
            "soft_labels: no fix is proposed that nobody verified; there is no list to draw from."
        )
    hashes = hash_keys(
        (f"fixes:{settings.get('number')}:{name}" for name in rows["image"].to_pylist()), settings["seed"]
    )
    confidence = rows["confidence"].to_numpy().astype(np.float64)
    order = np.lexsort((hashes, -confidence))
    rows, hashes, confidence = rows.take(order), hashes[order], confidence[order]
    options = plans(confidence, max_error, level, count)
    plan = choose_list(confidence, count, max_error, level)
    position = np.full(plan.size, -1, np.int32)
    position[np.argsort(hashes[: plan.size], kind="stable")[: plan.drawn]] = np.arange(plan.drawn)
    listed = rows.slice(0, plan.size)
    table = listed_table(
        listed["image"], listed["given_label"], position, np.full(plan.size, plan.drawn / plan.size),
        suggestion=listed["predicted_label"], confidence=confidence[: plan.size],
    )  # fmt: skip
    sizes = nested_sizes(confidence, plan.size, plan.drawn, max_error, level)
    recorded = {
        **settings,
        "max_error": max_error,
        "coverage": coverage,
        "sizes": list(sizes),
        "size": plan.size,
    }
    return Verification(
        draw=Draw(purpose=Purpose.FIXES, table=table, settings=recorded), plan=plan, options=options
    )


def draw_labels(soft_labels: pa.Table, promise: Promise, settings: dict[str, Any]) -> Verification:
    """List every row that a person must verify before the promise of all labels holds, the least confident first.

    Parameters
    ----------
    soft_labels
        ``soft_labels.parquet`` of a run with ``--max-label-error``.
    promise
        Of that run.

    Raises
    ------
    InputError
        When the run promises nothing of all labels.
    """
    if not promise.size:
        raise InputError(
            f"the run promises nothing of all labels at {promise.max_error:.1%}: {promise.wrong:,} of"
            f" {promise.looked:,} random rows were wrong. Verify more of a random sample, or raise"
            " --max-label-error."
        )
    verified = pc.is_valid(soft_labels["trusted_label"])
    required = np.asarray(pc.invert(pc.or_(verified, soft_labels["promised"])))
    confidence = soft_labels["confidence"].to_numpy().astype(np.float64)
    open_rows = np.flatnonzero(required)
    position = np.full(len(required), -1, np.int32)
    position[open_rows[np.argsort(confidence[open_rows], kind="stable")]] = np.arange(len(open_rows))
    table = listed_table(
        soft_labels["image"], soft_labels["given_label"], position, required.astype(np.float64),
        suggestion=soft_labels["predicted_label"], confidence=confidence,
    )  # fmt: skip
    recorded = {
        **settings,
        "max_error": promise.max_error,
        "coverage": promise.coverage,
        "promise": {**vars(promise), "kind": str(promise.kind)},
        "size": len(required),
    }
    return Verification(draw=Draw(purpose=Purpose.LABELS, table=table, settings=recorded))
