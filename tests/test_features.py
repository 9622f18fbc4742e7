import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinySet
from PIL import Image

from labelfix.errors import SettingError, TrainingError
from labelfix.images import features as module
from labelfix.images import loading
from labelfix.images.backbones import Backbone
from labelfix.images.feature_cache import FeatureStore, FileDigests
from labelfix.images.features import FeatureMatrix, extract_features
from labelfix.images.folder import ImageFolder
from labelfix.settings import FeatureConfig, Precision
from labelfix.system.devices import choose_device, choose_dtype
from labelfix.system.hashing import FileState, content_digest
from labelfix.system.progress import SilentProgress

CPU = torch.device("cpu")


class Pooled(torch.nn.Module):
    """Mean colour and its square: features that can be worked out by hand."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((2, 3))
        return torch.cat([mean, mean.square()], 1)


def backbone(**changes: object) -> Backbone:
    described = {
        "name": "pooled", "architecture": "pooled", "module": Pooled(), "dim": 6, "side": 16,
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "weights_digest": "0",
    }  # fmt: skip
    return Backbone(**{**described, **changes})  # type: ignore[arg-type]


def extract(tiny: TinySet, names: list[str] | None = None, **changes: object) -> FeatureMatrix:
    settings = {"cache_dir": str(tiny.folder / "cache"), "inference_batch": 7, "workers": 0} | changes
    network = settings.pop("backbone", None) or backbone()
    return extract_features(
        ImageFolder(tiny.images),
        tiny.names if names is None else names,
        network,  # type: ignore[arg-type]
        FeatureConfig(**settings),  # type: ignore[arg-type]
        device=CPU,
        progress=SilentProgress(),
    )


def by_hand(path: Path) -> np.ndarray:
    mean = np.asarray(Image.open(path).resize((16, 16), Image.Resampling.BICUBIC), np.float64).mean((0, 1))
    scaled = (mean / 255 - 0.5) / 0.5
    return np.concatenate([scaled, scaled**2])


def test_features_are_those_of_the_named_image(tiny: TinySet) -> None:
    got = extract(tiny, precision="float32").values
    wanted = np.stack([by_hand(tiny.images / name) for name in tiny.names])
    np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_workers_change_nothing(tiny: TinySet) -> None:
    alone = extract(tiny, precision="float32")
    many = extract(tiny, precision="float32", workers=2, cache_dir=str(tiny.folder / "other"))
    assert many.decoded == alone.decoded == len(tiny.names)
    np.testing.assert_array_equal(alone.values, many.values)


def test_second_run_decodes_nothing(tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = extract(tiny)
    monkeypatch.setattr(loading, "decode_image", lambda *a: pytest.fail("decoded an image again"))
    order = np.random.default_rng(0).permutation(len(tiny.names))
    second = extract(tiny, [tiny.names[i] for i in order])
    assert second.decoded == 0
    np.testing.assert_array_equal(second.values, first.values[order])
    assert second.digest == first.digest  # of the set, not of its order


def test_unchanged_files_are_not_even_read(tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    past = time.time() - 60
    for name in tiny.names:
        os.utime(tiny.images / name, (past, past))
    extract(tiny)
    monkeypatch.setattr(module, "load_batches", lambda *a, **k: pytest.fail("read a file again"))
    assert extract(tiny).decoded == 0


def test_changed_file_gets_new_features(tiny: TinySet) -> None:
    before = extract(tiny).values
    Image.new("RGB", (24, 24), (1, 2, 3)).save(tiny.images / tiny.names[5])
    again = extract(tiny)
    assert again.decoded == 1
    assert np.flatnonzero((again.values != before).any(1)).tolist() == [5]


@pytest.mark.parametrize(
    "change", [{"weights_digest": "1"}, {"side": 8}, {"mean": (0.4, 0.5, 0.5)}, {"interpolation": "bilinear"}]
)
def test_another_backbone_or_transform_is_computed_anew(tiny: TinySet, change: dict[str, object]) -> None:
    extract(tiny)
    assert extract(tiny, backbone=backbone(**change)).decoded == len(tiny.names)


def test_rows_without_unreadable_images_keep_their_values(tiny: TinySet) -> None:
    whole = extract(tiny).values
    (tiny.images / tiny.names[3]).write_bytes(b"not an image")
    (tiny.images / tiny.names[8]).unlink()
    got = extract(tiny, cache_dir=str(tiny.folder / "other"))
    assert sorted(got.unreadable) == [3, 8]
    assert "Pillow" in got.unreadable[3]
    assert "cannot be opened" in got.unreadable[8]
    rest = [i for i in range(len(tiny.names)) if i not in (3, 8)]
    assert got.rows.tolist() == rest
    np.testing.assert_array_equal(got.values, whole[rest])


def test_interrupted_run_goes_on(tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = module.FrozenNetwork.__call__

    def interrupted(self: object, pixels: torch.Tensor) -> np.ndarray:
        calls.append(len(pixels))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(module.FrozenNetwork, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(tiny)
    monkeypatch.setattr(module.FrozenNetwork, "__call__", real)
    assert extract(tiny).decoded == len(tiny.names) - 3 * 7


def test_features_that_are_not_finite(tiny: TinySet) -> None:
    class Broken(Pooled):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) / 0

    with pytest.raises(TrainingError, match="--precision float32"):
        extract(tiny, backbone=backbone(module=Broken()))


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", ""])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(SettingError, match=rf"--device: got '{name}'; expected auto, cpu, cuda or cuda:N"):
        choose_device(name)


def test_dtype_is_as_asked() -> None:
    assert choose_dtype(Precision.FLOAT32, CPU) is torch.float32
    assert choose_dtype(Precision.BFLOAT16, CPU) is torch.bfloat16
    assert choose_dtype(Precision.AUTO, CPU) in (torch.float32, torch.bfloat16)


def test_store_survives_damage_and_sharing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 4)).astype(np.float16)
    digests = [content_digest(bytes([i])) for i in range(5)]
    one, two = (FeatureStore(tmp_path, {"a": 1}, 4) for _ in range(2))
    one.add(digests[:3], values[:3])
    two.add(digests[2:], values[2:])  # digest 2 twice
    fresh = FeatureStore(tmp_path, {"a": 1}, 4)
    np.testing.assert_array_equal(fresh.take(digests[::-1]), values[::-1])
    part = next(iter(fresh.folder.glob("part-*.arrow")))
    part.write_bytes(part.read_bytes()[:100])
    survivors = FeatureStore(tmp_path, {"a": 1}, 4)
    assert 2 <= sum(d in survivors for d in digests) < 5
    assert not part.exists()
    assert not FeatureStore(tmp_path, {"a": 2}, 4).known()


def test_recent_changes_are_not_remembered(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path, tmp_path)
    old, new = FileState(5, 10**9), FileState(5, time.time_ns())
    digests.remember([("old", old, b"1" * 16), ("new", new, b"2" * 16)])
    again = FileDigests(tmp_path, tmp_path)
    assert again.get("old", old) == b"1" * 16
    assert again.get("new", new) is None
    assert again.get("old", FileState(6, 10**9)) is None
    assert again.get("old", FileState(5, 10**9 + 1)) is None
