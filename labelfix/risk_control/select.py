"""What to verify next: rows drawn with known chances, most of them where a look decides about a promise.

A few hundred random trusted rows hardly ever contain enough proposed fixes to promise anything about them: 59
verified fixes without one error are the least for 5 % at 95 %. So `plan_verification` puts most of the work into
the most confident fixes, as many as are likely to pass the test of `labelfix.risk_control.fixed_sequence`; some
into rows that are in doubt, from which the posterior learns most; and some into rows at random, which keep every
estimate unbiased. Chances of being drawn are known for every row, and their inverses come back through
``--trusted`` as weights. So do the fixes aimed at, which all had the same chance: `labelfix.inputs.draw_columns`.

N rows that are not trusted, n rows drawn, M trusted rows.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from labelfix.errors import InputError, OutputError, SettingError
from labelfix.inputs.design_weights import RANDOM_SAMPLE
from labelfix.inputs.draw_columns import frame_cells, image_ids
from labelfix.risk_control.p_values import chance_to_promise, planned_error, worth
from labelfix.risk_control.systematic_sampling import draw, inclusion_chances
from labelfix.system.files import write_new_file
from labelfix.system.folds import hash_keys

__all__ = ["Verification", "plan_verification", "write_verification"]

# How much of the draw is aside from the fixes, one half of it rows in doubt, the other rows at random.
ASIDE_SHARE, LEAST_ASIDE = 0.05, 4
GROWTH = 1.1
# Verifying pays where at least so many fixes per verified row are left to be promised; plans with fewer count less.
FIXES_LEFT_PER_ROW = 2
# Every row lists its share of the fixes aimed at, and a cell of a spreadsheet holds no more.
MOST_FIXES_PER_ROW = 2000
# With less of a chance there is no promise to work towards: of so many fixes per row, then.
LEAST_CHANCE, FIXES_PER_ROW = 0.05, 10


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Rows to verify.

    Attributes
    ----------
    table
        One row per image in random order, so that any first part of it is a draw of the same kind: `image`,
        `trusted_label` (null: to be filled in), `given_label`, `suggestion`, `confidence` of the suggestion,
        `weight` = 1 / chance of having been drawn, `drawn_from`: the draw, and the fixes aimed at with
        trusted images that look like them, every row a share of these.
    fixes, fixes_drawn
        How many of the most confident fixes most of the draw is from, and how many of those it contains.
    chance
        Of a promise about these fixes once the draw is verified, by `labelfix.risk_control.p_values.planned_error`.
    """

    table: pa.Table
    fixes: int
    fixes_drawn: int
    chance: float


def plan_verification(
    soft_labels: pa.Table,
    count: int,
    *,
    held_out: pa.Table | None = None,
    max_fix_error: float,
    coverage: float,
    seed: int,
) -> Verification:
    """Draw the rows whose verification is worth most.

    Parameters
    ----------
    soft_labels
        ``soft_labels.parquet`` of a run, or its columns image, given_label, predicted_label, confidence,
        is_label_issue, trusted_label.
    count
        n, how many rows to draw; all that there are, where there are fewer.
    held_out
        ``held_out.parquet`` of the run, (M,), or its columns image, given_label, predicted_label, confidence,
        sample: with it, trusted rows that look like the fixes aimed at count for these as well.
    max_fix_error, coverage
        The promise to work towards: at most this share of the fixes is wrong, with this confidence.
    seed
        Of the draw.

    Raises
    ------
    InputError
        When every row is trusted already.
    SettingError
        When `count` is below 1.
    """
    if count < 1:
        raise SettingError(f"-n: got {count}; expected at least 1 row.")
    trusted = soft_labels.num_rows - soft_labels["trusted_label"].null_count
    rows = soft_labels.filter(soft_labels["trusted_label"].is_null())
    if not rows.num_rows:
        raise InputError("soft_labels: every row has a trusted label; there is nothing left to verify.")
    count = min(count, rows.num_rows)
    confidence = rows["confidence"].to_numpy().astype(np.float64)
    issue = rows["is_label_issue"].to_numpy(zero_copy_only=False)
    names = rows["image"].to_pylist()
    # a draw of its own for every number of trusted rows: a second one must not follow the first one's traces
    hashes = hash_keys((f"{trusted}:{name}" for name in names), seed)
    ranked = np.flatnonzero(issue)[np.lexsort((hashes[issue], -confidence[issue]))]
    seen = _verified_fixes(held_out)
    at_random = seen.filter(pc.equal(seen["sample"], RANDOM_SAMPLE))["confidence"].to_numpy()
    fixes, chance = _fixes_within_reach(
        confidence[ranked], count - _aside(count), at_random, max_fix_error, coverage
    )
    best = ranked[:fixes]
    chances = inclusion_chances(_sizes(confidence, ranked, fixes, count), count)
    chosen = draw(chances, hashes, seed)
    frame = [names[row] for row in best]
    if fixes and not (fixes < len(ranked) and confidence[ranked[fixes]] == confidence[best[-1]]):
        # of trusted rows at a tie that is cut, nobody could say on which side they would be
        alike = pc.greater_equal(seen["confidence"], float(confidence[best[-1]]))
        frame += seen.filter(alike)["image"].to_pylist()
    table = pa.table(
        {
            "image": rows["image"].take(chosen),
            "trusted_label": pa.nulls(len(chosen), pa.string()),
            "given_label": rows["given_label"].take(chosen),
            "suggestion": rows["predicted_label"].take(chosen),
            "confidence": rows["confidence"].take(chosen),
            "weight": 1.0 / chances[chosen],
            "drawn_from": frame_cells(
                image_ids(frame),
                image_ids(names[row] for row in chosen),
                f"{count} of {len(names)}, seed {seed}",
            ),
        }
    )
    return Verification(table=table, fixes=fixes, fixes_drawn=int(np.isin(chosen, best).sum()), chance=chance)


def write_verification(plan: Verification, path: str | os.PathLike[str], *, force: bool) -> None:
    """Write the table as CSV.

    Raises
    ------
    OutputError
        When `path` is not called ``.csv``, exists and `force` is false, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise OutputError(f"{path}: expected a name that ends in .csv. Choose another --out.")
    write_new_file(path, lambda temporary: csv.write_csv(plan.table, temporary), force=force)


def _verified_fixes(held_out: pa.Table | None) -> pa.Table:
    """Return image, confidence and sample of the trusted rows that would be a fix, had nobody verified them."""
    if held_out is None:
        return pa.table({"image": pa.array([], pa.string()), "confidence": pa.array([], pa.float32()),
                         "sample": pa.array([], pa.int32())})  # fmt: skip
    fixes = held_out.filter(pc.not_equal(held_out["predicted_label"], held_out["given_label"]))
    return fixes.select(["image", "confidence", "sample"])


def _aside(count: int) -> float:
    return min(max(ASIDE_SHARE * count, LEAST_ASIDE), count / 2)


def _sizes(confidence: np.ndarray, ranked: np.ndarray, fixes: int, count: int) -> np.ndarray:
    """Return what each row's chance is in proportion to, (N,): three draws mixed, each spread over its rows."""
    doubt = 1 - confidence
    doubt[ranked[:fixes]] = 0
    sizes = np.full(len(confidence), _aside(count) / 2 / len(confidence))
    if fixes:
        sizes[ranked[:fixes]] += (count - _aside(count)) / fixes
    if doubt.sum() > 0:
        sizes += _aside(count) / 2 * doubt / doubt.sum()
    return sizes


def _fixes_within_reach(
    confidence: np.ndarray, drawn: float, at_random: np.ndarray, max_fix_error: float, coverage: float
) -> tuple[int, float]:
    """Return how many of the most confident fixes to aim at, and the chance that they then can be promised.

    `confidence` is of all fixes, descending, and `at_random` of those that are verified, being in the random
    sample; `drawn` of the first will be verified.
    """

    def plan(size: int) -> tuple[float, float]:
        """Return what it is worth to aim at `size` fixes, and the chance."""
        rate = planned_error(confidence[:size])
        verified = math.floor(drawn + np.count_nonzero(at_random >= confidence[size - 1]))
        left = math.ceil(size - drawn)
        chance = chance_to_promise(rate, verified, left, max_fix_error, 1 - coverage)
        return worth(chance, left) * min(left / (FIXES_LEFT_PER_ROW * drawn), 1.0), chance

    most = min(len(confidence), math.floor(MOST_FIXES_PER_ROW * drawn))
    sizes = {math.ceil(drawn * GROWTH**step) for step in range(200)} | {most}
    plans = [(*plan(size), size) for size in sorted(sizes) if drawn < size <= most]
    _, chance, size = max(plans, default=(0.0, 0.0, 0))
    if chance < LEAST_CHANCE:
        size = min(most, math.ceil(FIXES_PER_ROW * drawn))
        chance = plan(size)[1] if size > drawn else 0.0
    return size, chance
