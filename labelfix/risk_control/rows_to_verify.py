"""What to verify next: a sample with known inclusion probabilities, mostly of fixes that may then be promised.

A few hundred random trusted rows hardly ever contain enough fixes to promise anything about them: at 5 % and 95 %,
a promise takes at least 59 verified fixes without one error. So `plan_verification` samples most rows from the most
confident fixes, as many fixes as are likely to pass the test of `labelfix.risk_control.promise`. Some rows
are sampled by doubt, because the posterior learns most from them, and some uniformly, which keeps every estimate
unbiased. Inverse inclusion probabilities come back through ``--trusted`` as weights. So does the sampling frame of
the targeted fixes, which all have the same inclusion probability: `labelfix.inputs.draw_columns`.

N rows that are not trusted, n sampled rows, M trusted rows.
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
from labelfix.risk_control.p_values import planned_error, power, worth
from labelfix.risk_control.systematic_sampling import inclusion_probabilities, systematic_sample
from labelfix.system.files import write_new_file
from labelfix.system.folds import hash_keys

__all__ = ["Verification", "plan_verification", "write_verification"]

# Share and least number of the sampled rows that are not for the target: one half by doubt, the other uniformly.
UNTARGETED_SHARE, LEAST_UNTARGETED = 0.05, 4
GROWTH = 1.1
# A target of fewer unverified fixes per verified one than this is worth less.
FIXES_LEFT_PER_ROW = 2
# Every row lists its share of the targeted fixes, and a cell of a spreadsheet holds no more.
MOST_FIXES_PER_ROW = 2000
# With less power than this no promise is in reach; the target then has so many fixes per sampled row.
LEAST_POWER, FIXES_PER_ROW = 0.05, 10


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Rows to verify.

    Attributes
    ----------
    table
        One row per image, (n,), in random order, so that any first part of it is such a sample too: `image`,
        `trusted_label` (null: to be filled in), `given_label`, `suggestion`, `confidence` of the suggestion,
        `weight` = 1 / inclusion probability, and `drawn_from`: the draw, and a share of its sampling frame. The
        frame is the targeted fixes, and the trusted images that would be among them, were they not verified.
    fixes, fixes_drawn
        How many of the most confident fixes are the target, and how many of those are sampled.
    power
        Probability that these fixes can be promised once all rows are verified, at the error rate of
        `labelfix.risk_control.p_values.planned_error`.
    max_fix_error
        The promise that they work towards: at most this share of the fixes is wrong.
    """

    table: pa.Table
    fixes: int
    fixes_drawn: int
    power: float
    max_fix_error: float


def plan_verification(
    soft_labels: pa.Table,
    count: int,
    *,
    held_out: pa.Table | None = None,
    max_fix_error: float,
    coverage: float,
    seed: int,
) -> Verification:
    """Sample the rows whose verification is worth most.

    Parameters
    ----------
    soft_labels
        ``soft_labels.parquet`` of a run, or its columns image, given_label, predicted_label, confidence,
        is_label_issue, trusted_label.
    count
        n; all rows where there are fewer.
    held_out
        ``held_out.parquet`` of the run, (M,), or its columns image, given_label, predicted_label, confidence,
        sample. With it, trusted rows that would be among the targeted fixes count for them as well.
    max_fix_error, coverage
        The promise to work towards: at most this share of the fixes is wrong, with this confidence.
    seed
        Of the sample.

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
    # the number of trusted rows is hashed too: a second draw must not follow the order of the first
    hashes = hash_keys((f"{trusted}:{name}" for name in names), seed)
    ranked = np.flatnonzero(issue)[np.lexsort((hashes[issue], -confidence[issue]))]
    verified = _verified_fixes(held_out)
    at_random = verified.filter(pc.equal(verified["sample"], RANDOM_SAMPLE))["confidence"].to_numpy()
    fixes, target_power = _choose_target(
        confidence[ranked], count - _untargeted(count), at_random, max_fix_error, coverage
    )
    target = ranked[:fixes]
    inclusion = inclusion_probabilities(_sizes(confidence, target, count), count)
    chosen = systematic_sample(inclusion, hashes, seed)
    frame = [names[row] for row in target]
    if fixes and not (fixes < len(ranked) and confidence[ranked[fixes]] == confidence[target[-1]]):
        # where the target cuts a tie, it is unknown on which side a trusted row of that confidence would be
        alike = pc.greater_equal(verified["confidence"], float(confidence[target[-1]]))
        frame += verified.filter(alike)["image"].to_pylist()
    table = pa.table(
        {
            "image": rows["image"].take(chosen),
            "trusted_label": pa.nulls(len(chosen), pa.string()),
            "given_label": rows["given_label"].take(chosen),
            "suggestion": rows["predicted_label"].take(chosen),
            "confidence": rows["confidence"].take(chosen),
            "weight": 1.0 / inclusion[chosen],
            "drawn_from": frame_cells(
                image_ids(frame),
                image_ids(names[row] for row in chosen),
                f"{count} of {len(names)}, seed {seed}",
            ),
        }
    )
    return Verification(
        table=table,
        fixes=fixes,
        fixes_drawn=int(np.isin(chosen, target).sum()),
        power=target_power,
        max_fix_error=max_fix_error,
    )


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
    """Return image, confidence and sample of the trusted rows that would be fixes, were they not verified."""
    if held_out is None:
        return pa.table({"image": pa.array([], pa.string()), "confidence": pa.array([], pa.float32()),
                         "sample": pa.array([], pa.int32())})  # fmt: skip
    fixes = held_out.filter(pc.not_equal(held_out["predicted_label"], held_out["given_label"]))
    return fixes.select(["image", "confidence", "sample"])


def _untargeted(count: int) -> float:
    return min(max(UNTARGETED_SHARE * count, LEAST_UNTARGETED), count / 2)


def _sizes(confidence: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
    """Return sizes (N,) for `inclusion_probabilities`: uniform, by doubt, and for the rows `target`, added up."""
    doubt = 1 - confidence
    doubt[target] = 0
    sizes = np.full(len(confidence), _untargeted(count) / 2 / len(confidence))
    if len(target):
        sizes[target] += (count - _untargeted(count)) / len(target)
    if doubt.sum() > 0:
        sizes += _untargeted(count) / 2 * doubt / doubt.sum()
    return sizes


def _choose_target(
    confidence: np.ndarray, sampled: float, at_random: np.ndarray, max_fix_error: float, coverage: float
) -> tuple[int, float]:
    """Return how many of the most confident fixes to target, and the probability that they can then be promised.

    Parameters
    ----------
    confidence
        Of all unverified fixes, descending.
    sampled
        How many of the targeted fixes will be verified.
    at_random
        Confidences of the fixes in the random sample, which are verified already.
    """

    def plan(size: int) -> tuple[float, float]:
        """Return the worth of a target of `size` fixes, and the power of the test of them."""
        verified = math.floor(sampled + np.count_nonzero(at_random >= confidence[size - 1]))
        left = math.ceil(size - sampled)
        target_power = power(planned_error(confidence[:size]), verified, left, max_fix_error, 1 - coverage)
        return worth(target_power, left) * min(left / (FIXES_LEFT_PER_ROW * sampled), 1.0), target_power

    most = min(len(confidence), math.floor(MOST_FIXES_PER_ROW * sampled))
    sizes = {math.ceil(sampled * GROWTH**step) for step in range(200)} | {most}
    plans = [(*plan(size), size) for size in sorted(sizes) if sampled < size <= most]
    _, target_power, size = max(plans, default=(0.0, 0.0, 0))
    if target_power < LEAST_POWER:
        size = min(most, math.ceil(FIXES_PER_ROW * sampled))
        target_power = plan(size)[1] if size > sampled else 0.0
    return size, target_power
