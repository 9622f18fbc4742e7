"""Whether trusted rows look like a random sample: exact counts in sets that were fixed without them.

Under simple random sampling without replacement, the number of trusted rows in a fixed set of S rows is
hypergeometric (N, S, M). The sets: the most and the least suspicious 1, 2, 5, 10, 20 and 50 % of the rows, the
label issues, and the rows of every given class. Two-sided p-values double the smaller tail; Bonferroni's rule
covers all sets. Reviewed suspects, easy images and corrected labels show in such counts.

A stratified sample fails by its class counts, and by the scores that go with them. So the sets are tested again,
given the number of trusted rows in every class (post-stratification; Cochran 1977, "Sampling Techniques", 5A.9).
The count of a set is then a sum of independent hypergeometric counts, one per class; its distribution is their
convolution. Rows of duplicate groups that were drawn as a whole are not independent: then groups are counted, each
as one. There is an alarm only where each of these explanations is rejected, or where the sample leaves classes out.

The check sees what scores, label issues and classes tell, and nothing else.

N rows, M trusted rows, K classes, L strata, S rows of a set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["CountTest", "RandomCheck", "SampleKind", "check_random"]

LEVEL = 0.001
SHARES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50)
# Less probable counts are dropped from distributions, which keeps them short. So no p-value is below the least one.
NEGLIGIBLE, LEAST_P = 1e-30, 1e-20
# A stratified sample may have no row of some small strata. Together they may hold this share of the data set more
# than the strata that a simple random sample misses on average.
UNSEEN_SHARE = 0.05


class SampleKind(StrEnum):
    """What the trusted rows look like."""

    RANDOM = "random"
    STRATIFIED = "stratified"
    NOT_RANDOM = "not random"


class CountTest(NamedTuple):
    """The test of one set.

    Attributes
    ----------
    name
        The set, as in "10 % most suspicious rows".
    observed, expected
        How many trusted rows are in it, and how many a random sample has on average.
    p
        Two-sided p-value, not adjusted.
    """

    name: str
    observed: int
    expected: float
    p: float


@dataclass(frozen=True, kw_only=True)
class RandomCheck:
    """What the counts of trusted rows say.

    Attributes
    ----------
    alarm
        Whether they rule out a random sample, be it simple, stratified or of whole groups.
    kind
        What the rows look like.
    p_value
        The smallest p-value of `tests`, adjusted for their number.
    worst
        The test with the smallest p-value as a sentence; empty where there is no test.
    tests
        One per set. Where the simple random sample is rejected, they are given the counts of the strata.
    inclusion
        (L,) share of the rows of every stratum that is trusted, NaN of a number that no row has; empty unless the
        sample is stratified.
    by_group
        Whether groups were counted: by its rows alone the sample would not be a random one, or it holds far more
        whole groups than chance allows.
    """

    alarm: bool
    kind: SampleKind
    p_value: float
    worst: str
    tests: tuple[CountTest, ...]
    inclusion: tuple[float, ...] = ()
    by_group: bool = False

    @property
    def is_remarkable(self) -> bool:
        """Whether the rows are anything but a simple random sample."""
        return self.kind is not SampleKind.RANDOM or self.by_group

    def message(self) -> str:
        """Return what was found, what it means and what to do, in sentences."""
        if self.kind is SampleKind.RANDOM:
            drawn = "whole duplicate groups" if self.by_group else "rows"
            so = " So a group counts once, and nothing is promised." if self.by_group else ""
            return f"The trusted rows look like {drawn} drawn at random.{so}"
        if self.kind is SampleKind.STRATIFIED:
            return (
                f"The trusted rows look like a stratified sample: {np.nanmin(self.inclusion):.2%} to "
                f"{np.nanmax(self.inclusion):.2%} of a stratum are verified. So each row counts for its stratum."
            )
        return (
            f"The trusted rows are not a random sample: {self.worst}. Estimates describe these rows, not the data "
            "set, and nothing is promised. Pass these rows with --reviewed instead, and rows that were drawn at "
            "random with --trusted."
        )


class _Units(NamedTuple):
    """What is counted, rows or groups; every array is (N,)."""

    name: str
    score: np.ndarray
    given: np.ndarray
    issue: np.ndarray | None
    stratum: np.ndarray
    tie: np.ndarray
    trusted: np.ndarray


def check_random(
    score: np.ndarray,
    given: np.ndarray,
    rows: np.ndarray,
    *,
    issue: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    ties: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
) -> RandomCheck:
    """Return whether trusted rows look like a random sample, be it simple, stratified or of whole groups.

    Parameters
    ----------
    score
        (N,) how suspicious every row is; higher is more. It must depend neither on the row's own trusted label nor
        on whether it has one.
    given
        (N,) given classes, 0 to K - 1.
    rows
        (M,) numbers of the trusted rows, each once.
    issue
        (N,) bool: label issues, found without the row's own trusted label too; None leaves this set out.
    strata
        (N,) numbers of the strata, 0 to L - 1; None takes the given classes.
    groups
        (N,) integers: rows with the same number are duplicates of each other.
    ties
        (N,) numbers whose order breaks ties of the score, such as hashes of names; None takes fixed random ones.
    classes
        (K,) names for sentences; None takes the numbers.
    """
    assert len(np.unique(rows)) == len(rows), "every trusted row is named once"
    assert np.isfinite(score).all(), "scores are finite"
    trusted = np.zeros(len(score), bool)
    trusted[rows] = True
    tie = np.random.default_rng(0).permutation(len(score)) if ties is None else ties
    stratum = given if strata is None else strata
    units = _Units("trusted rows", score, given, issue, stratum, tie, trusted)
    found = _check(units, classes, classes_are_strata=strata is None)
    if groups is None or not found.alarm:
        return found
    by_group = _check(_one_per_group(units, groups), classes, classes_are_strata=strata is None)
    return found if by_group.alarm else replace(by_group, by_group=True)


def _check(units: _Units, classes: Sequence[str] | None, *, classes_are_strata: bool) -> RandomCheck:
    """Return the result for units that are drawn one by one."""
    sets = _score_sets(units)
    strata = _value_sets("rows labelled '{}'", units.given, classes)
    if not classes_are_strata:
        sets |= strata
        strata = _value_sets("rows of stratum {}", units.stratum, None)
    simple = _tests(sets | strata, units.trusted, np.zeros(len(units.trusted), np.int64))
    if _adjusted(simple) >= LEVEL:
        return _result(SampleKind.RANDOM, simple, units)
    if units.issue is not None:  # in one stratum each: too many here and too few there do not cancel
        sets |= {f"label issues among the {title}": rows[units.issue[rows]] for title, rows in strata.items()}
    within = _tests(sets, units.trusted, units.stratum)
    if _adjusted(within) < LEVEL:
        return _result(SampleKind.NOT_RANDOM, within, units)
    totals_L = np.bincount(units.stratum)
    trusted_L = np.bincount(units.stratum[units.trusted], minlength=len(totals_L))
    if _strata_left_out(totals_L, trusted_L, len(simple)):
        return _result(SampleKind.NOT_RANDOM, simple, units)
    inclusion_L = np.where(totals_L > 0, trusted_L / np.maximum(totals_L, 1), np.nan)
    return replace(_result(SampleKind.STRATIFIED, within, units), inclusion=tuple(inclusion_L.tolist()))


def _result(kind: SampleKind, tests: tuple[CountTest, ...], units: _Units) -> RandomCheck:
    worst = ""
    if tests:
        name, observed, expected, _ = min(tests, key=lambda t: (t.p, -abs(t.observed - t.expected)))
        usual = f"{expected:.{0 if expected >= 10 else 1}f}"
        worst = f"{observed:,} of {units.trusted.sum():,} {units.name} are among the {name}; {usual} were expected"
    return RandomCheck(
        alarm=kind is SampleKind.NOT_RANDOM, kind=kind, p_value=_adjusted(tests), worst=worst, tests=tests
    )


# ---------------------------------------------------------------------------------------------------- the sets


def _score_sets(units: _Units) -> dict[str, np.ndarray]:
    """Return the most and the least suspicious rows and the label issues: name -> row numbers (S,)."""
    sets: dict[str, np.ndarray] = {}
    ascending = np.lexsort((units.tie, units.score))
    for share in SHARES:
        size = round(share * len(ascending))
        sets[f"{100 * share:.0f} % most suspicious rows"] = ascending[len(ascending) - size :]
        if share < 0.5:  # the other half tells nothing new
            sets[f"{100 * share:.0f} % least suspicious rows"] = ascending[:size]
    return sets if units.issue is None else sets | {"label issues": np.flatnonzero(units.issue)}


def _value_sets(title: str, values: np.ndarray, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return the rows of every value (N,) that occurs: title with the name of the value -> row numbers (S,)."""
    order = np.argsort(values, kind="stable")
    occurring, starts = np.unique(values[order], return_index=True)
    titles = [title.format(value if names is None else names[value]) for value in occurring.tolist()]
    return dict(zip(titles, np.split(order, starts[1:]), strict=True))


def _one_per_group(units: _Units, groups: np.ndarray) -> _Units:
    """Return groups as units: the mean score, whether any row is trusted, all else of the first row by ties."""
    by_tie = np.argsort(units.tie, kind="stable")
    _, first, group = np.unique(groups[by_tie], return_index=True, return_inverse=True)
    one = by_tie[first]
    return _Units(
        "trusted duplicate groups",
        np.bincount(group, units.score[by_tie]) / np.bincount(group),
        units.given[one],
        None if units.issue is None else units.issue[one],
        units.stratum[one],
        units.tie[one],
        np.bincount(group, units.trusted[by_tie]) > 0,
    )


# --------------------------------------------------------------------------------------------------- the tests


def _tests(sets: dict[str, np.ndarray], trusted: np.ndarray, stratum: np.ndarray) -> tuple[CountTest, ...]:
    """Test sets, given the number of trusted rows of every stratum; `trusted` and `stratum` are (N,)."""
    totals_L = np.bincount(stratum)
    trusted_L = np.bincount(stratum[trusted], minlength=len(totals_L))
    tests = []
    for name, rows in sets.items():
        if 0 < len(rows) < len(stratum):
            sizes_L = np.bincount(stratum[rows], minlength=len(totals_L))
            expected = float((trusted_L * (sizes_L / np.maximum(totals_L, 1))).sum())
            observed = int(trusted[rows].sum())
            p_value = _p_value(observed, totals_L, sizes_L, trusted_L)
            tests.append(CountTest(name, observed, expected, p_value))
    return tuple(tests)


def _p_value(observed: int, totals_L: np.ndarray, sizes_L: np.ndarray, trusted_L: np.ndarray) -> float:
    """Return the two-sided p-value of a sum of independent hypergeometric counts, one per stratum.

    Parameters
    ----------
    observed
        The sum.
    totals_L, sizes_L, trusted_L
        (L,) rows of every stratum, how many of them are in the set, and how many are trusted.
    """
    used = (sizes_L > 0) & (trusted_L > 0)
    if not used.any():
        return 1.0
    parameters = np.stack([totals_L, sizes_L, trusted_L])[:, used]
    lengths_L = parameters[1:].min(0) + 1  # one distribution per stratum, all in one array
    starts_L = np.cumsum(lengths_L) - lengths_L
    counts = np.arange(lengths_L.sum()) - np.repeat(starts_L, lengths_L)
    distributions = np.exp(stats.hypergeom.logpmf(counts, *np.repeat(parameters, lengths_L, axis=1)))
    start, total = 0, np.ones(1)  # P(sum = start), P(sum = start + 1), …
    for probs in np.split(distributions, starts_L[1:]):
        first, probs = _without_tails(probs)
        second, total = _without_tails(np.convolve(total, probs))
        start += first + second
    lower = total[: max(observed - start + 1, 0)].sum()
    upper = total[max(observed - start, 0) :].sum()
    return float(np.clip(2 * min(lower, upper), LEAST_P, 1.0))


def _without_tails(probs: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the place of the first probability that is not negligible, and those from there to the last one."""
    kept = np.flatnonzero(probs > NEGLIGIBLE)
    return int(kept[0]), probs[kept[0] : kept[-1] + 1]


def _adjusted(tests: Sequence[CountTest]) -> float:
    """Return the smallest p-value by Bonferroni's rule; 1 without tests."""
    return min([1.0, *(len(tests) * test.p for test in tests)])


def _strata_left_out(totals_L: np.ndarray, trusted_L: np.ndarray, num_tests: int) -> bool:
    """Return whether strata without a trusted row were left out, where a stratified sample would have had some.

    Either one of them alone is too large to be missed by chance, or they hold too much of the data set together.
    """
    missed_by_chance_L = stats.hypergeom.pmf(0, totals_L.sum(), totals_L, trusted_L.sum())
    missed = trusted_L == 0
    one_is_large = (missed & (2 * num_tests * missed_by_chance_L < LEVEL)).any()
    share_L = totals_L / totals_L.sum()
    return bool(one_is_large or share_L @ (missed - missed_by_chance_L) > UNSEEN_SHARE)
