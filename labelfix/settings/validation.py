"""How every setting is checked: the message names the option, its value and what was expected."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from labelfix.errors import SettingError

__all__ = [
    "as_enum",
    "as_names",
    "check",
    "check_above",
    "check_at_least",
    "check_count",
    "check_share",
    "option_name",
    "setting_error",
]


def option_name(name: str) -> str:
    """Return ``--max-noise`` for ``max_noise``."""
    return "--" + name.replace("_", "-")


def setting_error(where: str, value: object, expected: str) -> SettingError:
    """Return the error for a value that is out of range."""
    if isinstance(value, float) and not math.isfinite(value):
        return SettingError(f"{where}: {value} is not a finite number; expected {expected}.")
    return SettingError(f"{where}: got {value!r}; expected {expected}.")


def check(
    owner: object,
    name: str,
    valid: Callable[[Any], bool],
    expected: str,
    *,
    where: Callable[[str], str] = option_name,
) -> None:
    """Check the field `name` of `owner`; None, where a field may be None, is valid.

    Parameters
    ----------
    valid
        Whether a value is in range; numbers that are not finite never are.
    where
        Names the field in the message.

    Raises
    ------
    SettingError
        When the value is not valid.
    """
    value = getattr(owner, name)
    if value is None:
        return
    if (isinstance(value, float) and not math.isfinite(value)) or not valid(value):
        raise setting_error(where(name), value, expected)


def check_count(
    owner: object, name: str, least: int = 1, *, where: Callable[[str], str] = option_name
) -> None:
    """Check that a field is a whole number of at least `least`."""
    check(
        owner,
        name,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least,
        f"a whole number of at least {least}",
        where=where,
    )


def check_above(
    owner: object, name: str, least: float = 0.0, *, where: Callable[[str], str] = option_name
) -> None:
    """Check that a field is a number above `least`."""
    check(owner, name, lambda v: v > least, f"a number above {least:g}", where=where)


def check_at_least(owner: object, name: str, least: float = 0.0) -> None:
    """Check that a field is a number of at least `least`."""
    check(owner, name, lambda v: v >= least, f"a number of at least {least:g}")


def check_share(owner: object, name: str) -> None:
    """Check that a field is a number between 0 and 1, neither of them."""
    check(owner, name, lambda v: 0 < v < 1, "a number between 0 and 1")


def as_enum(
    owner: object, name: str, kind: type[StrEnum], *, where: Callable[[str], str] = option_name
) -> None:
    """Turn a field of a frozen dataclass, which may be a plain string, into its enum.

    Raises
    ------
    SettingError
        When the enum has no such value.
    """
    value = getattr(owner, name)
    try:
        object.__setattr__(owner, name, kind(value))
    except ValueError:
        raise setting_error(where(name), value, f"one of {', '.join(kind)}") from None


def as_names(owner: object, *names: str) -> None:
    """Turn fields of a frozen dataclass, each a sequence of class names or None, into tuples of strings.

    Raises
    ------
    SettingError
        When one is a plain string, which would be taken letter by letter.
    """
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, str):
            raise setting_error(option_name(name), value, "a sequence of names")
        if value is not None:
            object.__setattr__(owner, name, tuple(str(part) for part in value))
