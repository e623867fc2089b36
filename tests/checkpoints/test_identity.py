"""Finding and describing weight files."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL, annotation_file

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import describe_weights, find_weights, require_categories_of_model
from paddlex_seg.checkpoints.info import ModelInfo, write_info
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import DatasetError, WeightsError
from paddlex_seg.structures import CocoFile

SPEC = find_model(MODEL)
INFO = ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE)


def describe(weight_path: Path, dataset_dir: Path, *, source: str = "") -> ModelInfo:
    return describe_weights(SPEC, weight_path, source=source, dataset_dir=dataset_dir, image_size=(96, 160))


def test_the_file_beside_the_weights_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    write_info(path, INFO, score=None, epoch=1)
    assert describe(path, tmp_path / "nowhere", source=SPEC.official_weights) == INFO


def test_official_weights_are_for_the_classes_of_coco(tmp_path: Path) -> None:
    info = describe(tmp_path / "w.pdparams", tmp_path / "nowhere", source=SPEC.official_weights)
    assert info == ModelInfo(MODEL, COCO_CATEGORIES, (96, 160))


def test_other_weights_are_for_the_classes_of_the_data_set(tmp_path: Path, dataset: Path) -> None:
    categories = read_coco(annotation_file(dataset, "train")).categories
    assert describe(tmp_path / "w.pdparams", dataset) == ModelInfo(MODEL, categories, (96, 160))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    write_info(path, replace(INFO, model_name="SOLOv2"), score=0.5, epoch=1)
    with pytest.raises(
        WeightsError, match=f"w.pdparams holds weights of SOLOv2, but Global.model is {MODEL}"
    ):
        describe(path, tmp_path)


def test_the_error_for_missing_weights_points_to_the_runs_best_model(tmp_path: Path) -> None:
    wanted = str(tmp_path / "w.pdparams")
    with pytest.raises(WeightsError, match=r"Some\.key.*w\.pdparams") as without_run:
        find_weights(wanted, key="Some.key", output=tmp_path)
    best = tmp_path / "best_model" / "best_model.pdparams"
    best.parent.mkdir()
    best.touch()
    with pytest.raises(WeightsError) as with_run:
        find_weights(wanted, key="Some.key", output=tmp_path)
    assert str(with_run.value) == (
        f"{without_run.value} To use the best model of Global.output, set Some.key={best}."
    )
    assert find_weights(str(best), key="Some.key", output=tmp_path) == best


def test_categories_must_be_the_models_in_the_same_order(tmp_path: Path) -> None:
    coco = CocoFile(tmp_path / "val.json", images=(), annotations=(), categories=CATEGORIES)
    require_categories_of_model(tmp_path / "w.pdparams", INFO, coco)
    with pytest.raises(DatasetError, match=r"val\.json"):
        require_categories_of_model(tmp_path / "w.pdparams", INFO, replace(coco, categories=CATEGORIES[::-1]))
