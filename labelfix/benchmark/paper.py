"""Published results for comparison.

``paper_tables.csv`` holds test accuracies in percent from the tables of Algan & Ulusoy, "Meta Soft
Label Generation for Noisy Labels", ICPR 2020, arXiv 2007.05836. A failed run is ``fail``.
"""

import csv
import math
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["SOURCE", "PaperFigure", "paper_figures"]

SOURCE = "Algan & Ulusoy, ICPR 2020, arXiv 2007.05836"


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """One cell: accuracy in percent, NaN where the run failed; the ratio is None where the noise is real."""

    data: str
    noise: str
    ratio: float | None
    method: str
    accuracy: float

    @property
    def setting(self) -> tuple[str, str, float | None]:
        """Data, noise and ratio."""
        return self.data, self.noise, self.ratio


def paper_figures() -> list[PaperFigure]:
    """Return all figures in the order of the tables."""
    text = files("labelfix.benchmark").joinpath("paper_tables.csv").read_text(encoding="utf-8")
    return [
        PaperFigure(
            data=row["dataset"],
            noise=row["noise"],
            ratio=int(row["ratio"]) / 100 if row["ratio"] else None,
            method=row["method"],
            accuracy=math.nan if row["accuracy"] == "fail" else float(row["accuracy"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]
