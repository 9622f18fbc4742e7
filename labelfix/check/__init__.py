"""Gates for continuous integration, and the comparison with a baseline run."""

from labelfix.check.baseline import Comparison, compare_runs
from labelfix.check.gates import CheckResult, Gate, check_run
from labelfix.check.junit import junit_report

__all__ = ["CheckResult", "Comparison", "Gate", "check_run", "compare_runs", "junit_report"]
