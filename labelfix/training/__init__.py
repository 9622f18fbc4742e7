"""Training by MSLG: the mathematics is `labelfix.mslg`, the loops are here.

======================  ==================================================================================
`linear_head`           linear heads on frozen features, all folds at once
`network`               the loop of one full network
`network_task`          what decides what a network becomes, and how it is asked
`cross_fitted_network`  a network per fold, from its checkpoint or from the start
`data_split`            which images train, which form the meta set and which are held out
`learning_rate`         how the learning rate falls
`standardisation`       features of one scale and one length
`checkpoints`           a training is saved, resumed by the same run alone, and stopped by signals
`epoch_metrics`         sums over an epoch, on the device
`epoch_log`             the rows of ``history.parquet``, and a live table on a terminal
======================  ==================================================================================
"""
