"""``cleanlab``: issues.parquet with the columns of Datalab's label issues, and provenance."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.export.decisions import Decisions, names_of

__all__ = ["write_cleanlab"]


def write_cleanlab(folder: Path, decisions: Decisions) -> None:
    """Write one row per image: is_label_issue, label_score (lower is worse), given_label, predicted_label."""
    provenance = decisions.provenance()
    table = {
        "image": decisions.images,
        "is_label_issue": pa.array(decisions.is_label_issue),
        "label_score": provenance.pop("label_score"),
        "given_label": names_of(decisions.old, decisions.classes),
        "predicted_label": names_of(decisions.suggested, decisions.classes),
        **provenance,
    }
    pq.write_table(pa.table(table), folder / "issues.parquet")
