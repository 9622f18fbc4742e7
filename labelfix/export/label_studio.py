"""``label-studio``: tasks.json with predictions, worst labels first, and the labelling interface for them."""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from labelfix.export.decisions import Decisions
from labelfix.export.folder import write_json

__all__ = ["write_label_studio"]


def write_label_studio(folder: Path, decisions: Decisions, keys: list[str], url_prefix: str) -> None:
    """Write tasks.json and labeling-config.xml.

    Parameters
    ----------
    keys
        (n,) paths of the images, which follow `url_prefix` in each task's ``image``.
    """
    order = np.argsort(decisions.label_score, kind="stable")
    columns = {name: values.to_pylist() for name, values in decisions.provenance().items()}
    tasks = [_task(int(row), keys, url_prefix, columns) for row in order]
    write_json(folder / "tasks.json", tasks)
    (folder / "labeling-config.xml").write_text(_interface(decisions.classes), encoding="utf-8")


def _task(row: int, keys: list[str], url_prefix: str, columns: dict[str, list[Any]]) -> dict[str, Any]:
    provenance = {name: values[row] for name, values in columns.items()}
    return {
        "data": {"image": url_prefix + quote(keys[row], safe="/"), "path": keys[row], **provenance},
        "predictions": [
            {
                "model_version": f"labelfix {provenance['run_id']}",
                "score": provenance["confidence"],
                "result": [
                    {
                        "id": f"r{row}",
                        "type": "choices",
                        "from_name": "label",
                        "to_name": "image",
                        "value": {"choices": [provenance["suggested_label"]]},
                    }
                ],
            }
        ],
    }


def _interface(classes: tuple[str, ...]) -> str:
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        "<View>\n"
        '  <Image name="image" value="$image"/>\n'
        '  <Text name="given" value="$old_label"/>\n'
        '  <Choices name="label" toName="image" choice="single" required="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )
