"""Browse a run in FiftyOne: worst labels first, with the suggestion beside the given label.

    pip install fiftyone
    python examples/open_in_fiftyone.py [OUT] [DEST]

OUT is the --out of a labelfix clean on images, DEST the folder of the export (made if it is not there). Without
FiftyOne the export is made and described, and can be imported elsewhere.
"""

import importlib.util
import json
import sys
from pathlib import Path

import labelfix


def main() -> None:
    """Export, import, and launch the app."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "labelfix-demo/labelfix-out")
    destination = Path(sys.argv[2] if len(sys.argv) > 2 else "labelfix-fiftyone")
    if not destination.exists():
        labelfix.export_run(out, destination, to="fiftyone")
    labels = json.loads((destination / "labels.json").read_text(encoding="utf-8"))
    print(f"{destination}: {len(labels['labels'])} images, {len(labels['classes'])} classes")
    if importlib.util.find_spec("fiftyone") is None:
        print("FiftyOne is not installed: pip install fiftyone")
        return
    import fiftyone

    dataset = fiftyone.Dataset.from_dir(
        dataset_dir=str(destination), dataset_type=fiftyone.types.FiftyOneImageClassificationDataset
    )
    view = dataset.sort_by("ground_truth.mistakenness", reverse=True)
    fiftyone.launch_app(view=view).wait()


if __name__ == "__main__":
    main()
