"""Where torch computes, and in which number format."""

import torch

from labelfix.errors import SettingError
from labelfix.settings import Precision

__all__ = ["choose_device", "choose_dtype"]


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` takes CUDA, then the CPU.

    Raises
    ------
    SettingError
        When torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise SettingError(
            f"--device: got {name!r}; expected auto, cpu, cuda or cuda:N ({reason}). Leave it out for auto."
        ) from error
    return device


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number format of the forward pass; ``auto`` takes bfloat16 where the hardware computes in it."""
    if precision is not Precision.AUTO:
        return getattr(torch, precision)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = device.type == "cpu" and _cpu_computes_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_computes_bfloat16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
