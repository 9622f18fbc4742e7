"""Which fixes a sample of verified ones speaks for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from labelfix.fix_error import chance_of_so_few
from labelfix.guarantees import find_guarantee
from labelfix.verified_fixes import Suspects, Verified, samples_of

LIMIT, RISK = 0.05, 0.05


def suspects(sample: list[int], frames: dict[int, tuple[list[int], list[int]]], others: int = 4) -> Suspects:
    count = len(sample)
    return Suspects(
        confidence=np.linspace(0.9, 0.8, count), wrong=np.zeros(count, bool), weight=np.ones(count),
        sample=np.array(sample), others=np.linspace(0.6, 0.9, others),
        frames={d: (np.array(a, bool), np.array(b, bool)) for d, (a, b) in frames.items()},
    )  # fmt: skip


def test_a_random_sample_speaks_for_everything() -> None:
    (found,) = samples_of(suspects([0, 0, 0], {}))
    assert (found.even, found.frames, len(found.confidence), len(found.others)) == (True, (), 3, 4)


def test_one_draw_without_a_frame_leaves_only_weights() -> None:
    (found,) = samples_of(suspects([0, 1, 2], {2: ([0, 0, 1], [1, 1, 1, 1])}))
    assert (found.even, found.frames, len(found.confidence)) == (False, (), 3)


def test_every_draw_speaks_for_its_frame() -> None:
    """Three random rows, two of draw 1, two of draw 2; each draw has one row from outside of its frame."""
    found = samples_of(
        suspects(
            [0, 0, 0, 1, 1, 2, 2],
            {1: ([1, 1, 0, 1, 0, 1, 1], [1, 1, 1, 0]), 2: ([1, 0, 0, 1, 0, 1, 0], [0, 1, 1, 1])},
        )
    )
    assert [sample.frames for sample in found] == [(), (1, 2), (2,)]
    assert [sample.draw.tolist() for sample in found] == [[0, 0, 0], [0, 1, 2], [2]]
    assert [len(sample.others) for sample in found] == [4, 2, 3]
    assert [len(sample.known) for sample in found] == [4, 0, 1]
    assert all(sample.even for sample in found)


def test_rows_beside_the_sample_are_weighed_both_ways() -> None:
    """Whether they were verified before or after, nobody knows: the less favourable one counts."""
    seen = Verified(rows=100, wrong=1, fixes=600, known=150, known_wrong=0)
    clean, alone = seen.chance(LIMIT), replace(seen, known=0).chance(LIMIT)
    assert clean > alone  # the wrong ones may all be among the others, of which few were sampled
    assert replace(seen, known_wrong=150).chance(LIMIT) == alone


@pytest.mark.parametrize("wrong_first", [False, True])
def test_fixes_that_were_verified_otherwise_leave_the_risk_as_it_is(wrong_first: bool) -> None:
    """By enumeration: a random sample, then someone verifies the right ones (or the wrong ones) of the others."""
    rows, known, fixes = 100, 150, 600
    total, seen = rows + known + fixes, np.arange(rows + 1)
    broken = []
    for wrong in range(total):
        left = np.maximum(wrong - seen, 0)  # wrong ones that the sample left
        taken = np.minimum(left, known) if wrong_first else np.maximum(left - fixes, 0)
        passes = chance_of_so_few(seen, rows, fixes, LIMIT, known=known, known_wrong=taken) <= RISK
        bad = left - taken > LIMIT * fixes
        broken.append(stats.hypergeom.pmf(seen, total, wrong, rows)[passes & bad].sum())
    assert max(broken) <= RISK
    if not wrong_first:
        ignoring = chance_of_so_few(0, rows, fixes, LIMIT)
        assert chance_of_so_few(0, rows, fixes, LIMIT, known=known) > ignoring  # few of so many were sampled
        assert max(broken) > RISK / 6


def framed_promise(
    rng: np.random.Generator, error_A: np.ndarray, newcomers: int
) -> tuple[int, float, set[int]]:
    """Draw 120 rows from a frame A, let as many wrong newcomers in between as asked for, and ask for a promise."""
    size = len(error_A) + newcomers
    confidence = np.append(np.linspace(0.999, 0.9, len(error_A)), np.linspace(0.999, 0.9, newcomers))
    wrong = np.append(rng.random(len(error_A)) < error_A, np.ones(newcomers, bool))
    frame = np.arange(size) < len(error_A)
    seen = rng.permutation(len(error_A))[:120]
    others = np.setdiff1d(np.arange(size), seen)
    found = find_guarantee(
        confidence[seen], wrong[seen], np.full(120, 4.0), np.ones(120, int), confidence[others],
        frames={1: (frame[seen], frame[others])}, trusted=600, rows=20_000, max_fix_error=LIMIT, coverage=0.95,
    )  # fmt: skip
    if found.threshold is None:
        return 0, 0.0, set()
    assert found.frames == (1,)
    fixed = others[(confidence[others] >= found.threshold) & frame[others]]
    assert len(fixed) == found.fixes
    return found.fixes, float(wrong[fixed].mean()), set(fixed.tolist())


def test_a_frame_needs_no_assumption_about_the_errors() -> None:
    """A leap of the error among the surest, or with falling doubt, and wrong newcomers at every confidence."""
    place = np.arange(600) / 600
    for error in (
        np.where(place > 0.9, 0.9, 0.0),
        np.where((place > 0.4) & (place < 0.5), 0.9, 0.0),
        np.where(place < 0.06, 0.9, 0.0),
        np.full(600, 0.055),
    ):
        rng = np.random.default_rng(0)
        broken = sum(framed_promise(rng, error, 400)[1] > LIMIT for _ in range(200))
        assert broken <= stats.binom.ppf(0.99, 200, RISK)
    fixes, wrong, fixed = framed_promise(np.random.default_rng(0), np.full(600, 0.001), 400)
    assert fixes > 400
    assert wrong < LIMIT
    assert max(fixed) < 600  # nobody could have verified a newcomer
