"""From a finished run to the files of other tools: one policy, seven formats, provenance in each of them.

`export_run` reads the run, turns verdicts into `Decisions` (`labelfix.export.decisions`), and passes them to the
module of the format. Every export is a folder with ``export.json`` (run, policy, counts) and
``provenance.parquet``, which has a row for every image, dropped ones included. No input folder is changed.
"""

from labelfix.export.decisions import Decisions, decide
from labelfix.export.exporting import ExportResult, export_run

__all__ = ["Decisions", "ExportResult", "decide", "export_run"]
