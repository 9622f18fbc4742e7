"""Are too many of the fixes wrong? The test, and what to expect of it before it is made.

n verified fixes of which k are wrong, N_fix others that nobody verified.
"""

import math
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["chance_of_so_few", "chance_to_promise", "least_rows", "planned_error", "worth"]

# Plans are made with more errors than stated, and a few at least: the most confident may be too sure, and a promise
# that fails costs more than one that is smaller. What is tried first depends on it; whether it holds does not.
OVERCONFIDENCE, LEAST_ERROR = 1.5, 0.002
EQUAL = 1e-9


def chance_of_so_few(
    wrong: Any,
    rows: int,
    fixes: int,
    max_fix_error: float,
    *,
    thinnest: float = 1.0,
    beside: int = 0,
) -> Any:
    """Return the chance of at most `wrong` wrong fixes in a sample of them if too many of the others are wrong.

    Hypergeometric: the sample, the other fixes and those beside are one set, from which the sample was drawn at
    random.

    Parameters
    ----------
    wrong, rows
        k, which may be an array, and n, of the sample.
    fixes, max_fix_error
        N_fix, and which share of them may be wrong.
    thinnest
        How densely the fixes are verified where that is least, next to all of them: the set is taken to be as large
        as if all were so thinly verified.
    beside
        Right fixes that the sample could have held as well, but that were verified otherwise.
    """
    too_many = math.floor(max_fix_error * fixes + EQUAL) + 1
    if not rows or too_many > fixes:
        return np.ones(np.shape(wrong))  # hardly any other fix is left: nothing worth a promise
    total = rows + beside + math.ceil(fixes / thinnest - EQUAL)
    return stats.hypergeom.cdf(wrong, total, np.minimum(wrong + too_many, total), rows)


def chance_to_promise(
    rate: float,
    rows: int,
    fixes: int,
    max_fix_error: float,
    risk: float,
    *,
    thinnest: float = 1.0,
    beside: int = 0,
) -> float:
    """Return the chance that `rows` verified fixes pass the test at `risk`, at an error of `rate`.

    Arguments are otherwise those of `chance_of_so_few`.
    """
    wrong = np.arange(math.ceil(max_fix_error * rows) + 1)  # more cannot pass
    passes = chance_of_so_few(wrong, rows, fixes, max_fix_error, thinnest=thinnest, beside=beside) <= risk
    allowed = int(np.argmin(passes)) - 1 if not passes.all() else len(wrong) - 1
    return float(stats.binom.cdf(allowed, rows, rate)) if allowed >= 0 else 0.0


def least_rows(max_fix_error: float, risk: float) -> int:
    """Return how many verified fixes, none of them wrong, could pass at the least, were there no end of fixes."""
    return math.floor(math.log(risk) / math.log1p(-max_fix_error))


def planned_error(confidence: np.ndarray) -> float:
    """Return the share of wrong fixes to plan with, from the confidences of some; 1 for none."""
    stated = float(np.mean(1 - confidence)) if len(confidence) else 1.0
    return min(OVERCONFIDENCE * stated + LEAST_ERROR, 1.0)


def worth(chance: float, fixes: int) -> float:
    """Return what a set of fixes is worth that can be promised with some chance.

    By the square root: a promise that may well fail is worth less than one of half as many fixes that will not.
    """
    return chance * math.sqrt(fixes)
