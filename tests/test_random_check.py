"""The check that trusted rows are random: exact p-values, biased samples found, honest ones left alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from labelfix.verdicts.random_check import RandomCheck, SampleKind, check_random

# ------------------------------------------------------------------------------------------ simulated data sets


@dataclass(frozen=True)
class Population:
    """N rows with true and given classes, probabilities of a classifier, and what else a sample may go by."""

    true: np.ndarray
    given: np.ndarray
    probs: np.ndarray
    annotator: np.ndarray
    folder: np.ndarray
    group: np.ndarray
    group_size: np.ndarray
    age: np.ndarray
    unrelated: np.ndarray

    @property
    def score(self) -> np.ndarray:
        return 1 - self.probs[np.arange(len(self.given)), self.given]

    @property
    def wrong(self) -> np.ndarray:
        return self.given != self.true

    @property
    def issue(self) -> np.ndarray:
        return self.probs.argmax(1) != self.given

    @property
    def uncertainty(self) -> np.ndarray:
        return -(self.probs * np.log(self.probs + 1e-12)).sum(1)

    @property
    def margin(self) -> np.ndarray:
        second, first = np.partition(self.probs, -2, axis=1)[:, -2:].T
        return first - second


def make_population(rng: np.random.Generator, rows: int, classes: int = 10) -> Population:
    """Noise of 18 % that grows with difficulty, age and careless annotators; a quarter of the rows in bursts."""
    sizes = np.where(rng.random(rows) < 0.95, 1, rng.integers(2, 12, rows))
    group = np.repeat(np.arange(rows), sizes)[:rows]
    num_groups = group[-1] + 1

    def per_group(values: np.ndarray) -> np.ndarray:
        return values[group]

    frequency = np.geomspace(4, 1, classes)
    folder_G = rng.integers(0, 8, num_groups)
    true_G = rng.choice(classes, num_groups, p=frequency / frequency.sum())
    at_home = rng.random(num_groups) < 0.5  # half of a folder is of two or three classes
    true_G = np.where(at_home, (folder_G + 3 * rng.integers(0, 2, num_groups)) % classes, true_G)
    hard_G = np.clip(rng.beta(1.2, 3, num_groups) + 0.02 * (folder_G - 3.5), 0, 1)
    annotator_G = rng.integers(0, 6, num_groups)
    age_G = rng.random(num_groups)
    class_noise = rng.uniform(0.6, 1.4, classes)
    noise_G = 0.18 * (0.3 + 2.4 * hard_G) * np.array([0.4, 0.6, 1, 1, 1.3, 1.8])[annotator_G]
    noise_G *= (0.5 + age_G) * class_noise[true_G]
    wrong_G = rng.random(num_groups) < np.minimum(noise_G, 0.9)
    other_G = np.where(rng.random(num_groups) < 0.5, 1, rng.integers(1, max(classes, 2), num_groups))
    given_G = np.where(wrong_G, (true_G + other_G) % classes, true_G)
    logits = rng.normal(size=(num_groups, classes))[group] + 0.2 * rng.normal(size=(rows, classes))
    strength = 8 * (1 - per_group(hard_G)) ** 1.5
    logits[np.arange(rows), per_group(true_G)] += strength
    logits[np.arange(rows), (per_group(true_G) + 1) % classes] += 1.5
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return Population(
        true=per_group(true_G),
        given=per_group(given_G),
        probs=logits / logits.sum(1, keepdims=True),
        annotator=per_group(annotator_G),
        folder=per_group(folder_G),
        group=group,
        group_size=np.bincount(group)[group],
        age=per_group(age_G),
        unrelated=rng.random(rows),
    )


def check(population: Population, rows: np.ndarray, **options: np.ndarray | None) -> RandomCheck:
    options.setdefault("groups", population.group)
    return check_random(population.score, population.given, rows, issue=population.issue, **options)


CORRECTED = "random rows, their given labels corrected before"


def mixed(share: float) -> "Key":
    """Return keys that take such a share of the rows at random, and the most suspicious rows for the rest."""
    return lambda p, u: -np.minimum(stats.rankdata(u) / share, stats.rankdata(-p.score) / (1 - share))


def only(chosen: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return keys (N,) that take rows at random among the chosen ones (N,) bool."""
    return np.where(chosen, u, -np.inf)


# A biased sample takes the M rows with the highest keys, none with -inf; `u` (N,) is uniform.
Key = Callable[[Population, np.ndarray], np.ndarray]
BIASED: dict[str, Key] = {
    "the most suspicious rows": lambda p, u: p.score,
    "the least suspicious rows": lambda p, u: -p.score,
    "the most suspicious rows of an earlier model": lambda p, u: p.score + 0.5 * stats.norm.ppf(u),
    "the most suspicious rows of one class": lambda p, u: np.where(p.given == 0, p.score, -np.inf),
    "label issues only": lambda p, u: only(p.issue, u),
    "label issues that were wrong": lambda p, u: only(p.issue & p.wrong, u),
    "wrong labels only": lambda p, u: only(p.wrong, u),
    "right labels only": lambda p, u: only(~p.wrong, u),
    "one class": lambda p, u: only(p.given == 0, u),
    "one predicted class": lambda p, u: only(p.probs.argmax(1) == 0, u),
    "a class left out": lambda p, u: only(p.given != 0, u),
    "first rows of a table sorted by class": lambda p, u: -p.given + u / 2,
    "hard images skipped": lambda p, u: only(p.uncertainty < np.quantile(p.uncertainty, 0.7), u),
    "rows skipped at random, uncertain ones more often": lambda p, u: only(
        p.uncertainty / p.uncertainty.max() < np.random.default_rng(0).permutation(u), u
    ),
    "easy images only": lambda p, u: only(p.probs.max(1) > np.median(p.probs.max(1)), u),
    "the highest confidences": lambda p, u: p.probs.max(1),
    "the lowest confidences": lambda p, u: -p.probs.max(1),
    "nearest to the boundary": lambda p, u: -p.margin,
    "the most uncertain rows": lambda p, u: p.uncertainty,
    "active learning, drawn by margin": lambda p, u: -p.margin / 0.3 - np.log(-np.log(u)),
    "half random, half most suspicious": mixed(0.5),
    "three quarters random, rest most suspicious": mixed(0.75),
    "nine tenths random, rest most suspicious": mixed(0.9),
    CORRECTED: lambda p, u: u,
}
# These show only as far as their scores and classes differ from those of all rows.
FAINT: dict[str, Key] = {
    "one folder": lambda p, u: only(p.folder == 0, u),
    "the most careless annotator": lambda p, u: only(p.annotator == 5, u),
    "the most careful annotator": lambda p, u: only(p.annotator == 0, u),
    "the newest files": lambda p, u: p.age,
    "bursts": lambda p, u: only(p.group_size >= 5, u),
}
# What has nothing to do with scores and classes leaves no trace in them.
UNSEEN: dict[str, Key] = {
    "one average annotator": lambda p, u: only(p.annotator == 2, u),
    "something unrelated to score and class": lambda p, u: p.unrelated,
}


def biased_check(name: str, population: Population, size: int, rng: np.random.Generator) -> RandomCheck:
    key = (BIASED | FAINT | UNSEEN)[name](population, rng.random(len(population.given)))
    rows = np.argsort(-key)[: min(size, int(np.isfinite(key).sum()))]
    if name == CORRECTED:
        given = population.given.copy()
        given[rows] = population.true[rows]
        population = replace(population, given=given)
    return check(population, rows)


# -------------------------------------------------------------------------------------------------- honest samples


def simple_rows(population: Population, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(population.given), size, replace=False)


def stratified_rows(population: Population, size: int, rng: np.random.Generator) -> np.ndarray:
    """As many of every class, or in proportion to the root of its size, or with any rates; at least one."""
    totals = np.bincount(population.given)
    shares = [np.ones(len(totals)), np.sqrt(totals), totals * rng.uniform(0.2, 2, len(totals))][
        rng.integers(3)
    ]
    counts = np.minimum(np.maximum(np.round(size * shares / shares.sum()), 1), totals).astype(int)
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(population.given == k), count, replace=False)
            for k, count in enumerate(counts)
        ]
    )


def clustered_rows(population: Population, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return whole groups in a random order, until there are so many rows."""
    order = rng.permutation(population.group[-1] + 1)
    sizes = np.bincount(population.group)[order]
    return np.flatnonzero(np.isin(population.group, order[: 1 + int(np.argmax(np.cumsum(sizes) >= size))]))


HONEST = {
    "simple random": simple_rows,
    "stratified by class": stratified_rows,
    "whole groups": clustered_rows,
}


# ---------------------------------------------------------------------------------------------------- fast tests


def two_sided(counts: np.ndarray, observed: int) -> float:
    return min(1.0, 2 * min((counts <= observed).mean(), (counts >= observed).mean()))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_p_values_equal_an_enumeration_of_all_samples(size: int) -> None:
    score, given = np.array([3, 1, 4, 1.5, 9, 2, 6, 5, 3.5]), np.array([0, 1, 0, 1, 2, 0, 1, 2, 2])
    issue = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], bool)
    samples = np.array(list(combinations(range(9), size)))
    half = np.isin(np.arange(9), np.argsort(-score)[:4])
    sets = {"50 % most suspicious rows": half, "label issues": issue, "rows labelled '1'": given == 1}
    for rows in samples[::7]:
        tests = {test.name: test for test in check_random(score, given, rows, issue=issue).tests}
        for name, members in sets.items():
            counts = members[samples].sum(1)
            assert tests[name].observed == members[rows].sum()
            assert tests[name].expected == pytest.approx(counts.mean())
            assert tests[name].p == pytest.approx(two_sided(counts, members[rows].sum()), abs=1e-12)


def test_p_values_within_strata_equal_an_enumeration() -> None:
    # 100 rows of two classes: all rows of class 0 but one are trusted, and 2 of class 1
    given = np.repeat([0, 1], [12, 88])
    score = np.random.default_rng(1).permutation(100).astype(float)
    rows = np.array([*range(11), 20, 30])
    found = check_random(score, given, rows)
    assert (found.kind, found.alarm) == (SampleKind.STRATIFIED, False)
    assert found.inclusion == pytest.approx((11 / 12, 2 / 88))
    of_first, of_second = combinations(range(12), 11), combinations(range(12, 100), 2)
    samples = np.array([[*a, *b] for a, b in product(of_first, of_second)])
    tests = {test.name: test for test in found.tests}
    for name, size in (("50 % most suspicious rows", 50), ("20 % most suspicious rows", 20)):
        members = score >= 100 - size
        counts = members[samples].sum(1)
        assert tests[name].expected == pytest.approx(counts.mean())
        assert tests[name].p == pytest.approx(two_sided(counts, members[rows].sum()), abs=1e-12)


def test_long_convolutions_keep_their_tails() -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 50, 100_000)
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(given == k), 100 + 10 * k, replace=False) for k in range(50)]
    )
    score = rng.random(100_000)
    found = check_random(score, given, rows)
    half = next(test for test in found.tests if test.name.startswith("50 %"))
    # the normal approximation, from the mean and the variance of the sum
    total, trusted = np.bincount(given), np.bincount(given[rows])
    inside = np.bincount(given[np.argsort(score)[50_000:]])
    share = inside / total
    variance = (trusted * share * (1 - share) * (total - trusted) / (total - 1)).sum()
    z = (abs(half.observed - half.expected) - 0.5) / np.sqrt(variance)
    assert found.kind is SampleKind.STRATIFIED
    assert half.p == pytest.approx(2 * stats.norm.sf(z), rel=0.02)


def test_ties_follow_the_order_that_is_given_and_sets_have_their_exact_sizes() -> None:
    ties = np.random.default_rng(0).permutation(1000)
    chosen = np.argsort(-ties)[:50]
    given = np.zeros(1000, int)
    tests = {test.name: test for test in check_random(np.zeros(1000), given, chosen, ties=ties).tests}
    assert tests["5 % most suspicious rows"].observed == 50
    assert tests["5 % most suspicious rows"].expected == pytest.approx(2.5)
    assert tests["50 % most suspicious rows"].expected == pytest.approx(25)


def test_reviewed_suspects_raise_the_alarm_and_the_message_says_what_to_do() -> None:
    population = make_population(np.random.default_rng(0), 5000)
    found = biased_check("the most suspicious rows", population, 100, np.random.default_rng(0))
    assert found.alarm
    assert found.kind is SampleKind.NOT_RANDOM
    assert found.p_value < 1e-15
    assert "100 of 100 trusted rows are among the 2 % most suspicious rows; 2." in found.worst
    for part in (found.worst, "nothing is promised", "--reviewed", "--trusted"):
        assert part in found.message()


def test_a_few_suspects_among_many_random_rows_are_found() -> None:
    population = make_population(np.random.default_rng(1), 500, classes=5)
    rng = np.random.default_rng(1)
    rows = simple_rows(population, 100, rng)
    others = np.setdiff1d(np.argsort(-population.score), rows, assume_unique=True)
    assert not check(population, rows).alarm
    assert check(population, np.append(rows, others[:60])).alarm


def test_permuted_rows_give_the_same_result() -> None:
    rng = np.random.default_rng(2)
    population = make_population(rng, 2000)
    score, rows, ties = population.score.round(1), simple_rows(population, 200, rng), rng.permutation(2000)
    order = rng.permutation(2000)
    place = np.argsort(order)
    one = check_random(score, population.given, rows, ties=ties, groups=population.group)
    two = check_random(
        score[order], population.given[order], place[rows], ties=ties[order], groups=population.group[order]
    )
    assert one == two


def test_names_of_classes_are_shown() -> None:
    rng = np.random.default_rng(3)
    given = np.repeat([0, 1, 2], [500, 300, 200])
    found = check_random(rng.random(1000), given, np.arange(100), classes=("cat", "dog", "fox"))
    assert found.alarm  # the other classes are left out
    assert found.worst == "100 of 100 trusted rows are among the rows labelled 'cat'; 50 were expected"


def test_as_many_rows_of_every_class_are_a_stratified_sample() -> None:
    rng = np.random.default_rng(4)
    population = make_population(rng, 8000)
    rows = np.concatenate([rng.choice(np.flatnonzero(population.given == k), 100, False) for k in range(10)])
    found = check(population, rows)
    assert (found.kind, found.alarm) == (SampleKind.STRATIFIED, False)
    assert found.inclusion == pytest.approx(tuple(100 / np.bincount(population.given)))
    assert "stratified" in found.message()


def test_suspects_within_classes_are_found_in_a_stratified_sample() -> None:
    population = make_population(np.random.default_rng(5), 8000)
    rows = np.concatenate(
        [
            members[np.argsort(-population.score[members])[:20]]
            for k in range(10)
            for members in [np.flatnonzero(population.given == k)]
        ]
    )
    assert check(population, rows).kind is SampleKind.NOT_RANDOM


def test_many_small_classes_that_are_left_out_raise_the_alarm() -> None:
    rng = np.random.default_rng(6)
    given = rng.integers(0, 100, 10_000)
    rows = rng.choice(np.flatnonzero(given < 10), 100, replace=False)
    assert check_random(rng.random(10_000), given, rows).alarm


def test_scores_that_go_with_uneven_rates_of_many_classes_are_no_alarm() -> None:
    """No count of a class is unusual by itself; the most suspicious classes together have too many rows."""
    rng = np.random.default_rng(2)
    suspicion = rng.normal(size=100)
    given = rng.integers(0, 100, 8000)
    totals = np.bincount(given)
    rates = np.exp(0.4 * suspicion)
    counts = np.round(500 * totals * rates / (totals * rates).sum()).astype(int)
    rows = np.concatenate([rng.choice(np.flatnonzero(given == k), counts[k], False) for k in range(100)])
    found = check_random(suspicion[given] + 0.2 * rng.normal(size=8000), given, rows)
    assert found.kind is SampleKind.STRATIFIED


def test_other_strata_take_the_place_of_classes() -> None:
    rng = np.random.default_rng(7)
    given, strata = rng.integers(0, 4, 6000), rng.integers(0, 3, 6000)
    score = rng.random(6000) + strata  # the strata are why scores differ
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(strata == k), m, False) for k, m in ((0, 20), (1, 80), (2, 200))]
    )
    assert check_random(score, given, rows).alarm
    found = check_random(score, given, rows, strata=strata)
    assert (found.kind, len(found.inclusion)) == (SampleKind.STRATIFIED, 3)


def test_whole_groups_count_once() -> None:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(300), 20)
    score, given = rng.random(300)[groups], rng.integers(0, 3, 300)[groups]
    alarms = 0
    for _ in range(40):
        rows = np.flatnonzero(np.isin(groups, rng.choice(300, 15, replace=False)))
        alarms += check_random(score, given, rows).alarm
        found = check_random(score, given, rows, groups=groups)
        assert not found.alarm
    assert alarms > 10
    suspicious = np.flatnonzero(score > np.sort(score[::20])[-16])
    assert check_random(score, given, suspicious, groups=groups).alarm


def test_next_to_nothing_is_checked_without_a_fault() -> None:
    assert not check_random(np.array([0.3]), np.array([0]), np.array([0])).alarm
    assert not check_random(np.arange(5.0), np.zeros(5, int), np.array([], int)).alarm
    assert not check_random(np.arange(5.0), np.arange(5) % 2, np.arange(5)).alarm  # all rows are trusted
    with pytest.raises(AssertionError, match="once"):
        check_random(np.arange(5.0), np.zeros(5, int), np.array([1, 1]))


def test_p_values_hold_their_level_in_honest_samples() -> None:
    """At most 5 % of adjusted p-values are below 5 %; Bonferroni's rule leaves fewer."""
    rng = np.random.default_rng(9)
    population = make_population(rng, 2000)
    small = sum(
        check(population, simple_rows(population, 100, rng), groups=None).p_value < 0.05 for _ in range(100)
    )
    assert small <= 10


# ------------------------------------------------------------------------------------------------- slow simulation


def simulate(
    run: Callable[[Population, np.random.Generator], SampleKind],
    replicates: int,
    *,
    seed: int,
    classes: int = 10,
) -> dict[SampleKind, int]:
    """Count the results by kind; every ten replicates have a population of their own."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(SampleKind, 0)
    for number in range(replicates):
        if number % 10 == 0:
            population = make_population(rng, int(rng.integers(2000, 10_001)), classes)
        counts[run(population, rng)] += 1
    return counts


REPLICATES, SIZES = 200, (100, 500)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_biased_samples_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is in the order of the three lists; only the first has to be found, with 500 rows in every one."""
    found = {
        (name, size): simulate(partial(result_of_biased, name, size), REPLICATES, seed=size)
        for name in BIASED | FAINT | UNSEEN
        for size in SIZES
    }
    with capsys.disabled():
        print(f"\n{'alarms + stratified, of 200 samples of':<52}" + "".join(f"{m:>12}" for m in SIZES))
        for name in BIASED | FAINT | UNSEEN:
            counts = [found[name, size] for size in SIZES]
            cells = [f"{c[SampleKind.NOT_RANDOM]} + {c[SampleKind.STRATIFIED]}" for c in counts]
            print(f"{name:<52}" + "".join(f"{cell:>12}" for cell in cells))
    for name in BIASED:
        assert found[name, 500][SampleKind.NOT_RANDOM] >= 0.99 * REPLICATES, name
    for name in UNSEEN:
        assert found[name, 500][SampleKind.RANDOM] >= 0.95 * REPLICATES, name


def result_of_biased(name: str, size: int, population: Population, rng: np.random.Generator) -> SampleKind:
    return biased_check(name, population, size, rng).kind


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", HONEST)
def test_honest_samples_are_left_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts = dict.fromkeys(SampleKind, 0)
    for seed, classes in enumerate((3, 10, 10, 100)):
        part = simulate(partial(result_of_honest, name), 500, seed=seed, classes=classes)
        counts = {kind: counts[kind] + part[kind] for kind in counts}
    with capsys.disabled():
        print(f"\n{name}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()))
    assert counts[SampleKind.NOT_RANDOM] <= 3


def result_of_honest(name: str, population: Population, rng: np.random.Generator) -> SampleKind:
    return check(population, HONEST[name](population, int(rng.integers(100, 501)), rng)).kind
