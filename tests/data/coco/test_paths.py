"""Where the files of a data set are found."""

from pathlib import Path

import pytest

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.errors import DatasetError


def test_a_nested_data_set_is_found_and_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set was recognised"):
        dataset_paths(tmp_path)
    for name in ("first", "second"):
        (tmp_path / name / "annotations").mkdir(parents=True)
        (tmp_path / name / "annotations" / "instance_train.json").write_text("{}")
    (tmp_path / "first" / "images").mkdir()
    assert dataset_paths(tmp_path) == dataset_paths(tmp_path / "first")
    assert dataset_paths(tmp_path).train_json == tmp_path / "first" / "annotations" / "instance_train.json"
    (tmp_path / "second" / "images").mkdir()
    with pytest.raises(DatasetError, match=r"first \(COCO\), second \(COCO\)"):
        dataset_paths(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        dataset_paths(tmp_path / "nowhere")
