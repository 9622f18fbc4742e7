"""What can be promised of the fixes, and what to verify next: numbers in, numbers out.

=====================  =====================================================================
`fixed_sequence`       which threshold is promised: the decision
`p_values`             the exact test, and its power
`draws`                which verified fixes are a sample of which others
`select`               the rows to verify next
`systematic_sampling`  a draw with known inclusion probabilities
=====================  =====================================================================
"""

from labelfix.risk_control.fixed_sequence import Guarantee, find_guarantee
from labelfix.risk_control.select import plan_verification, write_verification

__all__ = ["Guarantee", "find_guarantee", "plan_verification", "write_verification"]
