"""Every error that labelfix raises on purpose.

::

    LabelfixError
    ├── SettingError      a setting is out of range, or two settings contradict each other
    ├── InputError        a table, an image folder or a matrix has faults; all of them are listed
    ├── BackboneError     a network or its weights cannot be had
    ├── OutputError       the run directory cannot be written, or holds another run
    └── TrainingError     training left the finite numbers

Messages read ``where: what, with the value; what was expected. What to do.`` The command line catches
`LabelfixError` once and exits with 2; anything else is a fault of labelfix and exits with 70.
"""

from collections.abc import Sequence

__all__ = ["BackboneError", "InputError", "LabelfixError", "OutputError", "SettingError", "TrainingError"]

SHOWN_PROBLEMS = 10


class LabelfixError(Exception):
    """Base class: catch this to catch everything that labelfix raises on purpose."""


class SettingError(LabelfixError, ValueError):
    """A setting is out of range, unknown, or contradicts another one."""


class InputError(LabelfixError, ValueError):
    """The input has faults.

    Parameters
    ----------
    problems
        One message per fault; only the first ten are shown.
    count
        How many faults there are in all, where that is more than `problems` holds.
    """

    def __init__(self, problems: str | Sequence[str], count: int | None = None):
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.count = max(count or 0, len(self.problems))
        shown = self.problems[:SHOWN_PROBLEMS]
        lines = list(shown)
        if self.count > len(shown):
            lines.append(f"… and {self.count - len(shown):,} more ({self.count:,} faults in all).")
        super().__init__("\n".join(lines))


class BackboneError(LabelfixError):
    """A backbone is unknown, or its weights cannot be loaded."""


class OutputError(LabelfixError):
    """The run directory cannot be written, or already holds a run."""


class TrainingError(LabelfixError):
    """Training produced a number that is not finite."""
