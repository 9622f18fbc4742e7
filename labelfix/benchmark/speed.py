"""Time and memory of an MSLG step next to a step of plain cross-entropy, on one machine in one run.

Every round runs each method once, in a new random order, so that other load on the machine affects all methods
alike. Images and labels are random: the cost of a step depends on shapes alone.

Run as a module, this file measures the resident memory of one method and prints it. `measure_speed` starts it once
per method, because the peak memory of a process includes that of all methods it has run.

Shape suffixes: B rows of the batch, M trusted rows, K classes.
"""

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import timm
import torch
import torch._functorch.config as functorch_config
import torch.nn.functional as F
from torch import nn

from labelfix.benchmark.networks import cifar_network
from labelfix.errors import SettingError
from labelfix.mslg import FAST_LABEL_INTERVAL, Schedule, mslg_step, trusted_rows_per_step

__all__ = ["NETWORKS", "SpeedMethod", "SpeedRow", "cpu_name", "measure_speed"]

NUM_CLASSES = 10
IMAGE_SIZE = 32

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar-8": lambda: cifar_network(NUM_CLASSES),
    "resnet18": lambda: timm.create_model("resnet18", num_classes=NUM_CLASSES),
}
"""The networks by name; images are 32 x 32."""


class SpeedMethod(StrEnum):
    """The training step: plain cross-entropy, or one of the schedules of `labelfix.mslg`."""

    CROSS_ENTROPY = "cross_entropy"
    REFERENCE = "reference"
    EXACT = "exact"
    FAST = "fast"


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One line of the table.

    Attributes
    ----------
    network, method
        A key of `NETWORKS` and a `SpeedMethod`.
    batch_size, trusted_batch_size
        Rows B and trusted rows M per step; M is 0 for cross-entropy.
    median_ms, low_ms, high_ms
        Milliseconds per step: median and quartiles over the rounds.
    ratio
        `median_ms` over that of cross-entropy on the same network.
    peak_mib
        Peak memory in MiB of a step, above what network and data take before the first. On the CPU it is the
        resident memory of a separate process (NaN where the system does not report it), on CUDA what torch
        allocated.
    rounds
        The number of timed steps.
    """

    network: str
    method: str
    batch_size: int
    trusted_batch_size: int
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    peak_mib: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """Settings shared by all methods on one network; plain values, which can be passed to another process."""

    network: str
    batch_size: int
    device: str
    dtype: str
    memory_format: str
    compiled: bool = False

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        return None if self.dtype == "float32" else getattr(torch, self.dtype)


class _Bench:
    """A network with an optimizer and random data: images (B, 3, 32, 32), label logits (B, K)."""

    def __init__(self, setup: _Setup, num_trusted: int):
        torch.manual_seed(0)
        self.autocast_dtype = setup.autocast_dtype
        self.device = torch.device(setup.device)
        layout = getattr(torch, setup.memory_format)
        self.eager = NETWORKS[setup.network]().to(self.device).to(memory_format=layout).train()
        self.model = _compiled(self.eager) if setup.compiled else self.eager
        # tiny steps: the numbers stay finite for as long as the measurement takes
        self.optimizer = torch.optim.SGD(self.eager.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
        num_images = max(setup.batch_size, num_trusted)
        images = torch.randn(num_images, 3, IMAGE_SIZE, IMAGE_SIZE).to(self.device, memory_format=layout)
        labels = torch.randint(NUM_CLASSES, (num_images,), device=self.device)
        self.images, self.labels = images[: setup.batch_size], labels[: setup.batch_size]
        self.label_logits_BK = 10.0 * F.one_hot(self.labels, NUM_CLASSES).float()
        self.trusted_images, self.trusted_labels = images, labels

    def run(self, method: SpeedMethod, num_trusted: int, epoch: int = 0) -> None:
        if method is SpeedMethod.CROSS_ENTROPY:
            self._cross_entropy_step()
        else:
            schedule = Schedule(method)
            num_trusted = trusted_rows_per_step(schedule, epoch, num_trusted)
            mslg_step(
                # compiled networks have no double backward
                self.eager if schedule is Schedule.REFERENCE else self.model,
                self.optimizer,
                self.images,
                self.label_logits_BK,
                self.trusted_images[:num_trusted],
                self.trusted_labels[:num_trusted],
                alpha=1e-3,
                beta=1.0,
                schedule=schedule,
                epoch=epoch,
                autocast_dtype=self.autocast_dtype,
            )

    def _cross_entropy_step(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            logits_BK = self.model(self.images)
        F.cross_entropy(logits_BK.float(), self.labels).backward()
        self.optimizer.step()

    def milliseconds(self, method: SpeedMethod, num_trusted: int) -> float:
        """Time one step; for `fast`, whose steps differ by epoch, the mean over one step of each kind."""
        steps = FAST_LABEL_INTERVAL if method is SpeedMethod.FAST else 1
        self._synchronise()
        start = time.perf_counter()
        for epoch in range(steps):
            self.run(method, num_trusted, epoch)
        self._synchronise()
        return (time.perf_counter() - start) / steps * 1e3

    def cuda_peak_mib(self, method: SpeedMethod, num_trusted: int) -> float:
        self.optimizer.zero_grad()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.run(method, num_trusted)
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _compiled(model: nn.Module) -> Any:
    """Compile the pass over the batch; trusted rows and derivatives use the modules without compilation."""
    # the look-ahead and the training loss share one graph, so its buffers must outlive the first backward pass
    functorch_config.donated_buffer = False
    return torch.compile(model)


def measure_speed(
    networks: Sequence[str] = tuple(NETWORKS),
    *,
    methods: Sequence[SpeedMethod] = tuple(SpeedMethod),
    batch_size: int = 128,
    trusted_batch_sizes: Sequence[int] = (32, 128),
    rounds: int = 20,
    warmup_rounds: int = 3,
    device: str = "cpu",
    dtype: str = "float32",
    memory_format: str = "channels_last",
    compiled: bool = False,
) -> list[SpeedRow]:
    """Time each method on each network, a round of single steps at a time.

    Parameters
    ----------
    networks
        Keys of `NETWORKS`.
    methods
        Cross-entropy is always measured: it is the unit of the ratios.
    batch_size, trusted_batch_sizes
        Rows per step, and numbers of trusted rows per step: every MSLG method is measured with each of them; `fast`
        takes as many as `trusted_rows_per_step` says.
    rounds, warmup_rounds
        Timed steps of each method, and untimed steps before them.
    device, dtype, memory_format
        Names as in torch: ``cpu`` or ``cuda``; ``float32`` or ``bfloat16`` (autocast); ``channels_last`` or
        ``contiguous_format``.
    compiled
        Pass the batch through `torch.compile`, in cross-entropy and in MSLG alike; the reference does not.

    Raises
    ------
    SettingError
        An unknown network.
    """
    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise SettingError(f"networks: got {unknown[0]!r}; expected some of {', '.join(NETWORKS)}.")
    cases = [(SpeedMethod.CROSS_ENTROPY, 0)]
    cases += [
        (m, size) for m in methods if m is not SpeedMethod.CROSS_ENTROPY for size in trusted_batch_sizes
    ]
    rows = []
    for network in networks:
        setup = _Setup(
            network=network,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            memory_format=memory_format,
            compiled=compiled,
        )
        rows += _measure_network(setup, cases, rounds, warmup_rounds)
    return rows


def _measure_network(
    setup: _Setup, cases: list[tuple[SpeedMethod, int]], rounds: int, warmup_rounds: int
) -> list[SpeedRow]:
    bench = _Bench(setup, max(num_trusted for _, num_trusted in cases))
    times: dict[tuple[SpeedMethod, int], list[float]] = {case: [] for case in cases}
    for round_ in range(warmup_rounds + rounds):
        for number in torch.randperm(len(cases)).tolist():
            milliseconds = bench.milliseconds(*cases[number])
            if round_ >= warmup_rounds:
                times[cases[number]].append(milliseconds)
    if bench.device.type == "cuda":
        peaks = {case: bench.cuda_peak_mib(*case) for case in cases}
    else:
        del bench  # frees its memory for the processes that follow
        peaks = {case: _resident_peak_mib(setup, *case) for case in cases}
    unit = statistics.median(times[cases[0]])
    rows = []
    for (method, num_trusted), values in times.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        rows.append(
            SpeedRow(
                network=setup.network,
                method=str(method),
                batch_size=setup.batch_size,
                trusted_batch_size=num_trusted,
                median_ms=median,
                low_ms=low,
                high_ms=high,
                ratio=median / unit,
                peak_mib=peaks[method, num_trusted],
                rounds=len(values),
            )
        )
    return rows


def cpu_name() -> str:
    """Return the name of the processor, or its architecture where the name is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ------------------------------------------------------------------------------- resident memory on the CPU


def _resident_peak_mib(setup: _Setup, method: SpeedMethod, num_trusted: int) -> float:
    """Run `_print_resident_peak` in a new process."""
    values = (
        setup.network, setup.batch_size, setup.dtype, setup.memory_format, int(setup.compiled), method, num_trusted
    )  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "labelfix.benchmark.speed", *map(str, values)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    return float(output)


def _print_resident_peak(
    network: str,
    batch_size: str,
    dtype: str,
    memory_format: str,
    compiled: str,
    method: str,
    num_trusted: str,
) -> None:
    """Take two steps (the first one creates the momenta) and print by how many MiB this process grew."""
    setup = _Setup(
        network=network,
        batch_size=int(batch_size),
        device="cpu",
        dtype=dtype,
        memory_format=memory_format,
        compiled=bool(int(compiled)),
    )
    bench = _Bench(setup, int(num_trusted))
    status, reset_peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def kibibytes(field: str) -> int:
        return next(
            int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)
        )

    try:
        reset_peak.write_text("5")  # memory used before the step does not count
        before = kibibytes("VmRSS:")
    except OSError:
        print("nan")
        return
    for _ in range(2):
        bench.run(SpeedMethod(method), int(num_trusted))
    print((kibibytes("VmHWM:") - before) / 1024)


if __name__ == "__main__":
    _print_resident_peak(*sys.argv[1:])
