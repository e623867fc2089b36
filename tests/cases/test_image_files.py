"""What image files contain: kinds that are read, kinds that are not, and files that are no images."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from cases import CASES, check_dataset, copy_case
from PIL import Image

from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import load_image

FOLDER = CASES / "F09-picture-kinds" / "images"
READ = (
    *("prog.jpg", "cmyk.jpg", "gray.jpg", "pal.png", "rgba.png", "la.png", "one.png", "g16.png", "rgb16.png"),
    *("w.webp", "g.gif", "b.bmp", "rgb16.tif", "rgba16.tif", "g16.tif", "j.jp2", "a.avif"),
)
FIX: dict[str, Any] = {"CheckDataset__fix__enable": True}


@pytest.mark.parametrize("name", READ)
def test_the_pixels_of_each_kind_are_those_that_opencv_reads(name: str) -> None:
    image = load_image(FOLDER / name)
    assert image.shape == (64, 96, 3)
    expected = cv2.imread(str(FOLDER / name), cv2.IMREAD_COLOR)
    assert expected is not None
    assert abs(image.astype(int) - expected[..., ::-1]).max() <= 1


@pytest.mark.parametrize("name", ["prog.jpg", "cmyk.jpg", "rgba.png", "w.webp", "j.jp2", "a.avif"])
def test_the_colours_of_each_kind_are_those_of_the_drawing(name: str) -> None:
    drawing = load_image(FOLDER / "b.bmp").astype(int)
    assert abs(load_image(FOLDER / name) - drawing).mean() < 4


def test_files_that_cannot_be_read_are_unsupported_and_stay(tmp_path: Path) -> None:
    data = copy_case("F09-picture-kinds", tmp_path / "data")
    plain = check_dataset(data, tmp_path / "plain")
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    for desk in (plain, fixed):
        assert desk.exit_code == 3
        of_image = {item["image_id"]: item for item in desk.result["findings"] if item["severity"] == "error"}
        assert of_image[215]["code"] == "image_unsupported"  # floating-point TIFF
        assert of_image[219]["code"] == "image_empty_file"
        for number, what, hint in (
            (220, "HEIC", "Convert it to JPEG or PNG"),
            (221, "HTML page", "Download the image again"),
            (222, "Git LFS pointer", "git lfs pull"),
            (223, "SVG drawing", "Export it as PNG"),
        ):
            assert of_image[number]["code"] == "image_unsupported"
            assert what in of_image[number]["message"]
            assert hint in of_image[number]["hint"]
        assert set(of_image) <= {215, 216, *range(219, 224)}
    for split in ("train", "val"):
        documents = [
            json.loads((root / "annotations" / f"instance_{split}.json").read_text("utf-8"))
            for root in (data, tmp_path / "data_fixed")
        ]
        assert len(documents[0]["images"]) == len(documents[1]["images"])
        assert len(documents[0]["annotations"]) == len(documents[1]["annotations"])


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    return buffer.getvalue()


FOREIGN = {
    "video": (b"\x00\x00\x00\x20ftypisom" + bytes(400), "a video", "Extract"),
    "matroska": (b"\x1a\x45\xdf\xa3" + bytes(400), "a video", "Extract"),
    "avi": (b"RIFF\x10\x00\x00\x00AVI LIST" + bytes(400), "a video", "Extract"),
    "zip": (_zip(), "a ZIP archive", "Unpack"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "archive", "Unpack"),
    "pdf": (b"%PDF-1.7\n" + bytes(100), "PDF", "Export"),
    "dicom": (bytes(128) + b"DICM" + bytes(100), "a DICOM file", "Export"),
    "canon raw": (b"\x00\x00\x00\x18ftypcrx " + bytes(400), "a raw image of a camera", "Develop"),
    "fuji raw": (b"FUJIFILMCCD-RAW 0201" + bytes(400), "a raw image of a camera", "Develop"),
    "heic sequence": (b"\x00\x00\x00\x18ftypmif1" + bytes(400), "a HEIC image", "Convert"),
    "html": ("\ufeff\n <HTML><body>login".encode(), "an HTML page", "Download"),
    "html with a comment": (b"<!-- saved --> <!doctype html>", "an HTML page", "Download"),
    "error of a bucket": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied', "an XML text", "Download"),
    "svg with a header": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg width="9">', "an SVG drawing", "PNG"),
    "json": (b'{"detail": "Not found"}', "a JSON text", "Download"),
    "git-annex": (b"/annex/objects/MD5E-s12--abc.jpg\n", "a git-annex pointer", "git annex get"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer", "git lfs"),
    "arrays": (b"\x93NUMPY\x01\x00" + bytes(100), "a file of arrays", "Export"),
    "jpeg xl": (b"\xff\x0a" + bytes(100), "a JPEG XL image", "Convert"),
    "shortcut": (b"\x4c\x00\x00\x00\x01\x14\x02\x00" + bytes(100), "a shortcut", "Copy"),
    "resource": (b"\x00\x05\x16\x07" + bytes(100), "a macOS resource file", "Copy"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_with_the_name_of_an_image_is_named_by_its_first_bytes(tmp_path: Path, kind: str) -> None:
    content, what, hint = FOREIGN[kind]
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "t1.jpg").write_bytes(content)
    facts = inspect_image(data / "images" / "t1.jpg", "thumbnail")
    assert facts.problem == "image_unsupported"
    assert what in facts.message
    assert facts.hint is not None and hint in facts.hint
    with pytest.raises(Exception, match=what):
        load_image(data / "images" / "t1.jpg")


def test_a_raw_image_is_not_taken_for_its_small_preview(tmp_path: Path) -> None:
    Image.new("RGB", (160, 120)).save(tmp_path / "a.NEF", format="TIFF")
    facts = inspect_image(tmp_path / "a.NEF", "thumbnail")
    assert (facts.problem, facts.message) == ("image_unsupported", "a.NEF is a raw image of a camera")


@pytest.mark.parametrize("kind", ["video", "html"])
def test_a_foreign_file_fails_the_check_and_the_repair_keeps_it(tmp_path: Path, kind: str) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "cam1").mkdir()
    (data / "images" / "cam1" / "t1.jpg").write_bytes(FOREIGN[kind][0])
    path = data / "annotations" / "instance_train.json"
    path.write_text(path.read_text("utf-8").replace('"t1.jpg"', '"cam1/t1.jpg"'), encoding="utf-8")
    for name, options in (("plain", {}), ("fixed", FIX)):
        desk = check_dataset(data, tmp_path / name, **options)
        assert desk.exit_code == 3
        assert desk.messages("image_unsupported") == [f"images/cam1/t1.jpg is {FOREIGN[kind][1]}"]
    kept = json.loads((tmp_path / "data_fixed" / "annotations" / "instance_train.json").read_text("utf-8"))
    assert len(kept["images"]) == len(kept["annotations"]) == 2


@pytest.mark.parametrize("content", [b"no image at all", bytes(5000), b"\xff\xd9\xff\xe0 damaged"])
def test_damaged_files_are_still_called_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t1.jpg"
    path.write_bytes(content)
    assert inspect_image(path, "thumbnail").problem == "image_corrupt"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_with_the_name_of_an_image_is_named(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "t1.jpg").unlink()
    make(data / "images" / "t1.jpg")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 3
    assert "it is a folder or a device, not a file" in desk.messages("image_corrupt")[0]


def test_an_image_with_a_wrong_ending_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format="PNG")
    assert (load_image(tmp_path / "a.jpg") == pixels).all()


def test_a_floating_point_tiff_is_unsupported_and_stays(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    values = np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96)
    tifffile.imwrite(data / "images" / "t1.jpg", values)
    for name, options in (("plain", {}), ("fixed", FIX)):
        desk = check_dataset(data, tmp_path / name, **options)
        assert (desk.exit_code, desk.codes.get("image_unsupported")) == (3, 1)
    kept = json.loads((tmp_path / "data_fixed" / "annotations" / "instance_train.json").read_text("utf-8"))
    assert len(kept["images"]) == len(kept["annotations"]) == 2
