"""``cleanlab``: issues.parquet with the columns of Datalab's label issues, and provenance.

Where the label table named annotators, three more tables are written: annotator_stats.parquet and
label_quality.parquet, with the columns of `cleanlab.multiannotator.get_label_quality_multiannotator`, and
annotations.parquet, with those of crowd-kit (task, worker, label).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.export.decisions import Decisions
from labelfix.runs.reading import FinishedRun, label_codes, label_names

__all__ = ["write_cleanlab"]


def write_cleanlab(folder: Path, decisions: Decisions, run: FinishedRun) -> None:
    """Write one row per image: is_label_issue, label_score (lower is worse), given_label, predicted_label."""
    provenance = decisions.provenance()
    table = {
        "image": decisions.images,
        "is_label_issue": pa.array(decisions.is_label_issue),
        "label_score": provenance.pop("label_score"),
        "given_label": label_names(decisions.old, decisions.classes),
        "predicted_label": label_names(decisions.suggested, decisions.classes),
        **provenance,
    }
    pq.write_table(pa.table(table), folder / "issues.parquet")
    if run.has("label_rows"):
        for name, annotator_table in _annotator_tables(decisions, run).items():
            pq.write_table(annotator_table, folder / f"{name}.parquet")


def _annotator_tables(decisions: Decisions, run: FinishedRun) -> dict[str, pa.Table]:
    """Return the tables of annotations, label quality and annotators, for the images of `decisions` (n,)."""
    label_rows = run.table("label_rows")
    image_row = pc.index_in(label_rows["image"], value_set=decisions.images)
    label_rows = label_rows.filter(image_row.is_valid())
    image = image_row.drop_null().to_numpy()
    consensus, quality = _consensus(decisions, run)
    agrees = label_codes(label_rows["label"], decisions.classes) == consensus[image]
    labels_per_image = np.bincount(image, minlength=len(decisions))
    agreeing_per_image = np.bincount(image, agrees, len(decisions))
    annotators = run.table("annotators").sort_by("accuracy")
    annotator = label_codes(label_rows["annotator"], tuple(annotators["annotator"].to_pylist()))
    named = annotator >= 0
    labels_per_annotator = np.bincount(annotator[named], minlength=annotators.num_rows)
    agreeing_per_annotator = np.bincount(annotator[named], agrees[named], annotators.num_rows)
    return {
        "annotations": label_rows.rename_columns(["task", "label", "worker"]).select(
            ["task", "worker", "label"]
        ),
        "label_quality": pa.table(
            {
                "image": decisions.images,
                "consensus_label": label_names(consensus, decisions.classes),
                "consensus_quality_score": quality,
                "annotator_agreement": agreeing_per_image / np.maximum(labels_per_image, 1),
                "num_annotations": labels_per_image,
            }
        ),
        "annotator_stats": pa.table(
            {
                "annotator": annotators["annotator"],
                "annotator_quality": annotators["accuracy"],
                "agreement_with_consensus": agreeing_per_annotator / np.maximum(labels_per_annotator, 1),
                "worst_class": annotators["worst_class"],
                "num_examples_labeled": labels_per_annotator,
            }
        ),
    }


def _consensus(decisions: Decisions, run: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Return the consensus of each image's labels and its soft label: (n,) codes, (n,) float32 confidences."""
    codes, confidence = decisions.suggested.copy(), decisions.confidence.astype(np.float32)
    if run.has("consensus"):
        table = run.table("consensus")
        image_row = pc.index_in(table["image"], value_set=decisions.images)
        exported, rows = np.asarray(image_row.is_valid()), image_row.drop_null().to_numpy()
        codes[rows] = label_codes(table["consensus_label"], decisions.classes)[exported]
        confidence[rows] = table["confidence"].to_numpy()[exported]
    return codes, confidence
