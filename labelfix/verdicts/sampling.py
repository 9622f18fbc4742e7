"""How the verified rows were sampled, and whether those that are said to be random look like it.

N rows, K classes, M trusted rows, X other verified rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE
from labelfix.verdicts.posterior import content_hashes
from labelfix.verdicts.random_check import RandomCheck, SampleKind, check_random

__all__ = ["SamplingDesign", "check_sample", "one_per_group", "post_stratified"]

# Groups are taken to have been drawn whole where chance would have it less often.
WHOLE_GROUPS = 0.001


@dataclass(frozen=True)
class SamplingDesign:
    """How verified rows were sampled.

    `rows`, `weight` and `sample` (its number) are (M,), of the trusted rows; `known_rows` and `known_sample` are
    (X,), of the rows that were verified but took part in training.
    """

    rows: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    known_rows: np.ndarray
    known_sample: np.ndarray


def check_sample(
    design: SamplingDesign,
    probs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> RandomCheck | None:
    """Return whether the rows of the random sample look like one; None where there are none.

    There are two ways to an honest sample: rows drawn from all rows, before or after others were verified, or from
    the rows that were not verified in another way. There is an alarm only where both are ruled out. The second one
    is also right where `probs` have seen the trusted labels of the known rows.

    Parameters
    ----------
    probs
        (N, K) out-of-fold probabilities that use no trusted label, but for those of `known_rows`.
    labels
        (N,) given labels.
    classes
        (K,) names.
    groups
        (N,) numbers of groups of duplicates: whole groups may have been drawn.
    strata
        (N,) numbers of strata that may have been drawn from; None takes the given labels.
    """
    trusted = design.rows[design.sample == RANDOM_SAMPLE]
    known = design.known_rows[design.known_sample == RANDOM_SAMPLE]
    if not len(trusted):
        return None
    numbers, ties = np.arange(len(labels)), content_hashes(probs, labels)
    score = 1 - probs[numbers, labels].astype(np.float64)
    issue = probs.argmax(1) != labels

    def check(frame: np.ndarray, drawn: np.ndarray) -> RandomCheck:
        return check_random(
            score[frame], labels[frame], np.searchsorted(frame, drawn),
            issue=issue[frame], ties=ties[frame], classes=classes,
            groups=None if groups is None else groups[frame],
            strata=None if strata is None else strata[frame],
        )  # fmt: skip

    found = check(numbers, np.concatenate([trusted, known]))
    others = np.setdiff1d(np.concatenate([design.rows, design.known_rows]), trusted)
    if not found.alarm or not len(others):
        return found
    among_others = check(np.setdiff1d(numbers, others), trusted)
    return found if among_others.alarm else among_others


def post_stratified(design: SamplingDesign, strata: np.ndarray, found: RandomCheck | None) -> SamplingDesign:
    """Return the design with a stratified sample as a draw of its own, weighted by stratum (N,)."""
    if found is None or found.kind is not SampleKind.STRATIFIED:
        return design
    number = max([*design.sample.tolist(), *design.known_sample.tolist()]) + 1
    at_random = design.sample == RANDOM_SAMPLE
    inclusion = np.array(found.inclusion)[strata[design.rows[at_random]]]
    weight = design.weight.copy()
    weight[at_random] = len(strata) * (1 / inclusion) / (1 / inclusion).sum()
    known_at_random = design.known_sample == RANDOM_SAMPLE
    return replace(
        design,
        weight=weight,
        sample=np.where(at_random, number, design.sample),
        known_sample=np.where(known_at_random, number, design.known_sample),
    )


def one_per_group(design: SamplingDesign, groups: np.ndarray) -> SamplingDesign:
    """Return the design with one row of each group of duplicates, for all of it, where whole groups were drawn.

    Rows that were drawn one by one hardly ever hold all of a group. Where they do far more often than chance
    allows, groups were drawn: then a row counts for the size of its group, and its twins represent nothing.
    """
    at_random = np.flatnonzero(design.sample == RANDOM_SAMPLE)
    drawn = groups[design.rows[at_random]]
    _, first, held = np.unique(drawn, return_index=True, return_counts=True)
    size = np.bincount(groups, minlength=len(groups))[drawn[first]]
    if not _are_whole(size, held, len(at_random), len(groups)):
        return design
    number = max([*design.sample.tolist(), *design.known_sample.tolist()]) + 1
    sample, weight = design.sample.copy(), design.weight.copy()
    sample[at_random] = HAND_PICKED
    sample[at_random[first]], weight[at_random[first]] = number, size
    return replace(design, sample=sample, weight=weight)


def _are_whole(size: np.ndarray, held: np.ndarray, drawn: int, rows: int) -> bool:
    """Return whether more groups are held whole than rows drawn one by one would hold.

    size, held: of the groups that have a drawn row, how many rows they have and how many of these are drawn.
    """
    several = size > 1
    share = drawn / rows
    chance = share ** size[several] / (1 - (1 - share) ** size[several])
    whole = int((held == size)[several].sum())
    return bool(whole and stats.binom.sf(whole - 1, int(several.sum()), float(chance.mean())) < WHOLE_GROUPS)
