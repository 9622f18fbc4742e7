"""``torch``: soft_labels.npy (n, K) float32 and samples.parquet, for `labelfix.SoftLabelDataset`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.export.decisions import ROWS_PER_CHUNK, Decisions
from labelfix.export.folder import write_json
from labelfix.export.image_files import ImageFiles, path_in_export, transfer_file
from labelfix.settings import Transfer

__all__ = ["write_training"]


def write_training(
    folder: Path, decisions: Decisions, files: ImageFiles | None, transfer: Transfer
) -> list[str]:
    """Write targets, samples and classes.json; return the image paths.

    Without `files` (a run on a matrix), the paths of the samples are the names of the images.
    """
    num_classes = len(decisions.classes)
    targets = np.lib.format.open_memmap(
        folder / "soft_labels.npy", mode="w+", dtype=np.float32, shape=(len(decisions), num_classes)
    )
    for start in range(0, len(decisions), ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, len(decisions))
        targets[start:stop] = decisions.targets(start, stop)
    targets.flush()
    if files is None:
        paths = decisions.images.to_pylist()
    elif transfer is Transfer.COPY:
        paths = [f"images/{path_in_export(key)}" for key in files.keys]
        for number, path in enumerate(paths):
            transfer_file(files.path(number), folder / path, transfer)
    else:
        paths = [files.path(number) for number in range(len(files.keys))]
    columns = {
        "image": decisions.images,
        "path": pa.array(paths, pa.string()),
        "label": pa.array(decisions.new.astype(np.int64)),
        **decisions.provenance(),
    }
    pq.write_table(pa.table(columns), folder / "samples.parquet")
    write_json(folder / "classes.json", list(decisions.classes))
    return paths
