"""What can be promised of the fixes, and what to verify next: numbers in, numbers out.

=====================  ==========================================================================
`promise`              the confidence threshold above which fixes are promised: the decision
`p_values`             the exact test, and its power
`draws`                which verified fixes are a random sample of which unverified ones
`rows_to_verify`       the rows to verify next
`random_check`         whether trusted rows look like a random sample
`systematic_sampling`  samples with known inclusion probabilities
=====================  ==========================================================================
"""

from labelfix.risk_control.promise import Guarantee, find_guarantee
from labelfix.risk_control.rows_to_verify import Verification, plan_verification, write_verification

__all__ = ["Guarantee", "Verification", "find_guarantee", "plan_verification", "write_verification"]
