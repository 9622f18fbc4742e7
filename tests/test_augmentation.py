import torch

from labelfix.images.augmentation import Augmentation
from labelfix.settings import Augment

SIDE = 16


def numbered(size: int) -> torch.Tensor:
    """Images whose pixels tell their place: red is the row, green the column, blue the image, from 1."""
    pixels = torch.zeros(size, 3, SIDE, SIDE, dtype=torch.uint8)
    pixels[:, 0] = torch.arange(1, SIDE + 1).view(1, SIDE, 1)
    pixels[:, 1] = torch.arange(1, SIDE + 1).view(1, 1, SIDE)
    pixels[:, 2] = torch.arange(1, size + 1).view(size, 1, 1)
    return pixels


def in_bytes(kind: Augment, pixels: torch.Tensor) -> torch.Tensor:
    augmentation = Augmentation(kind, [0.0] * 3, [1 / 255] * 3)
    return augmentation(pixels).round().to(torch.int64)


def test_every_image_is_shifted_by_itself() -> None:
    torch.manual_seed(0)
    images = in_bytes(Augment.CROP, numbered(64))
    shifts = set()
    for number, image in enumerate(images, start=1):
        inside = image[2] > 0
        assert (image[2][inside] == number).all()
        rows, columns = torch.nonzero(inside, as_tuple=True)
        down, right = image[0][inside] - rows - 1, image[1][inside] - columns - 1
        assert len(down.unique()) == len(right.unique()) == 1
        assert max(abs(int(down[0])), abs(int(right[0]))) <= SIDE // 8
        shifts.add((int(down[0]), int(right[0])))
    assert len(shifts) > 12  # of 25


def test_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    images = in_bytes(Augment.CROP_FLIP, numbered(400))
    middle = SIDE // 2
    mirrored = (images[:, 1, middle, middle + 2] < images[:, 1, middle, middle - 2]).float().mean()
    assert 0.4 < mirrored < 0.6


def test_no_augmentation_normalises_only() -> None:
    pixels = numbered(3)
    augmentation = Augmentation(Augment.NONE, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    expected = (pixels / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.6, 0.7]
    ).view(3, 1, 1)
    torch.testing.assert_close(augmentation(pixels), expected, rtol=1e-5, atol=1e-6)
    assert augmentation(pixels).is_contiguous(memory_format=torch.channels_last)
