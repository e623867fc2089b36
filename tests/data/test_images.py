"""Image formats: which files are found as images, read and converted."""

from pathlib import Path

import pytest
from written_images import write_image

from paddlex_seg.data.formats.source_files import files_below
from paddlex_seg.data.formats.yolo import read_yolo
from paddlex_seg.data.images import IMAGE_SUFFIXES, inspect_image, load_image


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
