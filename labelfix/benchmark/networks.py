"""Networks of the experiments that the benchmarks repeat."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

_WIDTHS = ((64, 64), (128, 128), (196, 196))  # per block, each block ends in a 2x2 max-pool
_HIDDEN = 256


def cifar_network(num_classes: int) -> nn.Sequential:
    """Build the 8-layer network of the MSLG paper's CIFAR-10 runs: six convolutions, two linear layers.

    It maps images (B, 3, 32, 32) to logits (B, num_classes). Convolutions are 3x3 with padding 1, start
    Kaiming-normal (fan-out), and are followed by batch norm and ReLU.

    Source: Algan & Ulusoy, arXiv 2007.05836, section IV and the authors' CIFAR-10 code.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    num_inputs = 3
    for block, widths in enumerate(_WIDTHS, start=1):
        for place, width in enumerate(widths, start=1):
            name = f"{block}_{place}"
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
