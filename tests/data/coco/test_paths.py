"""Where the files of a data set are found."""

from pathlib import Path

import pytest

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.errors import DatasetError


def test_a_nested_data_set_is_found_and_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder 'images'"):
        dataset_paths(tmp_path)
    (tmp_path / "first" / "images").mkdir(parents=True)
    assert dataset_paths(tmp_path) == dataset_paths(tmp_path / "first")
    assert dataset_paths(tmp_path).train_json == tmp_path / "first" / "annotations" / "instance_train.json"
    (tmp_path / "second" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="first, second"):
        dataset_paths(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        dataset_paths(tmp_path / "nowhere")
