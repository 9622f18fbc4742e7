"""The exact test of whether too many fixes are wrong, and its power.

n verified fixes of which k are wrong, N_fix unverified ones.
"""

import math
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["hypergeometric_p_value", "least_rows", "planned_error", "power", "worth"]

# Plans assume more errors than the confidences state, and a few at least: the most confident predictions may be
# overconfident, and a promise that fails costs more than a smaller one. The choice of the first test depends on
# these two, its validity does not.
OVERCONFIDENCE, LEAST_ERROR = 1.5, 0.002
ROUNDING = 1e-9


def hypergeometric_p_value(
    wrong: Any,
    rows: int,
    fixes: int,
    max_fix_error: float,
    *,
    min_density: float = 1.0,
    verified_elsewhere: int = 0,
) -> Any:
    """Return the p-value of the null hypothesis that more than `max_fix_error` of the unverified fixes are wrong.

    It is the probability that a simple random sample holds at most k wrong fixes, at the least number of wrong
    fixes under the null hypothesis. The sample is drawn from a finite set: itself, the unverified fixes and
    `verified_elsewhere`. So the number of wrong fixes in it is hypergeometric.

    Parameters
    ----------
    wrong, rows
        k, which may be an array, and n.
    fixes, max_fix_error
        N_fix, and the share of them that may be wrong.
    min_density
        In (0, 1]: the sampling density where it is least, relative to that of all fixes. The set is taken to be as
        large as if all fixes were sampled that thinly.
    verified_elsewhere
        Number of right fixes that could have been sampled, but were verified outside of the sample.
    """
    too_many = math.floor(max_fix_error * fixes + ROUNDING) + 1
    if not rows or too_many > fixes:
        return np.ones(np.shape(wrong))  # hardly any unverified fix is left: nothing worth a promise
    total = rows + verified_elsewhere + math.ceil(fixes / min_density - ROUNDING)
    return stats.hypergeom.cdf(wrong, total, np.minimum(wrong + too_many, total), rows)


def power(
    error: float,
    rows: int,
    fixes: int,
    max_fix_error: float,
    risk: float,
    *,
    min_density: float = 1.0,
    verified_elsewhere: int = 0,
) -> float:
    """Return the probability that `rows` verified fixes pass the test at level `risk` if a share `error` is wrong.

    The other arguments are those of `hypergeometric_p_value`.
    """
    wrong = np.arange(math.ceil(max_fix_error * rows) + 1)  # more cannot pass
    p_values = hypergeometric_p_value(
        wrong, rows, fixes, max_fix_error, min_density=min_density, verified_elsewhere=verified_elsewhere
    )
    passes = p_values <= risk
    allowed = int(np.argmin(passes)) - 1 if not passes.all() else len(wrong) - 1
    return float(stats.binom.cdf(allowed, rows, error)) if allowed >= 0 else 0.0


def least_rows(max_fix_error: float, risk: float) -> int:
    """Return the least number of verified fixes, all right, that could pass the test of infinitely many fixes."""
    return math.floor(math.log(risk) / math.log1p(-max_fix_error))


def planned_error(confidence: np.ndarray) -> float:
    """Return the share of wrong fixes to plan with, given their confidences; 1 for no fixes."""
    stated = float(np.mean(1 - confidence)) if len(confidence) else 1.0
    return min(OVERCONFIDENCE * stated + LEAST_ERROR, 1.0)


def worth(probability: float, fixes: int) -> float:
    """Return the worth of a test that promises `fixes` fixes with some probability.

    It grows with the square root of the fixes: a likely promise is worth more than an unlikely one of twice as
    many.
    """
    return probability * math.sqrt(fixes)
