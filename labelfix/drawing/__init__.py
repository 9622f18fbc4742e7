"""Which rows a person is to verify, frozen with what they were drawn from.

===============  =========================================================
`random_sample`  a random sample, before any run exists
`lists`          the fixes, or the doubtful labels, of a run
`verification`   the table for the person, and the record of the draw
===============  =========================================================
"""

from labelfix.drawing.lists import draw_fixes, draw_labels, draw_next
from labelfix.drawing.random_sample import draw_sample, sample
from labelfix.drawing.verification import Verification, write_draw

__all__ = ["Verification", "draw_fixes", "draw_labels", "draw_next", "draw_sample", "sample", "write_draw"]
