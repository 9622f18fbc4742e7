"""What each command can be told: frozen, keyword-only dataclasses, checked on construction.

The one source of defaults for Python, the command line and what a run records. Standard library only, so that
``labelfix --help`` stays fast.

============  ==================================================
`clean`       `CleanConfig` and its stages
`verdict`     `VerdictConfig`
`choices`     the enums
`check`       `CheckConfig`
`export`      `ExportConfig`
`options`     the options of `labelfix.clean`, for editors and type checkers
`signature`   a function's signature with every option
`validation`  how every setting is checked
============  ==================================================
"""

from labelfix.settings.check import Bound, CheckConfig, parse_share
from labelfix.settings.choices import (
    Augment,
    Kind,
    LearningRateSchedule,
    MissingImages,
    Precision,
    Reduction,
    Schedule,
    Spellings,
    Train,
    TrustedRole,
)
from labelfix.settings.clean import (
    EMBEDDED_BACKBONE,
    CleanConfig,
    FeatureConfig,
    FullConfig,
    HeadConfig,
    NetworkConfig,
    option_owners,
)
from labelfix.settings.export import (
    ExportConfig,
    ExportFormat,
    Policy,
    RowChoice,
    Transfer,
)
from labelfix.settings.options import CleanOptions
from labelfix.settings.verdict import VerdictConfig

__all__ = [
    "EMBEDDED_BACKBONE",
    "Augment",
    "Bound",
    "CheckConfig",
    "CleanConfig",
    "CleanOptions",
    "ExportConfig",
    "ExportFormat",
    "FeatureConfig",
    "FullConfig",
    "HeadConfig",
    "Kind",
    "LearningRateSchedule",
    "MissingImages",
    "NetworkConfig",
    "Policy",
    "Precision",
    "Reduction",
    "RowChoice",
    "Schedule",
    "Spellings",
    "Train",
    "Transfer",
    "TrustedRole",
    "VerdictConfig",
    "option_owners",
    "parse_share",
]
