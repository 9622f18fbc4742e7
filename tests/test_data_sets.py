"""Loaders, on tiny trees of the official layouts."""

import gzip
import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from labelfix.benchmark.data_formats import ImageFiles
from labelfix.benchmark.data_sets import CIFAR10, DATA_SETS, read_data_set
from labelfix.errors import InputError

RNG = np.random.default_rng(0)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def pixels() -> np.ndarray:
    return RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


def write_parquet(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    split = ["train"] * 8 + ["test"] * (len(pixels) - 8)
    images = [png(p.squeeze()) for p in pixels]
    pq.write_table(pa.table({"split": split, "image": images, "label": labels}), path)


def test_cifar10_parquet_with_human_labels(tmp_path: Path, pixels: np.ndarray) -> None:
    labels = np.arange(12) % 10
    write_parquet(tmp_path / "cifar10.parquet", pixels, labels)
    human = {"index": np.arange(8), "clean": labels[:8], "aggre": labels[:8][::-1], "random1": labels[:8]}
    pq.write_table(pa.table(human), tmp_path / "cifar10n.parquet")
    data = read_data_set("cifar10", tmp_path)
    np.testing.assert_array_equal(data.train.images.pixels(np.array([5, 0])), pixels[[5, 0]])
    np.testing.assert_array_equal(data.test.images.pixels(np.arange(4)), pixels[8:])
    np.testing.assert_array_equal(data.test.labels, labels[8:])
    assert list(data.human) == ["aggre", "random1"]
    np.testing.assert_array_equal(data.human["aggre"], labels[:8][::-1])


def test_cifar10_python_batches(tmp_path: Path, pixels: np.ndarray) -> None:
    """Rows of 3072 numbers: the red plane, then green, then blue, as the archive has them."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    planes = pixels.transpose(0, 3, 1, 2).reshape(12, -1)
    for i in range(6):
        rows = slice(2 * i, 2 * i + 2)
        batch = {b"data": planes[rows], b"labels": [i, i + 1], b"filenames": [b"a.png", b"b.png"]}
        name = "test_batch" if i == 5 else f"data_batch_{i + 1}"
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    arrays = {"clean_label": np.arange(10), "worse_label": np.arange(10)[::-1].copy(),
              "random_label1": np.zeros(10, np.int64)}  # fmt: skip
    torch.save(arrays, tmp_path / "CIFAR-10_human.pt")
    data = DATA_SETS["cifar10"](tmp_path)
    np.testing.assert_array_equal(data.train.images.pixels(np.arange(10)), pixels[:10])
    np.testing.assert_array_equal(data.train.labels, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    np.testing.assert_array_equal(data.test.images.pixels(np.arange(2)), pixels[10:])
    assert list(data.human) == ["worse", "random1"]
    (folder / "data_batch_3").unlink()
    with pytest.raises(InputError, match="data_batch_3: does not exist"):
        DATA_SETS["cifar10"](tmp_path)


def test_cifar10_batches_run_no_foreign_code(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(pickle.UnpicklingError):
        DATA_SETS["cifar10"](tmp_path)
    assert not (tmp_path / "touched").exists()


def test_cifar10_image_folder(tmp_path: Path, pixels: np.ndarray) -> None:
    for split in ("train", "test"):
        for k, name in enumerate(CIFAR10):
            folder = tmp_path / "cifar10" / split / name
            folder.mkdir(parents=True)
            (folder / f"{k:04d}.png").write_bytes(png(pixels[k]))
    data = DATA_SETS["cifar10"](tmp_path)
    assert isinstance(data.train.images, ImageFiles)
    assert data.train.images.paths[3].endswith("train/cat/0003.png")
    np.testing.assert_array_equal(data.train.labels, np.arange(10))


@pytest.mark.parametrize("below", ["", "fashion_mnist"])
def test_fashion_mnist_idx(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    images = RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5], np.uint8)
    for prefix, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        for kind, values in (("images", images[rows]), ("labels", labels[rows])):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            path = folder / f"{prefix}-{kind}-idx{values.ndim}-ubyte.gz"
            path.write_bytes(gzip.compress(head + values.tobytes()))
    data = DATA_SETS["fashion_mnist"](tmp_path)
    np.testing.assert_array_equal(data.train.images.pixels(np.arange(3))[..., 0], images[:3])
    np.testing.assert_array_equal(data.test.labels, labels[3:])
    torn = folder / "t10k-images-idx3-ubyte.gz"
    torn.write_bytes(gzip.compress(gzip.decompress(torn.read_bytes())[:-1]))
    with pytest.raises(InputError, match="is not an IDX file of 3 dimensions"):
        DATA_SETS["fashion_mnist"](tmp_path)


def test_fashion_mnist_parquet(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (10, 28, 28, 1), dtype=np.uint8)
    write_parquet(tmp_path / "fashion_mnist.parquet", images, np.arange(10))
    data = DATA_SETS["fashion_mnist"](tmp_path)
    np.testing.assert_array_equal(data.train.images.pixels(np.array([7])), images[[7]])


def write_clothing1m(root: Path) -> None:
    keys = [f"images/{i}/{i}.jpg" for i in range(9)]
    write_lines(root / "noisy_label_kv.txt", [f"{key} {i % 14}" for i, key in enumerate(keys)])
    write_lines(root / "clean_label_kv.txt", [f"{key} {i + 1}" for i, key in enumerate(keys) if i >= 4])
    write_lines(root / "noisy_train_key_list.txt", keys[:4])
    write_lines(root / "clean_train_key_list.txt", keys[4:5])
    write_lines(root / "clean_val_key_list.txt", keys[5:7])
    write_lines(root / "clean_test_key_list.txt", keys[7:])


@pytest.mark.parametrize("below", ["", "clothing1m"])
def test_clothing1m(tmp_path: Path, below: str) -> None:
    write_clothing1m(tmp_path / below)
    data = DATA_SETS["clothing1m"](tmp_path)
    assert len(data.classes) == 14
    assert data.real_noise
    assert data.trusted is not None
    assert data.train.images.paths[0] == str(tmp_path / below / "images/0/0.jpg")
    np.testing.assert_array_equal(data.train.labels, [0, 1, 2, 3])
    np.testing.assert_array_equal(data.trusted.labels, [6, 7])
    np.testing.assert_array_equal(data.test.labels, [8, 9])
    write_lines(tmp_path / below / "clean_test_key_list.txt", ["images/0/none.jpg"])
    with pytest.raises(InputError, match=r"'images/0/none.jpg' has no label"):
        DATA_SETS["clothing1m"](tmp_path)


def write_food101n(folder: Path) -> None:
    root = folder / "Food-101N_release"
    write_lines(root / "meta/classes.txt", ["class_name", "apple_pie", "beignets"])
    keys = [f"apple_pie/{i}.jpg" for i in range(3)] + [f"beignets/{i}.jpg" for i in range(3)]
    write_lines(root / "meta/imagelist.tsv", ["class_name/key", *keys])
    verified = ["class_name/key\tverification_label", "apple_pie/1.jpg\t1", "beignets/0.jpg\t0"]
    write_lines(root / "meta/verified_train.tsv", verified)
    write_lines(folder / "food-101/meta/test.txt", ["beignets/77", "apple_pie/8"])


def test_food101n(tmp_path: Path) -> None:
    write_food101n(tmp_path)
    data = DATA_SETS["food101n"](tmp_path)
    assert data.classes == ("apple_pie", "beignets")
    assert data.trusted is not None
    assert [Path(p).parts[-2:] for p in data.trusted.images.paths] == [("apple_pie", "1.jpg")]
    assert [Path(p).parts[-2:] for p in data.train.images.paths] == [
        ("apple_pie", "0.jpg"), ("apple_pie", "2.jpg"), ("beignets", "1.jpg"), ("beignets", "2.jpg"),
    ]  # fmt: skip
    np.testing.assert_array_equal(data.train.labels, [0, 0, 1, 1])
    assert data.test.images.paths[0] == str(tmp_path / "food-101/images/beignets/77.jpg")
    np.testing.assert_array_equal(data.test.labels, [1, 0])


@pytest.mark.parametrize("name", DATA_SETS)
def test_missing_data_says_what_is_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected"):
        DATA_SETS[name](tmp_path)


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'mnist'; expected one of cifar10"):
        read_data_set("mnist", tmp_path)
