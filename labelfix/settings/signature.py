"""The signature of a function that takes the options of `CleanConfig`, with every option by name."""

import inspect
from collections.abc import Callable
from typing import Any

from labelfix.settings.clean import CleanConfig
from labelfix.settings.options import CleanOptions

__all__ = ["signature_with_options"]


def signature_with_options(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with each option, its type and its default, for ``help()`` and notebooks."""
    plain = inspect.signature(function)
    kinds = CleanOptions.__annotations__
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds.get(name, Any)
        )
        for name, default in CleanConfig().options().items()
    ]
    named = [p for p in plain.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return plain.replace(parameters=[*named, *options])
