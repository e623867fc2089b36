"""Images with very long sides, in every mode: only the number of pixels has a limit."""

from pathlib import Path

import numpy as np
import pytest
from command_line import read_result, run_cli
from PIL import Image
from small_runs import run_slim, train_options

from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

LONG, SHORT = 40_000, 8  # OpenCV warps no side above 32,766 pixels in many versions


@pytest.fixture(scope="module")
def long_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wide images to train on, and a tall one to evaluate on, with one object each."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    for split, count, width, height in (("train", 2, LONG, SHORT), ("val", 1, SHORT, LONG)):
        records, annotations = [], []
        for number in range(1, count + 1):
            record = ImageRecord(id=number, file_name=f"{split}{number}.png", width=width, height=height)
            noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(noise).save(folder / "images" / record.file_name)
            x, y, right, bottom = width // 4, height // 4, width // 2, height // 2
            corners = [float(value) for value in (x, y, right, y, right, bottom, x, bottom)]
            box = (float(x), float(y), float(right - x), float(bottom - y))
            records.append(record)
            annotations.append(
                Annotation(
                    id=number,
                    image_id=number,
                    category_id=1,
                    segmentation=[corners],
                    bbox_xywh=box,
                    area=box[2] * box[3],
                )
            )
        path = folder / "annotations" / f"instance_{split}.json"
        write_coco(CocoFile(path, tuple(records), tuple(annotations), (Category(1, "bolt"),)), path)
    return folder


def test_they_are_checked_trained_on_and_evaluated(long_images: Path, tmp_path: Path) -> None:
    settings = {"Global__dataset_dir": long_images, "CheckDataset__decode": "full"}
    assert run_cli("check_dataset", tmp_path, **settings).code == 0
    options = train_options(long_images, Train__epochs_iters=1, Train__max_bad_samples=0)
    outcome = run_slim("train", tmp_path, **options)
    assert outcome.code == 0, outcome.stderr
    assert len(read_result(tmp_path, "train")["history"]) == 1


def test_they_are_predicted(exported: Path, long_images: Path, tmp_path: Path) -> None:
    settings = {"Predict__model_dir": exported, "Predict__input": long_images / "images"}
    outcome = run_cli("predict", tmp_path, **settings)
    assert outcome.code == 0, outcome.stderr
    sizes = {Image.open(row["image"]).size for row in read_result(tmp_path, "predict")["results"]}
    assert sizes == {(LONG, SHORT), (SHORT, LONG)}
