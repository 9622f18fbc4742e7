"""Predictions for every image that use none of its own labels, and no trusted label of its fold.

====================  =========================================================================
`predictions`         `OutOfFoldPredictions`: from a matrix, from heads, or from networks
`self_training`       classifiers trained on pseudo-labels
`softmax_regression`  several fits at once
`probes`              softmax regressions on the trusted rows alone
`lda`                 linear discriminant analysis, leave-one-out
`knn`                 votes of the nearest neighbours
====================  =========================================================================
"""

from labelfix.cross_fitting.predictions import OutOfFoldPredictions, predict_out_of_fold
from labelfix.cross_fitting.self_training import CrossFitter

__all__ = ["CrossFitter", "OutOfFoldPredictions", "predict_out_of_fold"]
