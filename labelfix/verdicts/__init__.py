"""From out-of-fold predictions and trusted labels to a verdict per row, with estimates.

=================  =======================================================================
`judging`          the verdict on every image of a run
`arrays`           `labelfix.verdict`: the same from numpy arrays, for any probabilities
`posterior`        the posterior of every row, cross-fitted
`estimates`        noise rate, precision, recall and accuracy, each with an interval
`calibration`      how well probabilities hold
`sampling`         how rows were verified, and whether a random sample looks like one
`annotator_votes`  all labels of an image, each weighted by its annotator's reliability
`dawid_skene`      the reliability of every annotator
`checks`           the arguments of `labelfix.verdict`, checked
=================  =======================================================================
"""

from labelfix.verdicts.arrays import Action, Verdict, verdict
from labelfix.verdicts.estimates import Estimate
from labelfix.verdicts.judging import judge

__all__ = ["Action", "Estimate", "Verdict", "judge", "verdict"]
