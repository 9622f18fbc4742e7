"""``cleanlab``: issues.parquet with the columns of Datalab's label issues, and provenance.

Where the label table named annotators, three tables go along: annotator_stats.parquet and label_quality.parquet,
with the columns of `cleanlab.multiannotator.get_label_quality_multiannotator`, and annotations.parquet, with those
of crowd-kit (task, worker, label).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.export.decisions import Decisions, names_of
from labelfix.runs.reading import FinishedRun, label_codes

__all__ = ["write_cleanlab"]


def write_cleanlab(folder: Path, decisions: Decisions, run: FinishedRun) -> None:
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
    if run.has("label_rows"):
        for name, crowd_table in _crowd_tables(decisions, run).items():
            pq.write_table(crowd_table, folder / f"{name}.parquet")


def _crowd_tables(decisions: Decisions, run: FinishedRun) -> dict[str, pa.Table]:
    """Return what is known of the annotators and of the labels together, for the images of `decisions` (n,)."""
    rows = run.table("label_rows")
    place = pc.index_in(rows["image"], value_set=decisions.images)
    rows = rows.filter(place.is_valid())
    image = place.drop_null().to_numpy()
    consensus, quality = _consensus(decisions, run)
    same = label_codes(rows["label"], decisions.classes) == consensus[image]
    labels = np.bincount(image, minlength=len(decisions))
    agreeing = np.bincount(image, same, len(decisions))
    people = run.table("annotators").sort_by("accuracy")
    who = label_codes(rows["annotator"], tuple(people["annotator"].to_pylist()))
    named = who >= 0
    given = np.bincount(who[named], minlength=people.num_rows)
    agreed = np.bincount(who[named], same[named], people.num_rows)
    return {
        "annotations": rows.rename_columns(["task", "label", "worker"]).select(["task", "worker", "label"]),
        "label_quality": pa.table(
            {
                "image": decisions.images,
                "consensus_label": names_of(consensus, decisions.classes),
                "consensus_quality_score": quality,
                "annotator_agreement": agreeing / np.maximum(labels, 1),
                "num_annotations": labels,
            }
        ),
        "annotator_stats": pa.table(
            {
                "annotator": people["annotator"],
                "annotator_quality": people["accuracy"],
                "agreement_with_consensus": agreed / np.maximum(given, 1),
                "worst_class": people["worst_class"],
                "num_examples_labeled": given,
            }
        ),
    }


def _consensus(decisions: Decisions, run: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Return what all labels of each image say together with the image, (n,) codes and (n,) float32 confidences."""
    codes, confidence = decisions.suggested.copy(), decisions.confidence.astype(np.float32)
    if run.has("consensus"):
        table = run.table("consensus")
        place = pc.index_in(table["image"], value_set=decisions.images)
        known, rows = np.asarray(place.is_valid()), place.drop_null().to_numpy()
        codes[rows] = label_codes(table["consensus_label"], decisions.classes)[known]
        confidence[rows] = table["confidence"].to_numpy()[known]
    return codes, confidence
