"""The options of `labelfix.clean` for editors and type checkers: a generated file that must equal the settings.

After a change of the settings, write it anew: python tests/test_options.py
"""

import dataclasses
import inspect
import types
import typing
from enum import StrEnum
from pathlib import Path

import labelfix
from labelfix.settings import CleanConfig, FeatureConfig, FullConfig, HeadConfig, VerdictConfig, option_owners

FILE = Path(__file__).parent.parent / "labelfix" / "settings" / "options.py"
HEAD = '''"""The options of `labelfix.clean` as editors and type checkers see them.

Generated from the settings: change those, then run python tests/test_options.py.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

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

__all__ = ["CleanOptions"]


class CleanOptions(TypedDict, total=False):
    """Keyword options of `labelfix.clean`: the fields of `CleanConfig` and of its stages; each has its default."""

'''
STAGES = (CleanConfig, FeatureConfig, HeadConfig, FullConfig, VerdictConfig)


def written_type(kind: object) -> str:
    """Return a type as a user may give it: the values of an enum, any sequence for a tuple."""
    if isinstance(kind, types.UnionType):
        return " | ".join(written_type(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "Sequence[str]"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        values = ", ".join(f'"{value}"' for value in kind)
        return f"{kind.__name__} | Literal[{values}]"
    return "None" if kind is types.NoneType else kind.__name__  # type: ignore[attr-defined]


def generated() -> str:
    kinds = {field.name: field.type for stage in STAGES for field in dataclasses.fields(stage)}
    return HEAD + "".join(f"    {name}: {written_type(kinds[name])}\n" for name in option_owners())


def test_the_file_equals_the_settings() -> None:
    assert FILE.read_text(encoding="utf-8") == generated()


def test_the_signature_shows_every_option_with_its_default() -> None:
    parameters = inspect.signature(labelfix.clean).parameters
    assert list(parameters)[:5] == ["source", "labels", "trusted", "out", "reviewed"]
    defaults = CleanConfig().options()
    assert {name: parameters[name].default for name in option_owners()} == defaults
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in defaults)
    assert "max_fix_error" in str(inspect.signature(labelfix.clean))


if __name__ == "__main__":
    FILE.write_text(generated(), encoding="utf-8")
