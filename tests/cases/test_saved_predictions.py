"""Predictions that are saved beside the images, and corrected in LabelMe, become a data set."""

from pathlib import Path

import numpy as np
import pytest
from cases import check_dataset
from made_instances import disc, instances_of
from PIL import Image

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.inference.results import Result

NAMES = [f"im {number}" for number in range(6)]


def results_of(folder: Path) -> list[Result]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = []
    for name in NAMES:
        image = rng.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{name}.png")
        found.append(
            Result(
                input_path=str(folder / f"{name}.png"),
                page_index=None,
                save_name=name,
                image=image,
                instances=instances_of([disc((30, 30), 12), disc((60, 40), 9)], class_ids=[0, 1]),
                labels=["螺母", "bolt"],
            )
        )
    return found


@pytest.mark.parametrize("place", ["annotations", "images", "."])
def test_labelme_files_of_predictions_are_converted(tmp_path: Path, place: str) -> None:
    data = tmp_path / "donn é"
    for result in results_of(data / "images"):
        result.save_to_labelme(data / place)
        if place == "images":  # as a user does who lets all results stand beside the images
            result.save_all(data / place)
            result.save_to_csv(data / place)
            result.save_to_masks(data / place)
    desk = check_dataset(
        data,
        tmp_path / "out",
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="LabelMe",
        CheckDataset__split__enable=True,
        CheckDataset__split__train_percent=50,
        CheckDataset__split__val_percent=50,
    )
    assert desk.exit_code == 0, desk.text
    files = sorted(tmp_path.rglob("instance_*.json"))
    assert [file.name for file in files] == ["instance_train.json", "instance_val.json"]
    images = [record.file_name for file in files for record in read_coco(file).images]
    assert sorted(Path(name).stem for name in images) == NAMES
    assert sum(len(read_coco(file).annotations) for file in files) == 2 * len(NAMES)


def test_the_folder_of_a_run_in_a_data_set_is_left_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for result in results_of(data / "images"):
        result.save_to_labelme(data / "annotations")
        result.save_to_labelme(data / "output")
    WrittenFiles().put(data / "output" / "train_result.json", b"{}")
    desk = check_dataset(data, tmp_path / "out")
    assert "LabelMe" in desk.text and "output" not in desk.text.split("LabelMe")[1].split("\n")[0]
