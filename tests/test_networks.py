"""Networks of the benchmark, by name and from timm."""

import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from labelfix.benchmark.networks import NAMED_NETWORKS, build_network
from labelfix.errors import LabelfixError


@pytest.mark.parametrize(
    ("name", "side", "channels"), [("cifar-8", 32, 3), ("small", 28, 1), ("resnet10t", 32, 3)]
)
def test_networks_map_images_to_logits(name: str, side: int, channels: int) -> None:
    model = build_network(name, 7, channels=channels).eval()
    assert model(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_small_network_is_fast_enough_for_a_cpu() -> None:
    """A step of cross-entropy at batch 128 on 28 x 28 takes at most 30 ms of one core."""
    model = NAMED_NETWORKS["small"](10, 1).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(15):
            begin = time.process_time()
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            times.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < 0.03


def test_weights_of_a_local_file(tmp_path: Path) -> None:
    stored = build_network("resnet10t", 1000)
    torch.save(stored.state_dict(), tmp_path / "weights.pth")
    model = build_network("resnet10t", 5, checkpoint=str(tmp_path / "weights.pth"))
    found = dict(model.named_parameters())
    same = [n for n, p in stored.named_parameters() if found[n].shape == p.shape and torch.equal(found[n], p)]
    assert [n for n in found if n not in same] == ["fc.weight", "fc.bias"]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "checkpoint", "said"),
    [
        ("resnet10x", "", "network: got 'resnet10x'"),
        ("small", "weights.pth", "network of timm"),
        ("resnet10t", "no.pth", "no.pth: there is no such file"),
    ],
)
def test_bad_networks(name: str, checkpoint: str, said: str) -> None:
    with pytest.raises(LabelfixError, match=said):
        build_network(name, 5, checkpoint=checkpoint)
