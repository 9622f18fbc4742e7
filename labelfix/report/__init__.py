"""``report.html``: a finished run as one page that needs no network, for people.

`contents` reads the run, `thumbnails` draws its images small, `page` puts them into the template with the style
sheet and the scripts beside it.
"""

from labelfix.report.writing import REPORT_FILE, SUSPECTS_SHOWN, WrittenReport, write_report

__all__ = ["REPORT_FILE", "SUSPECTS_SHOWN", "WrittenReport", "write_report"]
