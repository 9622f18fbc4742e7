"""Which file a name means, and upright 8-bit RGB pixels out of any file."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelfix.errors import InputError
from labelfix.images.decoding import Unreadable, decode_image
from labelfix.images.folder import ImageFolder

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode(content: bytes, side: int = 8) -> Image.Image:
    image = decode_image(content, side)
    assert not isinstance(image, Unreadable), image.reason
    assert image.mode == "RGB"
    return image


def reason(content: bytes) -> str:
    image = decode_image(content, 8)
    assert isinstance(image, Unreadable)
    return image.reason


def grey(values: object, kind: str, dtype: str) -> list[int]:
    """Write one row of grey values, and return what is decoded."""
    pixels = np.asarray(decode(encode(Image.fromarray(np.array([values], dtype)), kind)))
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


# ------------------------------------------------------------------------------------------------------ files


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    root = tmp_path / "images"
    for name in (
        "a.png",
        "sub/b.png",
        "sub/deep/c.png",
        "caf\u00e9.png",
        "nai\u0308ve.png",
        "with blank.png",
        " x ",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "outside.png").write_bytes(b"")
    return ImageFolder(root)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("sub/../a.png", "a.png"),
        ("sub//b.png", "sub/b.png"),
        ("sub\\deep\\c.png", "sub/deep/c.png"),
        ("caf\u00e9.png", "caf\u00e9.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("na\u00efve.png", "nai\u0308ve.png"),
        ("with blank.png", "with blank.png"),
        (" a.png ", "a.png"),
        (" x ", " x "),
        ("images/a.png", "a.png"),
        ("images/sub/b.png", "sub/b.png"),
        ("outside.png", "../outside.png"),
        ("../outside.png", "../outside.png"),
        ("gone.png", None),
        ("sub", None),
        ("", None),
        (".", None),
        ("a.png/", None),
        ("A.png", None),
        ("a\0.png", None),
        ("x" * 5000, None),
    ],
)
def test_names_of_files(folder: ImageFolder, name: str, key: str | None) -> None:
    if name == "A.png" and (folder.root / name).exists():
        pytest.skip("the file system takes upper and lower case for the same")
    assert folder.identify([name], folder.root.parent) == [key]
    if key is not None:
        assert os.path.samefile(folder.path(key), folder.root / key)


def test_absolute_paths_and_links(folder: ImageFolder, tmp_path: Path) -> None:
    inside, outside = str(folder.root / "sub" / "b.png"), str(tmp_path / "outside.png")
    assert folder.identify([inside, outside], None) == ["sub/b.png", "../outside.png"]
    (tmp_path / "link").symlink_to(folder.root)
    linked = ImageFolder(tmp_path / "link")
    assert linked.identify([inside, "sub/b.png", f"{linked.root}/a.png"], None) == [
        "sub/b.png",
        "sub/b.png",
        "a.png",
    ]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.png").write_bytes(b"")
    (tmp_path / "a.png").write_bytes(b"not the one in the folder")
    (folder.root / "away").symlink_to(tmp_path / "deep")
    assert folder.identify(["away/d.png", "away/../a.png"], None) == ["away/d.png", "../a.png"]


def test_the_folder_of_the_table_comes_second(folder: ImageFolder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"another")
    assert folder.identify(["a.png", "outside.png"], tmp_path) == ["a.png", "../outside.png"]
    assert folder.identify(["outside.png"], None) == [None]


def test_relative_roots(folder: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.root.parent)
    near = ImageFolder(Path("images"))
    assert near.identify(["./sub/b.png", "images/a.png"], Path(".")) == ["sub/b.png", "a.png"]
    assert near.path("a.png") == "images/a.png"
    assert ImageFolder(Path(".")).identify(["images/a.png"], Path(".")) == ["images/a.png"]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("b.png", "sub/b.png"),
        ("train/A.PNG", "a.png"),
        ("c", "sub/deep/c.png"),
        ("b.jpeg", "sub/b.png"),
        ("wiht blank.png", "with blank.png"),
        ("cafe\u0301.jpg", "caf\u00e9.png"),
    ],
)
def test_missing_files_are_explained_with_one_like_them(folder: ImageFolder, name: str, like: str) -> None:
    (said,) = folder.identify.explain([name], None)
    assert (
        said
        == f"there is no file {name!r} in the image folder {str(folder.root)!r}. A file like it is {like!r}."
    )


def test_missing_files_without_a_likeness_and_folders(folder: ImageFolder) -> None:
    said = folder.identify.explain(["qqqqqq", "sub", "a\0b"], folder.root.parent)
    assert said[0].endswith(f"in the image folder {str(folder.root)!r}.")
    assert said[1] == "'sub' is a folder; expected an image file."
    assert "'a\\x00b'" in said[2]


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; expected a folder of images"):
        ImageFolder(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is not a folder; expected a folder of images"):
        ImageFolder(tmp_path / "file")


# ----------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_rgb_of_any_format(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encode(Image.new("RGB", (5, 4), RED), kind, **options))
    assert image.size == (5, 4)
    assert set(image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata()) == {
        RED
    }


def test_palette_with_and_without_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putdata([0, 1])
    assert np.asarray(decode(encode(palette)))[0].tolist() == [list(RED), list(BLUE)]
    transparent = decode(encode(palette, transparency=1))
    assert np.asarray(transparent)[0].tolist() == [list(RED), list(WHITE)]
    half = decode(encode(palette, transparency=bytes([255, 128])))
    assert np.asarray(half)[0, 1].tolist() == [127, 127, 255]


def test_alpha_is_laid_on_white() -> None:
    assert decode(encode(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))).getpixel((0, 0)) == WHITE
    assert decode(encode(Image.new("RGBA", (1, 1), (255, 0, 0, 255)))).getpixel((0, 0)) == RED
    assert decode(encode(Image.new("LA", (1, 1), (0, 51)))).getpixel((0, 0)) == (204, 204, 204)
    keyed = Image.new("RGB", (2, 1), RED)
    keyed.putpixel((1, 0), GREEN)
    assert np.asarray(decode(encode(keyed, transparency=GREEN)))[0].tolist() == [list(RED), list(WHITE)]


def test_grey_and_bilevel() -> None:
    assert grey([0, 7, 255], "PNG", "u1") == [0, 7, 255]
    assert decode(encode(Image.new("1", (1, 1), 1))).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_16_bit_grey_keeps_its_whole_range(kind: str, dtype: str) -> None:
    assert grey([0, 257, 32896, 51528, 65535], kind, dtype) == [0, 1, 128, 200, 255]
    assert grey([0, 200], kind, dtype) == [0, 1]  # dark, and not taken for 8 bits


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 128, 255], "<i4", [0, 128, 255]),
        ([0, 257, 65535], "<i4", [0, 1, 255]),
        ([0, 1], "<i4", [0, 255]),
        ([-100, 0, 100], "<i4", [0, 128, 255]),
        ([0, 1 << 20], "<i4", [0, 255]),
        ([0.0, 0.5, 1.0], "<f4", [0, 128, 255]),
        ([0.0, 100.4], "<f4", [0, 100]),
        ([-2.0, 2.0], "<f4", [0, 255]),
        ([100_000] * 2, "<i4", [127, 127]),
        ([-3.5] * 2, "<f4", [127, 127]),
        ([0] * 2, "<i4", [0, 0]),
    ],
)
def test_32_bit_and_float_grey(values: list[float], dtype: str, expected: list[int]) -> None:
    assert grey(values, "TIFF", dtype) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(value: float) -> None:
    content = encode(Image.fromarray(np.array([[1, value]], np.float32)), "TIFF")
    assert reason(content) == "cannot be decoded (pixels that are not finite numbers)"


def test_cmyk_jpeg() -> None:
    pixel = decode(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).getpixel((8, 8))
    assert np.abs(np.array(pixel) - RED).max() < 12


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (BLUE, RED, GREEN)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert decode(content).getpixel((0, 0)) == BLUE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    upright = np.full((24, 16, 3), 255, np.uint8)
    upright[:8, :8] = RED  # top left
    upright[16:, :8] = BLUE  # bottom left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif), side=32)
    assert image.size == (16, 24)
    corners = [image.getpixel(place) for place in ((3, 3), (3, 20), (12, 3))]
    assert np.abs(np.array(corners) - [RED, BLUE, WHITE]).max() < 40


def test_damaged_exif_leaves_the_pixels() -> None:
    content = encode(
        Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9
    )
    assert decode(content).size == (8, 8)


# ---------------------------------------------------------------------------------------------------- drafts


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 700), st.integers(8, 700), st.integers(4, 100))
def test_a_draft_is_never_below_twice_the_side(width: int, height: int, side: int) -> None:
    image = decode(encode(Image.new("RGB", (width, height)), "JPEG"), side)
    assert min(image.size) >= min(2 * side, width, height)
    assert image.width / width == pytest.approx(image.height / height, abs=0.13)
    if min(width, height) >= 16 * side:
        assert image.width == -(-width // 8)


def test_drafts_save_work_for_jpeg_only() -> None:
    assert decode(encode(Image.new("RGB", (640, 480)), "JPEG"), 30).size == (80, 60)
    assert decode(encode(Image.new("RGB", (640, 480)), "JPEG"), 31).size == (160, 120)
    assert decode(encode(Image.new("RGB", (640, 480)), "PNG"), 30).size == (640, 480)


# ------------------------------------------------------------------------------------------------ unreadable


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG that claims a size, with hardly any pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"hello, I am no image\n" * 9, "not an image that Pillow can read"),
        (b"\x89PNG\r\n\x1a\n", "not an image that Pillow can read"),
        (encode(NOISE, "JPEG")[:1500], "cannot be decoded (image file is truncated"),
        (encode(NOISE, "PNG")[:3000], "cannot be decoded (image file is truncated"),
        (encode(NOISE, "TIFF")[:200], ""),
        (png_of_size(30_000, 30_000), "too many pixels to decode safely"),
        (png_of_size(100, 100), "cannot be decoded"),
        (encode(NOISE, "EPS"), "PostScript is a program"),
        (b"PK\x03\x04" + bytes(99), "not an image that Pillow can read"),
    ],
    ids=["empty", "text", "signature", "jpeg", "png", "tiff", "bomb", "short", "eps", "zip"],
)
def test_unreadable_files(content: bytes, said: str) -> None:
    assert said in reason(content)


KINDS = ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "ICO", "PCX"]
WHOLE = {kind: encode(NOISE.convert("P") if kind == "GIF" else NOISE, kind) for kind in KINDS}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_no_damage_ends_in_an_exception(kind: str, changes: list[tuple[int, int]], kept: float) -> None:
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[place % len(content)] = value
    image = decode_image(bytes(content[: int(kept * len(content))]), 8)
    assert image.reason if isinstance(image, Unreadable) else image.mode == "RGB"
