"""Which unverified fixes a sample of verified ones represents."""

import numpy as np
import pytest
from scipy import stats

from labelfix.risk_control.draws import LabelIssues, SampleCounts, candidate_samples
from labelfix.risk_control.p_values import hypergeometric_p_value
from labelfix.risk_control.promise import find_guarantee

LIMIT, RISK = 0.05, 0.05


def label_issues(
    draw: list[int],
    frames: dict[int, tuple[list[int], list[int]]],
    *,
    wrong: list[int] | None = None,
    num_trained: dict[int, int] | None = None,
) -> LabelIssues:
    count = len(draw)
    return LabelIssues(
        confidence=np.linspace(0.9, 0.8, count), wrong=np.array(wrong or [0] * count, bool), weight=np.ones(count),
        draw=np.array(draw), unverified=np.linspace(0.84, 0.9, 4),
        sampling_frames={d: (np.array(a, bool), np.array(b, bool)) for d, (a, b) in frames.items()},
        num_trained=num_trained or {},
    )  # fmt: skip


def test_a_random_sample_represents_all_fixes() -> None:
    (found,) = candidate_samples(label_issues([0, 0, 0], {}))
    assert (found.is_simple_random, found.frames) == (True, ())
    assert (len(found.confidence), len(found.unverified)) == (3, 4)


def test_a_draw_without_a_sampling_frame_has_only_its_weights() -> None:
    """Its rows count as verified outside of the other samples."""
    found = candidate_samples(label_issues([0, 1, 2], {2: ([0, 0, 1], [1, 1, 0, 1])}))
    assert [(s.is_simple_random, s.frames, s.draw.tolist()) for s in found] == [
        (True, (), [0]), (True, (2,), [2]), (False, (), [0, 1, 2]),
    ]  # fmt: skip
    assert [(len(s.verified_elsewhere), len(s.unverified)) for s in found] == [(2, 4), (0, 3), (0, 4)]


def test_every_draw_represents_its_sampling_frame() -> None:
    """Three random rows, two of draw 1, two of draw 2; each draw has one row from outside of its sampling frame."""
    found = candidate_samples(
        label_issues(
            [0, 0, 0, 1, 1, 2, 2],
            {1: ([1, 1, 0, 1, 0, 1, 1], [1, 1, 1, 0]), 2: ([1, 0, 0, 1, 0, 1, 0], [0, 1, 1, 1])},
            wrong=[0, 0, 0, 1, 0, 0, 0],
            num_trained={2: 3},
        )
    )
    assert [sample.frames for sample in found] == [(), (1,), (2,), (1, 2)]
    assert [sample.draw.tolist() for sample in found] == [[0, 0, 0], [0, 0, 1], [0, 2], [0, 1, 2]]
    assert [len(sample.unverified) for sample in found] == [4, 3, 3, 2]
    # rows of the other draws that are in the frame, or may be
    assert [len(sample.verified_elsewhere) for sample in found] == [7, 5, 1, 0]
    assert [len(sample.right_elsewhere) for sample in found] == [6, 5, 0, 0]
    assert found[1].top(3) == SampleCounts(rows=3, wrong=1, fixes=2, verified_elsewhere=3)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_rows_verified_outside_of_the_sample_leave_the_risk_as_it_is(share: float) -> None:
    """By enumeration: a random sample, then someone verifies right ones of the others, and some wrong ones."""
    rows, known, fixes = 100, 150, 600
    total, seen = rows + known + fixes, np.arange(rows + 1)
    broken = []
    for wrong in range(total):
        left = np.maximum(wrong - seen, 0)  # wrong ones that the sample left
        taken = np.maximum(np.minimum(np.round(share * left), known), left - fixes)
        passes = [
            hypergeometric_p_value(k, rows, fixes, LIMIT, verified_elsewhere=known - int(taken[k])) <= RISK
            for k in seen[:9]
        ]
        bad = left - taken > LIMIT * fixes
        broken.append(stats.hypergeom.pmf(seen[:9], total, wrong, rows)[np.array(passes) & bad[:9]].sum())
    assert max(broken) <= RISK
    assert share or max(broken) > RISK / 6


def test_a_draw_between_two_others_leaves_their_risk_as_it_is() -> None:
    """It takes right or wrong ones, whichever is worse after the first; the first and the last are the sample."""
    first, between, last, fixes = 40, 60, 40, 200
    total = first + between + last + fixes
    broken = []
    for wrong in range(5, 60, 2):
        chance = 0.0
        for k in range(10):
            start = stats.hypergeom.pmf(k, total, wrong, first)
            worst = 0.0
            for taken in {0, min(wrong - k, between) // 2, min(wrong - k, between)} if wrong >= k else ():
                left = wrong - k - taken
                more = np.arange(10)
                elsewhere = between - taken
                rows = first + last
                p_value = hypergeometric_p_value(k + more, rows, fixes, LIMIT, verified_elsewhere=elsewhere)
                passes = p_value <= RISK
                found = stats.hypergeom.pmf(more, last + fixes, left, last)
                worst = max(worst, found[passes & (left - more > LIMIT * fixes)].sum())
            chance += start * worst
        broken.append(chance)
    assert RISK / 10 < max(broken) <= RISK


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
        sampling_frames={1: (frame[seen], frame[others])},
        trusted=600, rows=20_000, max_fix_error=LIMIT, coverage=0.95,
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
