"""labelfix repairs the labels of image-classification datasets.

The one call that most people need::

    import labelfix

    result = labelfix.clean("images/", "labels.csv", "trusted.csv", out="labelfix-out")
    result.suspects          # Arrow table of suspected mislabels, worst first

    run = labelfix.open_run("labelfix-out")
    run.export("relabelled", to="imagefolder")

`labelfix.verdict` does the same for people who already have predicted probabilities, with numpy alone.
Names are loaded on first use (PEP 562): importing labelfix costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "BackboneError",
    "CleanConfig",
    "CleanResult",
    "InputError",
    "LabelTable",
    "LabelfixError",
    "OutputError",
    "RandomDraw",
    "Run",
    "SettingError",
    "SoftLabelDataset",
    "TrainingError",
    "Verdict",
    "__version__",
    "audit_run",
    "check_run",
    "clean",
    "export_run",
    "open_run",
    "read_label_table",
    "sample",
    "verdict",
]

_HOME_OF = {
    "BackboneError": "labelfix.errors",
    "CleanConfig": "labelfix.settings",
    "CleanResult": "labelfix.pipeline",
    "InputError": "labelfix.errors",
    "LabelTable": "labelfix.inputs",
    "LabelfixError": "labelfix.errors",
    "OutputError": "labelfix.errors",
    "RandomDraw": "labelfix.inputs.random_draw",
    "Run": "labelfix.pipeline",
    "SettingError": "labelfix.errors",
    "SoftLabelDataset": "labelfix.torch_dataset",
    "TrainingError": "labelfix.errors",
    "Verdict": "labelfix.verdicts",
    "audit_run": "labelfix.audit",
    "check_run": "labelfix.check",
    "clean": "labelfix.pipeline",
    "export_run": "labelfix.export",
    "open_run": "labelfix.pipeline",
    "read_label_table": "labelfix.inputs",
    "sample": "labelfix.drawing",
    "verdict": "labelfix.verdicts",
}

if TYPE_CHECKING:
    from labelfix.audit import audit_run
    from labelfix.check import check_run
    from labelfix.drawing import sample
    from labelfix.errors import (
        BackboneError,
        InputError,
        LabelfixError,
        OutputError,
        SettingError,
        TrainingError,
    )
    from labelfix.export import export_run
    from labelfix.inputs import LabelTable, read_label_table
    from labelfix.inputs.random_draw import RandomDraw
    from labelfix.pipeline import CleanResult, Run, clean, open_run
    from labelfix.settings import CleanConfig
    from labelfix.torch_dataset import SoftLabelDataset
    from labelfix.verdicts import Verdict, verdict


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'labelfix' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
