"""``report.html``: a finished run as one page that needs no network.

`contents` and `annotators` read the run, `thumbnails` shrinks its images, and `page` fills the template with all of
them, the style sheet and the scripts. `neighbours` makes a table of the run, for which it needs the features.
"""

from labelfix.report.writing import SUSPECTS_SHOWN, WrittenReport, write_report

__all__ = ["SUSPECTS_SHOWN", "WrittenReport", "write_report"]
