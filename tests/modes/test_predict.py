"""Mode predict: from images to visualizations and JSON, with the same results as mode evaluate."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """A file system of a few bytes. The test is skipped where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


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


def test_what_cannot_be_read_or_written_is_listed_and_the_rest_is_done(
    exported: Path, photos: Path, tmp_path: Path
) -> None:
    own, output = tmp_path / "own", tmp_path / "out"
    (own / "sub").mkdir(parents=True)
    good = photos / "a b.jpg"
    bad_names = [
        "caf\udce9.jpg",
        f"{'x' * 246}.jpg",
        f"{'y' * 249}.jpg",
        "broken.jpg",
        "link.jpg",
        "sub/c.jpg",
    ]
    shutil.copy(good, own / "good.jpg")
    for name in (*bad_names[:3], "sub/c.jpg"):
        shutil.copy(good, own / name)
    (own / "broken.jpg").write_bytes(b"no image")
    (own / "link.jpg").symlink_to(own / "nothing")
    output.mkdir()
    (output / "sub").write_text("in the way of the folder")
    outcome = run_predict(exported, str(own), output)
    assert outcome.code == 0, outcome.stderr
    result = read_result(output, "predict")
    # Of 250 bytes and more, only the name with an ending of the JSON above 255 bytes does not fit.
    assert {Path(row["input"]).name for row in result["results"]} == {"good.jpg", bad_names[1]}
    skipped = {row["input"]: row["problem"] for row in result["skipped"]}
    shown = [name.replace("\udce9", r"\xe9") for name in bad_names if name != bad_names[1]]
    assert sorted(skipped) == sorted(str(own / name) for name in shown)
    for name, problem in skipped.items():
        assert Path(name).stem in problem and problem in outcome.stdout
    assert "not valid UTF-8" in skipped[str(own / r"caf\xe9.jpg")]
    assert "File name too long" in skipped[str(own / bad_names[2])]
    files = {row[key] for row in result["results"] for key in ("image", "json")}
    assert {str(path) for path in output.rglob("*_res.*")} == files


def test_a_name_that_is_not_utf_8_is_told_when_it_is_the_only_one(
    exported: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(photos / "a b.jpg", tmp_path / "caf\udce9.jpg")
    outcome = run_predict(exported, str(tmp_path), tmp_path / "out")
    assert outcome.code == 1
    assert r"caf\xe9.jpg: the name is not valid UTF-8" in outcome.stderr
    assert read_result(tmp_path / "out", "predict")["done_flag"] is False


@pytest.mark.parametrize("limit", [150_000, 400_000])
def test_a_full_disk_ends_the_run_and_what_is_done_is_listed(
    exported: Path, photos: Path, tmp_path: Path, limit: int
) -> None:
    """In a file system of ``limit`` bytes, which holds a few of the results."""
    source, output = tmp_path / "in", tmp_path / "small"
    source.mkdir()
    for number in range(12):
        shutil.copy(photos / "a b.jpg", source / f"{number}.jpg")
    with small_disk(output, limit):
        outcome = run_predict(exported, str(source), output)
        assert outcome.code == 1
        assert "No space left on device" in outcome.stderr and str(output) in outcome.stderr
        assert "Traceback" not in outcome.stderr
        result = read_result(output, "predict")
        assert result["done_flag"] is False
        files = {row[key] for row in result["results"] for key in ("image", "json")}
        assert {str(path) for path in output.glob("*_res.*")} == files
        assert len(files) in range(2, 24)
        for row in result["results"]:
            assert json.loads(Path(row["json"]).read_text(encoding="utf-8"))["input_path"] == row["input"]
            Image.open(row["image"]).load()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng", ".tif"])
def test_only_the_first_frame_of_an_animation_is_used_and_that_is_said(
    exported: Path, tmp_path: Path, suffix: str
) -> None:
    first, *others = (Image.new("RGB", (64, 48), (0, 60 * shade, 0)) for shade in range(3))
    first.save(tmp_path / f"moving{suffix}", save_all=True, append_images=others)
    outcome = run_predict(exported, str(tmp_path), tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    results = read_result(tmp_path / "out", "predict")["results"]
    if suffix == ".tif":
        assert len(results) == 3 and "WARNING" not in outcome.stdout  # pages, not frames
    else:
        assert len(results) == 1
        assert f"moving{suffix} has 3 frames; only the first one is used" in outcome.stdout


def test_the_limit_of_pixels_can_be_raised(exported: Path, photos: Path, tmp_path: Path) -> None:
    width, height = Image.open(photos / "a b.jpg").size
    inputs, pixels = str(photos / "a b.jpg"), width * height
    outcome = run_predict(exported, inputs, tmp_path, Global__max_image_pixels=pixels - 1)
    assert outcome.code == 3
    assert f"has {pixels:,} pixels, the limit is {pixels - 1:,}" in outcome.stderr
    assert "Global.max_image_pixels" in outcome.stderr
    assert run_predict(exported, inputs, tmp_path, Global__max_image_pixels=pixels).code == 0


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
