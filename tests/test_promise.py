"""Promises: kept in at least 95 of 100 draws of the trusted rows, and made where they can be."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import listed_ids
from scipy import stats

from labelfix.benchmark.labels import read_task
from labelfix.cross_fitting.self_training import CrossFitter
from labelfix.inputs.draw_columns import image_ids
from labelfix.risk_control.draws import Sample
from labelfix.risk_control.p_values import (
    hypergeometric_p_value,
    least_rows,
    planned_error,
    power,
    worth,
)
from labelfix.risk_control.promise import Guarantee, find_guarantee
from labelfix.risk_control.rows_to_verify import plan_verification
from labelfix.settings import VerdictConfig
from labelfix.system.folds import hash_keys
from labelfix.system.progress import SilentProgress
from labelfix.training.linear_head import LabelledFeatures
from labelfix.verdicts.arrays import Action, verdict

ROWS, FIXES, DRAWS, LIMIT = 20_000, 4_000, 200, 0.05


class Population:
    """Label issues with confidences, now and in an earlier run, and whether their fix is wrong."""

    def __init__(self, seed: int, overconfident: float):
        rng = np.random.default_rng(seed)
        self.confidence = np.sort(1 - 0.5 * rng.random(FIXES) ** 2.5)[::-1]
        self.wrong = rng.random(FIXES) < np.minimum((1 - self.confidence) * overconfident, 1)
        shift = np.exp(0.7 * rng.standard_normal(FIXES))
        self.earlier = 1 - np.minimum((1 - self.confidence) * shift, 0.5)

    def promise(
        self,
        seen: np.ndarray,
        weight: np.ndarray,
        sample: np.ndarray,
        frames: dict[int, np.ndarray] | None = None,
    ) -> tuple[int, float]:
        """How many fixes are promised and which share of them is wrong, some label issues being verified."""
        others = np.setdiff1d(np.arange(FIXES), seen)
        found = find_guarantee(
            self.confidence[seen], self.wrong[seen], weight, sample, self.confidence[others],
            sampling_frames={draw: (frame[seen], frame[others]) for draw, frame in (frames or {}).items()},
            trusted=len(seen), rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
        )  # fmt: skip
        if found.threshold is None:
            return 0, 0.0
        fixed = others[self.confidence[others] >= found.threshold]
        for draw in found.frames:
            fixed = fixed[frames[draw][fixed]]
        assert len(fixed) == found.fixes
        return found.fixes, float(self.wrong[fixed].mean())


def random_draw(population: Population, rng: np.random.Generator) -> tuple[int, float]:
    seen = np.flatnonzero(rng.random(FIXES) < 0.1)
    return population.promise(seen, np.ones(len(seen)), np.zeros(len(seen), int))


def chosen_draws(
    population: Population, rng: np.random.Generator, counts: tuple[int, ...], *, reranked: bool, framed: bool
) -> tuple[int, float]:
    """A random sample, then rows that `plan_verification` chose, by the present ranking or by an earlier one."""
    seen = np.flatnonzero(rng.random(FIXES) < 0.03)
    weight, sample = np.ones(len(seen)), np.zeros(len(seen), int)
    confidence = (population.earlier if reranked else population.confidence).astype(np.float32)
    names, frames = np.array([str(i) for i in range(FIXES)]), {}
    fixes = {"given_label": ["a"] * FIXES, "predicted_label": ["b"] * FIXES, "confidence": confidence}
    for draw, count in enumerate(counts, 1):
        known = np.isin(np.arange(FIXES), seen)
        table = pa.table(
            {
                "image": names,
                **fixes,
                "is_label_issue": np.ones(FIXES, bool),
                "trusted_label": pa.array(["b"] * FIXES, mask=~known),
            }
        )
        plan = plan_verification(
            table, count, held_out=table.take(seen).append_column("sample", pa.array(sample)),
            max_fix_error=LIMIT, coverage=0.95, seed=int(rng.integers(2**31)),
        ).table  # fmt: skip
        if framed:
            listed = np.array(listed_ids(plan["drawn_from"].to_pylist()), np.uint64)
            frames[draw] = np.isin(image_ids(names), listed)
        seen = np.concatenate([seen, [int(name) for name in plan["image"].to_pylist()]])
        weight = np.concatenate([weight, plan["weight"].to_numpy()])
        sample = np.concatenate([sample, np.full(plan.num_rows, draw)])
        # a run after each draw ranks anew
        shift = np.exp(0.3 * rng.standard_normal(FIXES)) if reranked else 1.0
        fixes["confidence"] = (1 - np.minimum((1 - confidence) * shift, 0.5)).astype(np.float32)
    return population.promise(seen, weight, sample, frames)


TAKES = {
    "random": random_draw,
    "weights": partial(chosen_draws, counts=(300,), reranked=False, framed=False),
    "weights, reranked": partial(chosen_draws, counts=(300,), reranked=True, framed=False),
    "frame": partial(chosen_draws, counts=(300,), reranked=False, framed=True),
    "frame, reranked": partial(chosen_draws, counts=(300,), reranked=True, framed=True),
    "two frames, reranked": partial(chosen_draws, counts=(150, 150), reranked=True, framed=True),
}


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("overconfident", [1.0, 3.0])
def test_promises_are_broken_in_at_most_five_of_a_hundred_draws(take: str, overconfident: float) -> None:
    rng = np.random.default_rng(7)
    broken, fixes = 0, []
    for number in range(DRAWS):
        promised, wrong = TAKES[take](Population(number, overconfident), rng)
        fixes.append(promised)
        broken += wrong > LIMIT
    assert broken <= stats.binom.ppf(0.99, DRAWS, 0.05)
    if overconfident <= 1:  # the best half of the label issues has 1 % or 2 % wrong: it can be promised
        assert np.mean(np.array(fixes) > 0) > 0.8


@pytest.mark.parametrize("wrong_share", [0.3, 0.7])
@pytest.mark.parametrize("draw", [0, 1])
def test_ties_hide_no_wrong_fix(wrong_share: float, draw: int) -> None:
    levels, each = np.linspace(0.99, 0.92, 8), 40
    wrong = np.tile(np.arange(each) >= each * (1 - wrong_share), 8)  # of every tie, the right ones come first
    found = find_guarantee(
        np.repeat(levels, each), wrong, np.full(8 * each, 10.0), np.full(8 * each, draw), np.repeat(levels, 400),
        trusted=8 * each, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
    )  # fmt: skip
    assert found.threshold is None
    assert found.wrong > 0


def test_rows_that_count_for_no_promise_are_asked_for_too() -> None:
    needed = [
        find_guarantee(
            np.full(5, 0.999), np.zeros(5, bool), np.ones(5), np.zeros(5, int), np.full(500, 0.999),
            trusted=100, kept_share=share, rows=10_000, max_fix_error=LIMIT, coverage=0.95,
        ).rows_needed
        for share in (1.0, 0.25)
    ]  # fmt: skip
    assert needed[1] == pytest.approx(4 * needed[0], abs=4)


def test_fixes_next_to_which_nothing_was_verified_are_not_promised() -> None:
    """300 verified fixes are right; 3,000 others are as sure as the least sure of these, and none was looked at."""
    confidence = np.linspace(0.999, 0.9, 300)
    near, far = np.linspace(0.999, 0.901, 700), np.full(3000, 0.9005)
    found = find_guarantee(
        confidence, np.zeros(300, bool), np.full(300, 3.0), np.ones(300, int), np.concatenate([near, far]),
        trusted=300, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
    )  # fmt: skip
    assert 500 < found.fixes <= 700


def test_the_least_number_of_error_free_fixes() -> None:
    assert least_rows(0.05, 0.05) == 58
    endless = 10_000_000
    assert hypergeometric_p_value(0, 58, endless, 0.05) > 0.05
    assert hypergeometric_p_value(0, 59, endless, 0.05) <= 0.05


@pytest.mark.parametrize(("rows", "fixes"), [(100, 200), (80, 400), (200, 100)])
def test_the_test_errs_as_often_as_it_may_and_no_more(rows: int, fixes: int) -> None:
    """By enumeration: for every number of wrong fixes, the chance to promise and to break the promise."""
    risk, most = 0.05, int(LIMIT * fixes)
    seen = np.arange(rows + 1)
    passes = hypergeometric_p_value(seen, rows, fixes, LIMIT) <= risk
    broken = [
        stats.hypergeom.pmf(seen, rows + fixes, wrong, rows)[passes & (wrong - seen > most)].sum()
        for wrong in range(rows + fixes)
    ]
    assert max(broken) <= risk
    assert max(broken) > risk / 6


def test_no_promise_where_hardly_any_fix_is_left() -> None:
    assert hypergeometric_p_value(0, 50, 0, 0.05) == 1.0


def test_a_promise_is_likelier_with_more_rows_and_fewer_errors() -> None:
    assert power(0.01, 300, 1000, 0.05, 0.05) > 0.9
    assert power(0.04, 300, 1000, 0.05, 0.05) < 0.2
    assert power(0.0, 20, 1000, 0.05, 0.05) == 0.0


def test_the_sequence_does_not_look_at_the_truth_to_start() -> None:
    """Whatever the truth, the same rows are shown when nothing can be promised."""
    rng = np.random.default_rng(0)
    confidence, others = 1 - 0.1 * rng.random(200), 1 - 0.1 * rng.random(2000)
    shown = set()
    for share in (0.3, 0.6, 1.0):
        found = find_guarantee(
            confidence, rng.random(200) < share, np.ones(200), np.zeros(200, int), others,
            trusted=1000, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
        )  # fmt: skip
        assert found.threshold is None
        shown.add(found.rows)
    assert len(shown) == 1


def banded(rows: list[int], shares: list[float], fixes: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of verified rows in bands, and of `fixes` others (ascending), in shares of the same bands."""
    levels = np.linspace(0.99, 0.9, len(rows) + 1)
    spans = list(pairwise(levels))
    seen = [np.linspace(high, low, count + 1)[1:] for (high, low), count in zip(spans, rows, strict=True)]
    others = [
        np.linspace(high, low, round(share * fixes), endpoint=False)
        for (high, low), share in zip(spans, shares, strict=True)
    ]
    return np.concatenate(seen), np.sort(np.concatenate(others))


def weighed(confidence: np.ndarray, wrong: np.ndarray, weight: np.ndarray, others: np.ndarray) -> Sample:
    """A chosen draw, of which nothing is known but its weights."""
    return Sample(
        confidence=confidence, wrong=wrong, weight=weight, draw=np.ones(len(wrong), int), unverified=others,
        verified_elsewhere=np.empty(0), right_elsewhere=np.empty(0), is_simple_random=False,
    )  # fmt: skip


LINEAR = [step / 28 for step in range(8)]  # from none to a quarter


@pytest.mark.parametrize("fixes", [300, 1000, 100_000])
@pytest.mark.parametrize("limit", [0.05, 0.1])
@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        ([20] * 8, LINEAR),
        ([40] * 8, LINEAR),
        ([40] * 3, [0.2, 0.3, 0.5]),
        ([50] * 3, [0.15, 0.3, 0.55]),
        ([60] * 4, [0.4, 0.3, 0.2, 0.1]),
        ([100, 20, 100], [0.45, 0.15, 0.4]),
    ],
)
def test_errors_that_grow_with_doubt_break_few_promises_however_unevenly_rows_were_verified(
    rows: list[int], shares: list[float], limit: float, fixes: int
) -> None:
    """By enumeration: the chance that few verified rows are wrong, and too many of the other fixes are."""
    confidence, others = banded(rows, shares, fixes)
    count, bands = len(confidence), np.arange(len(rows))

    def passes(wrong: int) -> bool:
        placed = np.arange(count) < wrong
        return weighed(confidence, placed, np.ones(count), others).top(count).p_value(limit) <= 0.05

    allowed = next(wrong for wrong in range(count) if not passes(wrong)) - 1
    broken = []
    in_band = np.round(np.array(shares) * fixes).astype(int) + rows
    for first in bands:  # errors in the last bands alone, or also half as often in those before
        for before in (0.0, 0.5):
            for more in np.linspace(0.8, 2, 9):
                error = np.where(bands >= first, 1.0, before)
                error = np.minimum(error * more * limit / (error @ shares), 1)
                wrong = np.round(error * in_band).astype(int)
                chances = np.ones(1)
                for total, bad, number in zip(in_band, wrong, rows, strict=True):
                    here = stats.hypergeom.pmf(np.arange(number + 1), total, bad, number)
                    chances = np.convolve(chances, here)
                too_few = (
                    wrong.sum() - int(limit * len(others)) - 1
                )  # verified, when too many others are wrong
                broken.append(chances[: max(min(allowed, too_few) + 1, 0)].sum())
    assert max(broken) <= 0.05
    assert allowed < 0 or max(broken) > 0.001  # the test is not that cautious


def test_wrong_fixes_are_counted_whole() -> None:
    """With one weight, as many as there are, whatever their band; with several, rounded up."""
    confidence, others = banded([20] * 5, [0.3, 0.2, 0.1, 0.2, 0.2])
    for wrong in (np.arange(100) == 45, np.arange(100) == 5, np.arange(100) % 30 == 7):
        found = weighed(confidence, wrong, np.full(100, 7.0), others).top(100)
        assert (found.rows, found.wrong, found.fixes) == (100, wrong.sum(), len(others))
        assert found.min_density == pytest.approx(1.0, abs=0.01)
    weight = np.where(np.arange(100) % 20 < 10, 1.0, 2.0)
    found = weighed(confidence, np.arange(100) == 45, weight, others).top(100)
    assert (found.rows, found.wrong) == (90, 1)  # two thirds of one


@pytest.mark.parametrize("place", [30, 80, 150])
def test_one_heavy_row_does_not_end_the_promise(place: int) -> None:
    """A row that `next` drew by doubt, say, and that is now among the surest."""
    confidence, others = banded([20] * 15, [1 / 15] * 15, 900)
    weight = np.where(np.arange(300) == place, 30.0, 3.0)
    found = find_guarantee(
        confidence, np.zeros(300, bool), weight, np.ones(300, int), others,
        trusted=300, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
    )  # fmt: skip
    assert found.fixes == len(others)


def test_when_all_verified_fixes_are_wrong_nothing_is_promised() -> None:
    """However they are weighed, and with hardly any fix left."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        count = int(rng.integers(20, 80))
        found = find_guarantee(
            np.full(count, 0.99), np.ones(count, bool), 1 / rng.uniform(0.05, 1, count), np.ones(count, int),
            np.full(int(rng.integers(1, 40)), 0.99),
            trusted=count, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
        )  # fmt: skip
        assert found.threshold is None


def test_rows_are_asked_for_where_confidence_promises_a_promise() -> None:
    """Label issues whose stated error is half of what is allowed are worth verifying; those beyond it are not."""
    needed = [
        find_guarantee(
            np.full(20, level), np.zeros(20, bool), np.ones(20), np.zeros(20, int), np.full(2000, level),
            trusted=200, rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
        ).rows_needed
        for level in (0.99, 0.977, 0.95)
    ]  # fmt: skip
    assert 0 < needed[0] < needed[1]
    assert needed[2] is None


def test_plans_expect_more_errors_than_stated() -> None:
    assert planned_error(np.full(50, 0.99)) == pytest.approx(1.5 * 0.01 + 0.002)
    assert planned_error(np.zeros(0)) == 1.0
    assert worth(0.9, 500) > worth(0.45, 1000) > worth(0.0, 10_000)


@pytest.mark.slow
def test_promises_hold_over_redraws_of_real_trusted_rows(data_folder: Path) -> None:
    """Human labels of CIFAR-10N; probabilities from the given labels alone, so that one fit serves every draw."""
    task = read_task("cifar10n-random1", data_folder, 10_000, SilentProgress())
    rows, num_classes = len(task.true), int(task.true.max()) + 1
    fold = np.arange(rows) % 5
    data = LabelledFeatures(
        features=task.features, given=task.given, trusted=np.full(rows, -1),
        hashes=hash_keys(map(str, range(rows)), 0), num_classes=num_classes,
    )  # fmt: skip
    fitter = CrossFitter(data, fold, torch.device("cpu"))
    probs = fitter.out_of_fold(fitter.given_targets())
    config = VerdictConfig(max_fix_error=0.2)
    rng = np.random.default_rng(0)
    promised = broken = 0
    for _ in range(DRAWS):
        trusted = rng.permutation(rows)[:1000]
        found = verdict(probs, task.given, trusted, task.true[trusted], folds=fold, config=config)
        fixed = found.action == Action.RELABEL
        fixed[trusted] = False
        promised += fixed.any()
        broken += fixed.any() and (found.predicted_label != task.true)[fixed].mean() > 0.2
    print(f"promised in {promised} of {DRAWS} draws, broken in {broken}")
    assert broken <= stats.binom.ppf(0.99, DRAWS, 0.05)
    assert promised > DRAWS / 4


# ------------------------------------------------------------------------------------- the sequence, step by step


def fixed_sequence(wrong: np.ndarray, fixes: int) -> tuple[int | None, Guarantee]:
    """Return how many rows are above the promised threshold; confidence falls from one row to the next."""
    confidence, unverified = (1 - 0.1 * np.linspace(0.001, 1, count) ** 2 for count in (len(wrong), fixes))
    found = find_guarantee(
        confidence, wrong, np.ones(len(wrong)), np.zeros(len(wrong), int), unverified,
        trusted=len(wrong), rows=ROWS, max_fix_error=LIMIT, coverage=0.95,
    )  # fmt: skip
    rows = None if found.threshold is None else int((confidence >= found.threshold).sum())
    return rows, found


def test_nothing_after_a_failure_is_promised() -> None:
    """With errors early in the sequence, a later set would pass: the sequence has stopped by then."""
    wrong = np.zeros(600, bool)
    assert fixed_sequence(wrong, 3000)[0] == 600
    _, of_first = fixed_sequence(np.ones(600, bool), 3000)
    first = of_first.rows  # what is tested first does not depend on the truth
    errors = first // 25
    wrong[:errors] = True
    assert hypergeometric_p_value(errors, first, 5 * first, LIMIT) > 0.05
    assert hypergeometric_p_value(errors, 600, 3000, LIMIT) < 0.01
    rows, found = fixed_sequence(wrong, 3000)
    assert rows is None
    assert (found.rows, found.wrong) == (first, errors)


def test_fixes_at_the_threshold_itself_are_made() -> None:
    """Many rows of a few kinds, so that confidences tie: as many are relabelled as the promise counts."""
    rng = np.random.default_rng(0)
    kinds = np.array([[0.96, 0.03, 0.01], [0.02, 0.95, 0.03], [0.01, 0.05, 0.94], [0.9, 0.06, 0.04]])
    kind = rng.integers(0, 4, 6000)
    true = kinds[kind].argmax(1)
    given = np.where(rng.random(6000) < 0.4, (true + 1) % 3, true)
    rows = rng.permutation(6000)[:1500]
    result = verdict(
        kinds[kind],
        given,
        rows,
        true[rows],
        folds=np.arange(6000) % 5,
        config=VerdictConfig(max_fix_error=0.1),
    )
    guarantee = result.guarantee
    assert guarantee is not None
    assert guarantee.threshold is not None
    unverified = np.setdiff1d(np.arange(6000), rows)
    issues = unverified[result.is_label_issue[unverified]]
    assert (result.confidence[issues] == guarantee.threshold).any()
    assert (result.action[unverified] == Action.RELABEL).sum() == guarantee.fixes > 0
