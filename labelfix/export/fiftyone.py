"""``fiftyone``: labels.json and data/, which FiftyOne imports as a FiftyOneImageClassificationDataset.

labels.json has ``classes``, and for every image its label as a number into them, the confidence and attributes.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from labelfix.export.decisions import Decisions
from labelfix.export.folder import write_json
from labelfix.export.image_files import ImageFiles, path_in_export, transfer_file
from labelfix.settings import Transfer

__all__ = ["write_fiftyone"]


def write_fiftyone(folder: Path, decisions: Decisions, files: ImageFiles, transfer: Transfer) -> list[str]:
    """Write ``data/…`` and labels.json; return the paths of the images."""
    inner = [path_in_export(key) for key in files.keys]
    stems = [str(Path(path).with_suffix("")) for path in inner]
    times = Counter(stems)
    # FiftyOne names an image by its path without the suffix; the suffix stays where two names would be equal
    ids = [stem if times[stem] == 1 else path for stem, path in zip(stems, inner, strict=True)]
    paths = [f"data/{name}{Path(path).suffix}" for name, path in zip(ids, inner, strict=True)]
    for number, path in enumerate(paths):
        transfer_file(files.path(number), folder / path, transfer)
    labels = dict(zip(ids, _labels(decisions), strict=True))
    write_json(folder / "labels.json", {"classes": list(decisions.classes), "labels": labels})
    return paths


def _labels(decisions: Decisions) -> list[dict[str, Any]]:
    columns = {name: values.to_pylist() for name, values in decisions.provenance().items()}
    confidence = columns.pop("confidence")
    score = decisions.label_score.tolist()
    issue = decisions.is_label_issue.tolist()
    return [
        {
            "label": label,
            "confidence": confidence[i] if label == suggested else score[i],
            "attributes": {
                "mistakenness": 1.0 - score[i],  # FiftyOne's name and direction: higher is worse
                "is_label_issue": issue[i],
                **{name: values[i] for name, values in columns.items() if values[i] is not None},
            },
        }
        for i, (label, suggested) in enumerate(
            zip(decisions.new.tolist(), decisions.suggested.tolist(), strict=True)
        )
    ]
