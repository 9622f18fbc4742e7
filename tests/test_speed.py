"""The speed measurement runs, and its rows say what was asked for."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch._functorch.config as functorch_config
from torch import nn
from typer.testing import CliRunner

from labelfix.benchmark import speed
from labelfix.benchmark.networks import cifar_network
from labelfix.benchmark.speed import SpeedMethod, measure_speed
from labelfix.errors import SettingError
from labelfix_cli import app


def test_cifar_network_is_the_one_of_the_paper() -> None:
    model = cifar_network(10)
    shapes = [tuple(m.weight.shape) for m in model if isinstance(m, nn.Conv2d | nn.Linear)]
    widths = [3, 64, 64, 128, 128, 196, 196]
    convolutions = [(after, before, 3, 3) for before, after in itertools.pairwise(widths)]
    assert shapes == [*convolutions, (256, 196 * 4 * 4), (10, 256)]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("compiled", [False, True])
def test_rows(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    monkeypatch.setattr(speed, "_resident_peak_mib", lambda *_: 1.0)
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend="aot_eager")
    )  # needs no C++ compiler
    tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    tiny(torch.zeros(2, 3, 32, 32))
    monkeypatch.setitem(speed.NETWORKS, "tiny", lambda: tiny)
    with functorch_config.patch(donated_buffer=True):  # as it was, afterwards
        rows = measure_speed(
            ["tiny"], batch_size=6, trusted_batch_sizes=(4, 8), rounds=3, warmup_rounds=1, compiled=compiled
        )
    expected = [("cross_entropy", 0)] + [(m, n) for m in ("reference", "exact", "fast") for n in (4, 8)]
    assert [(row.method, row.trusted_batch_size) for row in rows] == expected
    assert rows[0].ratio == 1.0
    for row in rows:
        assert row.rounds == 3
        assert 0 < row.low_ms <= row.median_ms <= row.high_ms
        assert math.isclose(row.ratio, row.median_ms / rows[0].median_ms)


def test_resident_memory_grows_with_the_step() -> None:
    setup = speed._Setup(
        network="cifar-8", batch_size=32, device="cpu", dtype="float32", memory_format="channels_last"
    )
    peak = speed._resident_peak_mib(setup, SpeedMethod.EXACT, 4)
    assert math.isnan(peak) or 20 < peak < 2000


def test_unknown_network() -> None:
    with pytest.raises(SettingError, match="'vgg'; expected some of cifar-8"):
        measure_speed(["vgg"])


@pytest.mark.slow
def test_command_line_with_torch_compile() -> None:
    result = CliRunner().invoke(
        app,
        [
            "bench",
            "speed",
            "--network",
            "cifar-8",
            "--compile",
            "--rounds",
            "2",
            "--batch-size",
            "8",
            "--trusted",
            "4",
        ],
    )
    assert result.exit_code == 0, result.output
    header, _, *rows = result.stdout.splitlines()
    assert ", compiled, " in header
    assert [row.split()[1] for row in rows] == ["cross_entropy", "reference", "exact", "fast"]
