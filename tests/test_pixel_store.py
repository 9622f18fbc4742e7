from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelfix.errors import InputError
from labelfix.images.decoding import decode_image
from labelfix.images.loading import ImageSource
from labelfix.images.pixel_store import DecodedImages, HeldPixels, Storage, choose_storage, decode_images
from labelfix.system.progress import SilentProgress

SIDE = 16
CPU = torch.device("cpu")
ALL_IN_FILE, NOTHING_KEPT = 1.0, 0.0


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Twelve images of many kinds, among them one that is none and one that is missing."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(10):
        pixels = rng.integers(0, 256, (SIDE + i, SIDE, 3), np.uint8)
        image = Image.fromarray(pixels).convert(["RGB", "L", "RGBA"][i % 3])
        paths.append(str(tmp_path / f"{i}.{'png' if i % 2 or i % 3 == 2 else 'jpg'}"))
        image.save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"not an image")
    return [*paths, str(tmp_path / "broken.png"), str(tmp_path / "absent.png")]


def decoded(files: list[str], folder: Path, *, budget: float, workers: int = 0) -> DecodedImages:
    source = ImageSource(paths=files, side=SIDE, interpolation="bilinear", workers=workers)
    return decode_images(source, files, folder, budget=budget, device=CPU, progress=SilentProgress())


def reference(path: str) -> np.ndarray:
    """Shorter side to SIDE, then the middle, (3, SIDE, SIDE)."""
    image = decode_image(Path(path).read_bytes(), SIDE)
    assert isinstance(image, Image.Image)
    scale = SIDE / min(image.size)
    size = [max(SIDE, int(length * scale)) for length in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE))).transpose(2, 0, 1)


@pytest.mark.parametrize("budget", [ALL_IN_FILE, NOTHING_KEPT])
@pytest.mark.parametrize("workers", [0, 1])
def test_pixels_are_those_of_decode_image(
    files: list[str], tmp_path: Path, budget: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelfix.images.pixel_store.DECODE_BATCH", 4)  # so that a worker is worth starting
    result = decoded(files, tmp_path / "kept", budget=budget, workers=workers)
    assert result.storage is (Storage.MAPPED if budget else Storage.STREAM)
    rows = [torch.tensor([3, 0, 9]), torch.tensor([5]), torch.tensor([0, 8])]
    for numbers, batch in zip(rows, result.store.batches(rows), strict=True):
        assert batch.dtype is torch.uint8
        assert batch.is_contiguous(memory_format=torch.channels_last)
        for number, pixels in zip(numbers.tolist(), batch, strict=True):
            np.testing.assert_array_equal(pixels.numpy(), reference(files[number]))


@pytest.mark.parametrize("budget", [ALL_IN_FILE, NOTHING_KEPT])
def test_unreadable_images_are_found_before_training(files: list[str], tmp_path: Path, budget: float) -> None:
    result = decoded(files, tmp_path / "kept", budget=budget)
    assert sorted(result.unreadable) == [10, 11]
    assert "not an image" in result.unreadable[10]
    assert "cannot be opened" in result.unreadable[11]


def test_the_mapped_file_is_found_again_until_an_image_changes(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decoded(files, tmp_path / "kept", budget=ALL_IN_FILE)
    with monkeypatch.context() as patch:
        patch.setattr("labelfix.images.pixel_store.load_batches", None)  # decoding again would fail
        second = decoded(files, tmp_path / "kept", budget=ALL_IN_FILE)
    assert second.unreadable == first.unreadable
    assert second.digest == first.digest
    Image.new("RGB", (SIDE, SIDE), "red").save(files[0])
    third = decoded(files, tmp_path / "kept", budget=ALL_IN_FILE)
    (batch,) = third.store.batches([torch.tensor([0])])
    np.testing.assert_array_equal(batch[0].numpy(), reference(files[0]))


def test_half_written_file_is_decoded_again(files: list[str], tmp_path: Path) -> None:
    decoded(files, tmp_path / "kept", budget=ALL_IN_FILE)
    (tmp_path / "kept" / "pixels.json").unlink()  # as after a kill while decoding
    np.lib.format.open_memmap(tmp_path / "kept" / "pixels.npy", mode="r+")[:] = 0
    result = decoded(files, tmp_path / "kept", budget=ALL_IN_FILE)
    (batch,) = result.store.batches([torch.tensor([1])])
    np.testing.assert_array_equal(batch[0].numpy(), reference(files[1]))


def test_image_that_vanishes_while_streaming_is_named(files: list[str], tmp_path: Path) -> None:
    result = decoded(files, tmp_path / "kept", budget=NOTHING_KEPT)
    Path(files[2]).unlink()
    with pytest.raises(InputError, match=r"2\.png: was readable before .*no longer: cannot be opened"):
        list(result.store.batches([torch.tensor([1, 2])]))


def test_budget_decides_the_storage() -> None:
    assert choose_storage(2**30, 1.0, CPU) is Storage.MAPPED
    assert choose_storage(2**30 + 1, 1.0, CPU) is Storage.STREAM


def test_held_pixels_take_numbers_in_any_order() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    rows = torch.tensor([4, 0, 4])
    (from_array,) = HeldPixels(values, CPU).batches([rows])
    (from_tensor,) = HeldPixels(torch.from_numpy(values), CPU).batches([rows])
    assert torch.equal(from_array, from_tensor)
    np.testing.assert_array_equal(from_array.numpy(), values[[4, 0, 4]].transpose(0, 3, 1, 2))


def test_the_digest_follows_every_readable_file(files: list[str], tmp_path: Path) -> None:
    first = decoded(files, tmp_path / "kept", budget=NOTHING_KEPT)
    Path(files[10]).write_bytes(b"still not an image")
    assert decoded(files, tmp_path / "kept", budget=NOTHING_KEPT).digest == first.digest
    Image.new("RGB", (SIDE, SIDE), "red").save(files[0])
    assert decoded(files, tmp_path / "kept", budget=NOTHING_KEPT).digest != first.digest


@pytest.mark.parametrize("budget", [ALL_IN_FILE, NOTHING_KEPT])
def test_readable_images_are_numbered_without_the_others(
    files: list[str], tmp_path: Path, budget: float
) -> None:
    mixed = [files[10], *files[:3], files[11], *files[3:10]]
    result = decoded(mixed, tmp_path / "kept", budget=budget)
    assert result.rows.tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert sorted(result.unreadable) == [0, 4]
    (batch,) = result.store.batches([torch.arange(10)])
    for pixels, row in zip(batch, result.rows, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), reference(mixed[row]))
