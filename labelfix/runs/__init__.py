"""A run on disk: its format is written and read here, and nowhere else.

==============  ==========================================================
`directory`     claimed before anything is computed, written at the end
`tables`        the Parquet tables
`manifest`      ``run.json``
`reading`       a finished run, read back
`summary_text`  the summary in words
==============  ==========================================================
"""
