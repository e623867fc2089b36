"""Finding and describing weight files."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import paddle
import pytest
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL, annotation_file

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import (
    describe_weights,
    find_weights,
    require_categories_of_model,
)
from paddlex_seg.checkpoints.info import ModelInfo, info_to_json, write_info
from paddlex_seg.checkpoints.weights import read_weights, write_weights
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import DatasetError, WeightsError
from paddlex_seg.structures import CocoFile, PreprocessSpec

SPEC = find_model(MODEL)
INFO = ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE)


def describe(weight_path: Path, dataset_dir: Path, *, source: str = "", size: Any = (96, 160)) -> ModelInfo:
    return describe_weights(SPEC, weight_path, source=source, dataset_dir=dataset_dir, image_size=size)


def save(path: Path, info: ModelInfo | None = INFO) -> Path:
    """A weight file of one number; ``info`` None: without a description."""
    description = None if info is None else info_to_json(info, score=None, epoch=1)
    write_weights({"x": paddle.ones([1])}, path, description)
    return path


@pytest.mark.parametrize("suffix", ["pdparams", "safetensors"])
@pytest.mark.parametrize(
    "info",
    [
        INFO,
        replace(INFO, recipe="scratch"),
        replace(INFO, own_preprocess=PreprocessSpec((64, 32), interpolation=1, mean=(0.5, 0.5, 0.5))),
    ],
)
def test_a_copied_weight_file_says_what_it_is(tmp_path: Path, info: ModelInfo, suffix: str) -> None:
    path = save(tmp_path / f"w.{suffix}", info)
    assert list(read_weights(path)) == ["x"]
    found = describe(path, tmp_path / "nowhere", source=SPEC.official_weights)
    assert found == info
    assert found.preprocess == info.preprocess


def test_weights_of_an_earlier_version_are_described_by_the_file_beside_them(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pdparams", None)
    earlier = {
        "model_name": MODEL,
        "categories": [asdict(item) for item in CATEGORIES],
        "image_size": [96, 64],
    }
    path.with_suffix(".info.json").write_text(json.dumps(earlier))
    assert describe(path, tmp_path) == replace(INFO, recipe=None)


def test_a_description_beside_other_weights_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pdparams")
    write_info(path, info_to_json(INFO, score=None, epoch=1))
    other = replace(INFO, image_size=(32, 32))
    save(path, other)
    assert describe(path, tmp_path) == other  # the file itself says it
    save(path, None)
    with pytest.raises(WeightsError, match=r"w\.info\.json describes another weight file"):
        describe(path, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        *(SPEC.official_weights, f"{SPEC.official_weights}#sha256={64 * '0'}"),
        *("models/PP-YOLOE_seg-S_pretrained.pdparams", "models\\PP-YOLOE_seg-S_pretrained.pdparams"),
    ],
)
def test_official_weights_are_for_the_classes_of_coco(tmp_path: Path, source: str) -> None:
    path = save(tmp_path / "w.pdparams", None)
    info = describe(path, tmp_path / "nowhere", source=source)
    assert info == ModelInfo(MODEL, COCO_CATEGORIES, (96, 160))


def test_weights_that_say_nothing_are_what_the_settings_say_or_are_refused(
    tmp_path: Path, dataset: Path
) -> None:
    path = save(tmp_path / "w.pdparams", None)
    categories = read_coco(annotation_file(dataset, "train")).categories
    assert describe(path, dataset) == ModelInfo(MODEL, categories, (96, 160), recipe=None)
    with pytest.raises(WeightsError, match=r"does not say what it is.*Train\.image_size"):
        describe(path, dataset, size=None)


def test_another_input_size_than_that_of_the_weights_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "w.pdparams")
    assert describe(path, tmp_path, size=None) == describe(path, tmp_path, size=IMAGE_SIZE) == INFO
    assert not caplog.messages
    assert describe(path, tmp_path, size=64) == INFO
    assert "Train.image_size=64 is not used" in caplog.text


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pdparams", replace(INFO, model_name="SOLOv2"))
    with pytest.raises(
        WeightsError, match=f"w.pdparams holds weights of SOLOv2, but Global.model is {MODEL}"
    ):
        describe(path, tmp_path)


def test_the_default_is_the_best_model_of_the_run_in_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, default = tmp_path / "run", Path("output/best_model/best_model.pdparams")

    def found(value: str | None, output: Path = run) -> Path:
        return find_weights(value, key="K", output=output)

    with pytest.raises(WeightsError, match="K: 'output/best_model/best_model.pdparams' does not exist"):
        found(None)
    default.parent.mkdir(parents=True)
    default.touch()
    assert found(None) == found(str(default)) == found(None, Path("output")) == default  # run holds no run
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(WeightsError, match="K: .* holds a run without best_model/best_model.pdparams"):
        found(None)
    best = run / default.relative_to("output")
    best.parent.mkdir()
    best.touch()
    assert found(None) == best
    assert found(str(default)) == default  # named, so it is meant
    default.unlink()
    assert found(str(default)) == best  # as in a configuration of PaddleX


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
