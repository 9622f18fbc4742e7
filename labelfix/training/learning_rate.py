"""How the learning rate falls, in every loop of labelfix."""

import math

from labelfix.settings import LearningRateSchedule

__all__ = ["learning_rate"]


def learning_rate(step: float, steps: float, first: float, schedule: LearningRateSchedule) -> float:
    """Return the learning rate of a step, from 0 up to below `steps`, of a loop that begins with `first`."""
    if schedule is LearningRateSchedule.COSINE:
        return first * 0.5 * (1 + math.cos(math.pi * step / steps))
    return first * 0.1 ** min(2, int(3 * step / steps + 1e-9))
