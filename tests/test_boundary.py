"""The exact test: against every order of a small list, its worst case, and what its looks cost."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from labelfix.risk_control import boundary as module
from labelfix.risk_control.boundary import LOOK_EVERY, boundary, passing_chance

# Sizes, drawn rows, error and level of lists as `labelfix next` and `--max-label-error` make them.
IN_USE = [
    (size, drawn, error, level)
    for size in (60, 300, 1000, 5000, 50_000)
    for drawn in (20, 60, 105, 200, 1000)
    for error in (0.01, 0.02, 0.05, 0.1)
    for level in (0.04, 0.025, 0.008, 0.015, 0.003)
    if drawn <= size
]


def limit_of(size: int, error: float) -> int:
    return int(error * size + 1e-9)


@pytest.fixture
def look_at_every_row(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "LOOK_EVERY", 1)
    boundary.cache_clear()
    yield
    boundary.cache_clear()


@pytest.mark.usefixtures("look_at_every_row")
@pytest.mark.parametrize("wrong", [1, 2, 3, 4])
@pytest.mark.parametrize(("limit", "level"), [(0, 0.4), (1, 0.3), (2, 0.5)])
def test_the_recursion_equals_counting_every_order(wrong: int, limit: int, level: float) -> None:
    size, drawn = 7, 5
    allowed = boundary(size, drawn, limit, level)
    passed = 0
    orders = list(permutations([1] * wrong + [0] * (size - wrong)))
    for order in orders:
        found = np.cumsum(order[:drawn])
        passed += any(found[t - 1] <= allowed[t] for t in range(1, drawn + 1))
    assert passing_chance(size, wrong, allowed) == pytest.approx(passed / len(orders), abs=1e-12)


@pytest.mark.parametrize(("size", "drawn", "error", "level"), IN_USE)
def test_no_list_with_too_many_wrong_labels_passes_more_often_than_its_level(
    size: int, drawn: int, error: float, level: float
) -> None:
    limit = limit_of(size, error)
    allowed = boundary(size, drawn, limit, level)
    more = {limit + 1, limit + 2, limit + 5, 2 * limit + 3, size // 3, size} - set(range(limit + 1))
    risks = [passing_chance(size, wrong, allowed) for wrong in sorted(more)]
    assert risks[0] <= level + 1e-12
    assert (np.diff(risks) <= 1e-12).all()  # the least number that is too many is the worst case


@pytest.mark.parametrize(("size", "drawn", "error", "level"), IN_USE[::7])
def test_at_every_look_one_more_wrong_row_would_spend_too_much(
    size: int, drawn: int, error: float, level: float
) -> None:
    limit = limit_of(size, error)
    allowed = boundary(size, drawn, limit, level)
    looks = [t for t in range(1, drawn + 1) if t % LOOK_EVERY == 0 or t == drawn]
    assert (allowed[np.setdiff1d(np.arange(drawn + 1), looks)] == -1).all()
    for t in looks:
        budget = level * (t / drawn) ** 3
        so_far = np.where(np.arange(drawn + 1) <= t, allowed, -1)
        assert passing_chance(size, limit + 1, so_far) <= budget + 1e-12
        if allowed[t] < min(t, limit + 1):
            so_far[t] += 1
            assert passing_chance(size, limit + 1, so_far) > budget


def test_one_look_is_the_hypergeometric_test() -> None:
    allowed = boundary(500, 8, 25, 0.9)  # fewer rows than a look takes: the only look is the last
    assert np.flatnonzero(allowed >= 0).tolist() == [8]
    below, beyond = (stats.hypergeom.cdf(k, 500, 26, 8) for k in (allowed[8], allowed[8] + 1))
    assert below <= 0.9 < beyond


def test_a_small_sample_passes_nothing() -> None:
    assert (boundary(1000, 40, 50, 0.05) == -1).all()
    assert (boundary(1000, 0, 50, 0.05) == -1).all()


def rows_for_power(size: int, wrong: int, power) -> int:  # type: ignore[no-untyped-def]
    return next(n for n in range(20, size + 1) if power(n) >= 0.8)


@pytest.mark.parametrize("size", [300, 1000, 5000])
@pytest.mark.parametrize("error", [0.0, 0.01, 0.02])
def test_looks_cost_a_twentieth_of_the_rows_at_most(size: int, error: float) -> None:
    """Against the test of one look, at a limit of 5 %: rows for a chance of 80 %."""
    limit, wrong = limit_of(size, 0.05), round(error * size)

    def at_one_look(drawn: int) -> float:
        allowed = np.arange(limit + 1)[
            stats.hypergeom.cdf(np.arange(limit + 1), size, limit + 1, drawn) <= 0.05
        ]
        return float(stats.hypergeom.cdf(allowed[-1], size, wrong, drawn)) if len(allowed) else 0.0

    one = rows_for_power(size, wrong, at_one_look)
    every = rows_for_power(size, wrong, lambda n: passing_chance(size, wrong, boundary(size, n, limit, 0.05)))
    assert every <= 1.05 * one


def test_a_promise_comes_before_the_end_where_hardly_any_label_is_wrong() -> None:
    allowed = boundary(2000, 200, 100, 0.04)
    assert 60 <= np.argmax(allowed >= 0) <= 130
    assert allowed[200] > allowed[np.argmax(allowed >= 0)]
