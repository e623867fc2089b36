"""Image formats: which files are found as images, read and converted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_images import write_image

from paddlex_seg.data.formats.source_files import files_below
from paddlex_seg.data.formats.yolo import read_yolo
from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import (
    IMAGE_SUFFIXES,
    image_path,
    image_size,
    limit_pixels,
    load_image,
    pixel_limit,
)
from paddlex_seg.errors import DatasetError


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_all_image_formats_are_found_checked_and_read_for_training(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"a{suffix.upper()}"
    write_image(path)
    assert files_below(tmp_path, IMAGE_SUFFIXES) == [f"deep/{path.name}"]
    facts = inspect_image(path, "full")
    assert (facts.problem, facts.shown_hw) == (None, (16, 24))
    image = load_image(path)
    assert image.shape == (16, 24, 3) and image.min() == 255


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_all_image_formats_are_converted(tmp_path: Path, suffix: str) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / f"{split}{suffix}")
        labels = tmp_path / "labels" / split / f"{split}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [bolt]\n")
    conversion = read_yolo(tmp_path)
    assert {coco.images[0].file_name for coco in conversion.splits.values()} == {
        f"train/train{suffix}",
        f"val/val{suffix}",
    }


@pytest.mark.parametrize(
    "name", ["../a.jpg", "b/../../a.jpg", "..\\a.jpg", "/etc/a.jpg", "C:\\a.jpg", "", ".", "a\0"]
)
def test_file_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="file_name"):
        image_path(Path("images"), name)


@pytest.mark.parametrize("name", ["a/b.jpg", "a\\b.jpg", "c/../a/b.jpg", "./a/b.jpg"])
def test_file_names_inside_the_folder_are_found(name: str) -> None:
    assert image_path(Path("images"), name) == Path("images/a/b.jpg")


RED = (200, 30, 10)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_all_colour_modes_are_converted_to_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    stored = Image.new("RGB", (6, 4), RED)
    (stored.quantize() if mode == "P" else stored.convert(mode)).save(path)
    image = load_image(path)
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert abs(image.astype(int) - RED).max() <= 2


def test_gray_of_8_and_16_bits_gives_the_same_image(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert (load_image(tmp_path / "8.png") == gray[..., None]).all()
    assert (load_image(tmp_path / "16.png") == gray[..., None]).all()


def save_with_orientation(path: Path, orientation: int) -> np.ndarray:
    """Write an image of width 6 and height 4 with one white corner. Returns its stored pixels."""
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    return stored


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (0, -1)),
        (3, (-1, -1)),
        (4, (-1, 0)),
        (5, (0, 0)),
        (6, (0, -1)),
        (7, (-1, -1)),
        (8, (-1, 0)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    save_with_orientation(path, orientation)
    image = load_image(path)
    assert image.shape == ((6, 4, 3) if orientation >= 5 else (4, 6, 3))
    assert image[corner].tolist() == [255, 255, 255]
    assert image_size(path).shown_hw == image.shape[:2]


def test_exif_orientation_is_not_applied_if_the_listed_size_is_that_of_the_stored_pixels(
    tmp_path: Path,
) -> None:
    stored = save_with_orientation(tmp_path / "a.png", 6)
    assert (load_image(tmp_path / "a.png", size_hw=(4, 6)) == stored).all()
    assert load_image(tmp_path / "a.png", size_hw=(6, 4)).shape == (6, 4, 3)
    with pytest.raises(DatasetError, match="a.png"):
        load_image(tmp_path / "a.png", size_hw=(6, 5))


def test_bad_images_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "cut.jpg"
    )
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "text.jpg", "none.jpg"):
        with pytest.raises(DatasetError, match=name):
            load_image(tmp_path / name)


def test_too_large_images_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back after the test
    limit_pixels(9_999)
    with pytest.raises(
        DatasetError, match=r"big.png: the image has 10,000 pixels, .* 9,999.*max_image_pixels"
    ):
        load_image(tmp_path / "big.png")
    limit_pixels(10_000)
    assert pixel_limit() == 10_000
    assert load_image(tmp_path / "big.png").shape == (100, 100, 3)
