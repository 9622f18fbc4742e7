"""Networks of the published experiments and of the benchmarks."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from labelfix.errors import SettingError

__all__ = ["NAMED_NETWORKS", "build_network", "cifar_network", "small_network"]

_WIDTHS = ((64, 64), (128, 128), (196, 196))  # per block, each block ends in a 2x2 max-pool
_HIDDEN = 256
_SMALL_WIDTHS = (16, 32, 64)


def cifar_network(num_classes: int, channels: int = 3) -> nn.Sequential:
    """Build the 8-layer network of the MSLG paper's CIFAR-10 runs: six convolutions, two linear layers.

    It maps images (B, channels, 32, 32) to logits (B, num_classes). Convolutions are 3x3 with padding 1, start
    Kaiming-normal (fan-out), and are followed by batch norm and ReLU.

    Source: Algan & Ulusoy, arXiv 2007.05836, section IV and the authors' CIFAR-10 code.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    num_inputs = channels
    for block, widths in enumerate(_WIDTHS, start=1):
        for layer, width in enumerate(widths, start=1):
            name = f"{block}_{layer}"
            conv = nn.Conv2d(num_inputs, width, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers[f"conv{name}"] = conv
            layers[f"norm{name}"] = nn.BatchNorm2d(width)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
            num_inputs = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(num_inputs * 4 * 4, _HIDDEN)
    layers["hidden_norm"] = nn.BatchNorm1d(_HIDDEN)
    layers["hidden_relu"] = nn.ReLU(inplace=True)
    layers["logits"] = nn.Linear(_HIDDEN, num_classes)
    return nn.Sequential(layers)


def small_network(num_classes: int, channels: int = 1) -> nn.Sequential:
    """Build a network for a CPU: three 3x3 convolutions of stride 2 with batch norm, global mean, linear layer.

    It maps images (B, channels, S, S) to logits (B, num_classes); a step of cross-entropy at batch 128 on 28 x 28
    takes about 10 ms of one core.
    """
    blocks: list[nn.Module] = []
    for before, after in itertools.pairwise((channels, *_SMALL_WIDTHS)):
        blocks += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_SMALL_WIDTHS[-1], num_classes)
    )


NAMED_NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "cifar-8": cifar_network,
    "small": small_network,
}
"""Networks that are not in timm, by name; each takes the number of classes and of channels."""


def build_network(name: str, num_classes: int, *, channels: int = 3, checkpoint: str = "") -> nn.Module:
    """Build a network of `NAMED_NETWORKS`, or any model of timm, with random weights or those of a local file.

    Parameters
    ----------
    checkpoint
        File with weights for a model of timm that takes three channels; its classifier is left out.

    Raises
    ------
    SettingError
        An unknown name, or a checkpoint for a network that takes none.
    BackboneError
        A checkpoint that does not exist or does not match the network.
    """
    import timm

    from labelfix.images.backbones import load_backbone, trainable_network

    if name in NAMED_NETWORKS:
        if checkpoint:
            raise SettingError(f"checkpoint: {checkpoint} with network {name!r}; expected a network of timm.")
        return NAMED_NETWORKS[name](num_classes, channels)
    if not timm.is_model(name):
        known = ", ".join(NAMED_NETWORKS)
        raise SettingError(
            f"network: got {name!r}; expected {known}, or the name of a timm model (resnet50, …)."
        )
    if not checkpoint:
        return timm.create_model(name, num_classes=num_classes, in_chans=channels)
    if channels != 3:
        raise SettingError(f"checkpoint: {checkpoint} with images of {channels} channel(s); expected three.")
    return trainable_network(load_backbone(name, checkpoint=checkpoint), num_classes)
