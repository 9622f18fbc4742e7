"""``huggingface``: images and metadata.parquet, which `datasets.load_dataset` reads as an ImageFolder.

The features (class names, length of the soft labels) stand in the schema's metadata, as `datasets` writes them.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.export.decisions import ROWS_PER_CHUNK, Decisions
from labelfix.export.image_files import ImageFiles, path_in_export, transfer_file
from labelfix.settings import Transfer

__all__ = ["write_hugging_face"]

STRINGS = (
    "file_name",
    "old_label",
    "new_label",
    "suggested_label",
    "trusted_label",
    "action",
    "reason",
    "run_id",
)


def write_hugging_face(
    folder: Path, decisions: Decisions, files: ImageFiles, transfer: Transfer
) -> list[str]:
    """Write ``images/…`` and metadata.parquet: file_name, label, soft_label, provenance; return the file names."""
    names = [f"images/{path_in_export(key)}" for key in files.keys]
    for number, name in enumerate(names):
        transfer_file(files.path(number), folder / name, transfer)
    provenance = decisions.provenance()
    schema = _schema(decisions.classes)
    with pq.ParquetWriter(folder / "metadata.parquet", schema) as writer:
        for start in range(0, len(decisions), ROWS_PER_CHUNK):
            stop = min(start + ROWS_PER_CHUNK, len(decisions))
            soft = decisions.posterior(start, stop)
            columns = {
                "file_name": pa.array(names[start:stop], pa.string()),
                "label": pa.array(decisions.new[start:stop].astype("int64")),
                "soft_label": pa.FixedSizeListArray.from_arrays(pa.array(soft.reshape(-1)), soft.shape[1]),
                **{name: values.slice(start, stop - start) for name, values in provenance.items()},
            }
            writer.write_table(pa.table(list(columns.values()), schema=schema))
    return names


def _schema(classes: tuple[str, ...]) -> pa.Schema:
    fields = [
        pa.field("file_name", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("soft_label", pa.list_(pa.float32(), len(classes))),
        *(pa.field(name, pa.string()) for name in STRINGS[1:-1]),
        pa.field("confidence", pa.float32()),
        pa.field("label_score", pa.float32()),
        pa.field("run_id", pa.string()),
    ]
    kinds = dict.fromkeys(STRINGS, "string") | {"confidence": "float32", "label_score": "float32"}
    features: dict[str, Any] = {name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()}
    features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    features["soft_label"] = {
        "feature": {"dtype": "float32", "_type": "Value"}, "length": len(classes), "_type": "Sequence",
    }  # fmt: skip
    ordered = {field.name: features[field.name] for field in fields}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": ordered}})})
