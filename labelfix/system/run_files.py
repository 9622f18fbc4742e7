"""The names of the files of a run: ``run.json`` is written last, so that a folder that has one is complete."""

__all__ = [
    "CERTIFICATE_FILE",
    "CHECKPOINT_FOLDER",
    "DRAW_FOLDER",
    "HISTORY_FILE",
    "REPORT_FILE",
    "RUN_FILE",
    "RUN_FILES",
]

RUN_FILE = "run.json"
REPORT_FILE = "report.html"
CERTIFICATE_FILE = "certificate.json"
HISTORY_FILE = "history.parquet"
CHECKPOINT_FOLDER = "checkpoints"
DRAW_FOLDER = "draws"  # stays when a run is replaced: how many lists there were counts for later ones
TABLE_FILES = (
    "soft_labels", "suspects", "noise_matrix", "quarantine", "label_rows", "annotators", "consensus",
    "held_out", "neighbours",
)  # fmt: skip
# Everything a run may have written; --force removes what the new run does not write again.
RUN_FILES = (
    RUN_FILE,
    REPORT_FILE,
    CERTIFICATE_FILE,
    HISTORY_FILE,
    *(f"{name}.parquet" for name in TABLE_FILES),
)
