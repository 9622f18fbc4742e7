"""The data set that training reads: what it holds, workers, and a loop with timm's loss."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinySet
from timm.loss import SoftTargetCrossEntropy
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

import labelfix
from labelfix.errors import InputError


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySet, Path]:
    tiny = TinySet(tmp_path_factory.mktemp("trained"), rows=90)
    options = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tiny.folder / "out", **options)  # type: ignore[arg-type]
    labelfix.export_run(tiny.folder / "out", tiny.folder / "dest", to="torch")
    return tiny, tiny.folder / "dest"


def test_images_and_targets(exported: tuple[TinySet, Path]) -> None:
    tiny, folder = exported
    dataset = labelfix.SoftLabelDataset(folder)
    assert len(dataset) == 90
    assert dataset.classes == ("c0", "c1", "c2")
    image, target = dataset[5]
    assert image.size == (24, 24)
    assert np.abs(np.asarray(image).mean((0, 1)) - tiny.COLOURS[tiny.true[5]]).max() < 30
    assert target.dtype == torch.float32
    assert target.sum() == pytest.approx(1, abs=1e-5)
    assert (dataset.labels == dataset.targets.argmax(1)).all()


def test_a_training_loop(exported: tuple[TinySet, Path]) -> None:
    tiny, folder = exported
    dataset = labelfix.SoftLabelDataset(folder, transform=lambda image: to_tensor(image).mean((1, 2)))
    loader = DataLoader(dataset, batch_size=30, shuffle=True, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model, loss = torch.nn.Linear(3, 3), SoftTargetCrossEntropy()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(30):
        for pixels_B3, target_BK in loader:
            optimizer.zero_grad()
            loss(model(pixels_B3), target_BK).backward()
            optimizer.step()
    predicted = model(torch.stack([dataset[i][0] for i in range(90)])).argmax(1).numpy()
    assert (predicted == tiny.true).mean() > 0.95 > (tiny.given == tiny.true).mean()


def test_workers_map_the_targets_themselves(exported: tuple[TinySet, Path]) -> None:
    dataset = labelfix.SoftLabelDataset(exported[1])
    content = pickle.dumps(dataset)
    copied = pickle.loads(content)
    assert isinstance(copied.targets, np.memmap)
    np.testing.assert_array_equal(copied.targets, dataset.targets)


def test_folders_of_something_else(exported: tuple[TinySet, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--to torch"):
        labelfix.SoftLabelDataset(tmp_path)
    dataset = labelfix.SoftLabelDataset(exported[1])
    dataset.paths = (str(tmp_path / "gone.png"),)
    with pytest.raises(InputError, match="cannot be read"):
        dataset[0]
    (tmp_path / "gone.png").write_bytes(b"text")
    with pytest.raises(InputError, match="not an image"):
        dataset[0]
