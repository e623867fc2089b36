"""Mode predict: from images to visualizations and JSON, with the same results as mode evaluate."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Outcome, read_result, run_cli
from made_fonts import make_font, only_fonts
from PIL import Image
from pycocotools import mask as coco_mask
from small_runs import CATEGORIES, IMAGE_SIZE, annotation_file, filled_model
from toy_model import export_toy, image_with

from paddlex_seg.catalog import find_model
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.results import clip_to_image
from paddlex_seg.models.network_backend import NetworkBackend

THRESHOLD = 0.05  # half of the about 40 detections in an image have a higher score


def run_predict(exported: Path, inputs: str, output: Path, **options: Any) -> Outcome:
    settings = {"Predict__model_dir": exported, "Predict__threshold": THRESHOLD, **options}
    return run_cli("predict", output, Predict__input=inputs, **settings)


def read_prediction(output: Path, name: str) -> dict[str, Any]:
    return json.loads((output / f"{name}_res.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def photos(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three readable image files with difficult names, one of them in a sub-folder."""
    folder = tmp_path_factory.mktemp("my photos")
    (folder / "été").mkdir()
    sources = sorted((dataset / "images").iterdir())
    for source, name in zip(sources, ["a b.jpg", "größe (1), x=2.jpg", "été/c.jpg"], strict=False):
        shutil.copy(source, folder / name)
    return folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{folder}/a b.jpg", ["a b"]),
        ("{folder}", ["a b", "größe (1), x=2", "été/c"]),
        ("{folder}/*.jpg", ["a b", "größe (1), x=2"]),
        ("['{folder}/été/c.jpg', '{folder}/a b.jpg']", ["c", "a b"]),
        ("[{folder}/été/c.jpg, {folder}/a b.jpg]", ["c", "a b"]),
    ],
    ids=["file", "folder", "pattern", "list", "unquoted list"],
)
def test_inputs_of_every_kind_are_predicted(
    exported: Path, photos: Path, tmp_path: Path, pattern: str, names: list[str]
) -> None:
    outcome = run_predict(exported, pattern.format(folder=photos), tmp_path / "out put")
    assert outcome.code == 0, outcome.stderr
    rows = read_result(tmp_path / "out put", "predict")["results"]
    assert [row["json"] for row in rows] == [str(tmp_path / "out put" / f"{name}_res.json") for name in names]
    for row in rows:
        prediction = json.loads(Path(row["json"]).read_text(encoding="utf-8"))
        assert prediction["input_path"] == row["input"]
        assert len(prediction["boxes"]) == len(prediction["masks"]) > 5
        assert {box["label"] for box in prediction["boxes"]} <= {category.name for category in CATEGORIES}
        with Image.open(row["input"]) as source, Image.open(row["image"]) as drawing:
            assert drawing.size == source.size


def test_masks_and_boxes_lie_in_the_image(exported: Path, photos: Path, tmp_path: Path) -> None:
    assert run_predict(exported, str(photos / "a b.jpg"), tmp_path).code == 0
    prediction = read_prediction(tmp_path, "a b")
    width, height = Image.open(photos / "a b.jpg").size
    assert width != height
    for box, mask in zip(prediction["boxes"], prediction["masks"], strict=True):
        assert coco_mask.decode(mask).shape == (height, width)
        x1, y1, x2, y2 = box["coordinate"]
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert box["score"] > THRESHOLD


def test_a_drawing_keeps_the_colours_of_the_image(exported: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), (200, 90, 10)).save(tmp_path / "orange.png")
    outcome = run_predict(exported, str(tmp_path / "orange.png"), tmp_path / "out", Predict__threshold=1)
    assert outcome.code == 0, outcome.stderr
    drawing = np.asarray(Image.open(tmp_path / "out" / "orange_res.png").convert("RGB"))
    assert read_prediction(tmp_path / "out", "orange")["boxes"] == []
    assert (drawing == (200, 90, 10)).all()


def test_an_unreadable_image_among_good_ones_is_named_and_left_out(
    exported: Path, photos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(photos, own)
    (own / "broken.jpg").write_bytes(b"no image")
    outcome = run_predict(exported, str(own), tmp_path / "out")
    assert outcome.code == 0
    assert "broken.jpg" in outcome.stdout
    assert len(read_result(tmp_path / "out", "predict")["results"]) == 3


def test_only_unreadable_images_are_an_error_of_the_data(exported: Path, tmp_path: Path) -> None:
    for name in ("one.jpg", "two.png"):
        (tmp_path / name).write_bytes(b"no image")
    outcome = run_predict(exported, str(tmp_path), tmp_path / "out")
    assert outcome.code == 3
    assert "one.jpg" in outcome.stderr and "two.png" in outcome.stderr
    assert read_result(tmp_path / "out", "predict")["done_flag"] is False


@pytest.mark.parametrize("name", ["nothing.jpg", "empty folder", "*.png"])
def test_an_input_that_is_not_there_is_an_error_of_the_data(
    exported: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty folder").mkdir()
    outcome = run_predict(exported, str(tmp_path / name), tmp_path / "out")
    assert outcome.code == 3
    assert name in outcome.stderr


def test_a_missing_input_is_asked_for(exported: Path, tmp_path: Path) -> None:
    outcome = run_predict(exported, "null", tmp_path)
    assert outcome.code == 2
    assert "Predict.input" in outcome.stderr


def test_a_missing_model_is_named(photos: Path, tmp_path: Path) -> None:
    outcome = run_predict(tmp_path / "no model", str(photos), tmp_path / "out")
    assert outcome.code == 1
    assert "no model" in outcome.stderr and "Predict.model_dir" in outcome.stderr


@pytest.mark.parametrize("batch_size", [1, 3])
def test_prediction_and_evaluation_find_the_same(
    exported: Path, dataset: Path, tmp_path: Path, batch_size: int
) -> None:
    """Compare the exported network in the predictor with the dynamic network in mode evaluate."""
    coco = read_coco(annotation_file(dataset, "val"))
    files = [str(dataset / "images" / record.file_name) for record in coco.images]
    outcome = run_predict(exported, repr(files), tmp_path, Predict__batch_size=batch_size)
    assert outcome.code == 0, outcome.stderr
    backend = NetworkBackend(filled_model(), find_model("PP-YOLOE_seg-S").recipe.preprocess(IMAGE_SIZE))
    with WorkerPool(0) as pool:
        evaluated = predict_dataset(
            backend, coco, dataset / "images", batch_size=1, pool=pool, log_interval=10
        )
    for record in coco.images:
        expected = clip_to_image(evaluated[record.id].above(THRESHOLD))
        found = read_prediction(tmp_path, Path(record.file_name).stem)
        assert len(found["boxes"]) == len(expected) > 5
        assert [box["cls_id"] for box in found["boxes"]] == expected.class_ids.tolist()
        np.testing.assert_allclose([box["score"] for box in found["boxes"]], expected.scores, atol=1e-4)
        np.testing.assert_allclose(
            [box["coordinate"] for box in found["boxes"]], expected.boxes_xyxy, atol=1e-3
        )
        for ours, theirs in zip(found["masks"], expected.masks, strict=True):
            area = coco_mask.area(theirs)
            assert area == 0 or coco_mask.iou([ours], [theirs], [0])[0, 0] >= 0.999


def test_images_are_given_to_the_network_in_batches(
    exported: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sizes = PaddleBackend.__call__, []

    def counted(self: PaddleBackend, image: Any, *others: Any) -> Any:
        sizes.append(len(image))
        return run(self, image, *others)

    monkeypatch.setattr(PaddleBackend, "__call__", counted)
    assert run_predict(exported, str(photos), tmp_path, Predict__batch_size=2).code == 0
    assert sizes == [2, 1]


def test_without_a_threshold_the_models_own_is_used(exported: Path, photos: Path, tmp_path: Path) -> None:
    outcome = run_predict(exported, str(photos / "a b.jpg"), tmp_path, Predict__threshold="null")
    assert outcome.code == 0
    assert read_prediction(tmp_path, "a b")["boxes"] == []  # every score is below 0.5


def test_onednn_kernels_find_the_same(exported: Path, photos: Path, tmp_path: Path) -> None:
    image = str(photos / "a b.jpg")
    assert run_predict(exported, image, tmp_path / "plain").code == 0
    outcome = run_predict(exported, image, tmp_path / "mkldnn", Predict__kernel_option__run_mode="mkldnn")
    assert outcome.code == 0, outcome.stderr
    plain, fast = (read_prediction(tmp_path / name, "a b")["boxes"] for name in ("plain", "mkldnn"))
    assert len(plain) == len(fast)
    np.testing.assert_allclose(
        [box["coordinate"] for box in plain], [box["coordinate"] for box in fast], atol=0.1
    )


def test_class_names_without_a_font_are_told_once_and_drawn_where_there_is_one(
    photos: Path, tmp_path: Path
) -> None:
    model = export_toy(tmp_path / "toy")
    for name in "ab":
        Image.fromarray(image_with((64, 96), green=(slice(30, 60), slice(8, 60)))).save(
            tmp_path / f"{name}.png"
        )
    drawings = []
    for files in ((), (make_font(tmp_path / "Made.ttf", "绿色"),)):
        with only_fonts(*files):
            outcome = run_predict(model, f"{tmp_path}/*.png", tmp_path / f"output {len(files)}")
        assert outcome.code == 0, outcome.stderr
        notices = [line for line in outcome.stdout.splitlines() if "fonts-noto-cjk" in line]
        assert len(notices) == (0 if files else 1)
        assert all("绿色 (class 1)" in line and "WARNING" in line for line in notices)
        drawings.append(np.asarray(Image.open(tmp_path / f"output {len(files)}" / "a_res.png")))
    assert (drawings[0] != drawings[1]).any()
