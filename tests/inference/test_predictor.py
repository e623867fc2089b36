"""From images to results with an exported toy model."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from toy_model import SPEC, export_toy, image_with

from paddlex_seg.errors import BackendError
from paddlex_seg.files.written import REGISTER
from paddlex_seg.inference.export_spec import write_inference_yml
from paddlex_seg.inference.predictor import Predictor, open_predictor
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec


def to_bgr(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1])


def comparable(result) -> dict:
    return result.to_json() | {"input_path": None}


def rectangle_iou(rle: dict, where: tuple[slice, slice]) -> float:
    mask = coco_mask.decode(rle).astype(bool)
    expected = np.zeros_like(mask)
    expected[where] = True
    return (mask & expected).sum() / (mask | expected).sum()


@pytest.fixture
def images() -> list[np.ndarray]:
    """BGR images of different sizes with these objects: red and green, red, none, green, red."""
    box = np.s_[20:60, 30:90]
    return [
        to_bgr(image_with((128, 192), red=box, green=np.s_[80:120, 10:100])),
        to_bgr(image_with((100, 150), red=box)),
        to_bgr(image_with((90, 90))),
        to_bgr(image_with((64, 96), green=box)),
        to_bgr(image_with((200, 130), red=box)),
    ]


@pytest.mark.parametrize("graph", ["small_dir", "official_dir"])
def test_objects_are_found_with_the_right_colour_place_and_label(graph: str, request: pytest.FixtureRequest):
    predictor = open_predictor(request.getfixturevalue(graph))
    where = np.s_[40:120, 50:150]  # whole cells of the mask
    (result,) = predictor.predict(to_bgr(image_with((160, 240), green=where)))
    assert result.to_json()["boxes"] == [
        {"cls_id": 1, "label": "绿色", "score": pytest.approx(1.0), "coordinate": [0, 0, 240, 160]}
    ]
    assert rectangle_iou(result.instances.masks[0], where) > 0.95
    assert result.image[80, 100].tolist() == [0, 255, 0]


def test_both_graphs_give_the_same_results(small_dir: Path, official_dir: Path, images: list[np.ndarray]):
    for ours, official in zip(
        open_predictor(small_dir).predict(images),
        open_predictor(official_dir).predict(images),
        strict=True,
    ):
        assert ours.to_json()["boxes"] == official.to_json()["boxes"]
        for one, other in zip(ours.instances.masks, official.instances.masks, strict=True):
            assert (
                coco_mask.iou([one], [other], [0])[0, 0] > 0.97
            )  # the toy's official graph pastes in one step


def test_a_graph_without_boxes_gives_the_same_objects(
    official_dir: Path, boxless_dir: Path, images: list[np.ndarray]
):
    for official, boxless in zip(
        open_predictor(official_dir).predict(images),
        open_predictor(boxless_dir).predict(images),
        strict=True,
    ):
        assert boxless.instances.masks == official.instances.masks
        assert np.array_equal(boxless.instances.class_ids, official.instances.class_ids)
        assert np.array_equal(boxless.instances.scores, official.instances.scores)
        for box, rle in zip(boxless.instances.boxes_xyxy, boxless.instances.masks, strict=True):
            x, y, width, height = coco_mask.toBbox(rle)
            assert box.tolist() == [x, y, x + width, y + height]


@pytest.mark.parametrize("graph", ["small_dir", "official_dir"])
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_results_do_not_depend_on_the_batch(graph: str, batch_size: int, request, images: list[np.ndarray]):
    folder = request.getfixturevalue(graph)
    alone = [comparable(next(open_predictor(folder).predict(image))) for image in images]
    together = list(map(comparable, open_predictor(folder, batch_size=batch_size).predict(images)))
    assert [len(one["boxes"]) for one in alone] == [2, 1, 0, 1, 1]
    for one, other in zip(alone, together, strict=True):
        assert one["masks"] == other["masks"]
        assert [box["score"] for box in one["boxes"]] == pytest.approx(
            [box["score"] for box in other["boxes"]]
        )


class Counting:
    """Finds nothing, and records the shapes of its inputs."""

    def __init__(self, preprocess: PreprocessSpec, mask_frame: MaskFrame = "image") -> None:
        self.preprocess, self.mask_frame = preprocess, mask_frame
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, image: np.ndarray, im_shape: np.ndarray, scale_factor: np.ndarray) -> DetectionArrays:
        self.seen.append(image.shape)
        rows, numbers = np.zeros((0, 6), np.float32), np.zeros(len(image), np.int32)
        return DetectionArrays(rows, numbers, np.zeros((0, 16, 24), np.float32))


@pytest.mark.parametrize(
    ("backend", "order", "expected"),
    [
        (Counting(SPEC.preprocess), (0, 1, 2, 3, 4), [(2, 3, 64, 96), (2, 3, 64, 96), (1, 3, 64, 96)]),
        (
            Counting(PreprocessSpec((64, 96), keep_ratio=True)),
            (0, 1, 2, 3, 3),
            [(2, 3, 64, 96), (1, 3, 64, 64), (2, 3, 64, 96)],
        ),
        (Counting(SPEC.preprocess, "original"), (0, 1), [(1, 3, 64, 96)] * 2),
    ],
    ids=["one size", "several sizes", "full-size masks"],
)
def test_all_images_of_a_batch_have_the_same_input_size(
    backend: Counting, order: tuple[int, ...], expected: list, images: list[np.ndarray]
):
    predictor = Predictor(backend, labels=SPEC.labels, batch_size=2)
    assert len(list(predictor.predict([images[i] for i in order]))) == len(order)
    assert backend.seen == expected


@pytest.fixture
def half_red() -> np.ndarray:
    """One object with a score of 0.6."""
    return (to_bgr(image_with((64, 96), red=np.s_[8:40, 8:80])) * 0.6).astype(np.uint8)


def count(predictor: Predictor, image: np.ndarray, threshold: float | None = None) -> int:
    return len(next(predictor.predict(image, threshold=threshold)).instances)


def test_threshold_priority_is_call_then_constructor_then_model(small_dir: Path, half_red: np.ndarray):
    assert count(open_predictor(small_dir), half_red) == 1  # 0.5 in inference.yml
    assert count(open_predictor(small_dir, threshold=0.7), half_red) == 0
    assert count(open_predictor(small_dir, threshold=0.7), half_red, threshold=0.55) == 1
    assert count(open_predictor(small_dir, threshold=0.1), half_red, threshold=0.65) == 0


@pytest.mark.parametrize("graph", ["small_dir", "official_dir"])
def test_a_threshold_of_zero_is_honoured_and_adds_no_false_rows(graph: str, request: pytest.FixtureRequest):
    faint = to_bgr(image_with((64, 96), red=np.s_[8:40, 8:80]) // 10)
    folder = request.getfixturevalue(graph)
    assert count(open_predictor(folder), faint) == 0
    assert count(open_predictor(folder, threshold=0), faint) == 1
    assert count(open_predictor(folder), faint, threshold=0) == 1
    assert count(open_predictor(folder), np.zeros((64, 96, 3), np.uint8), threshold=0) == 0


def test_a_folder_is_predicted_and_saved_without_overwriting(small_dir: Path, tmp_path: Path):
    for name, colour in (
        ("left/part 1.png", "red"),
        ("right/part 1.png", "green"),
        ("right/part 1.jpg", "red"),
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_with((64, 96), **{colour: np.s_[8:40, 8:80]})).save(path)
    labels = {}
    for result in open_predictor(small_dir, batch_size=2).predict(tmp_path / "in"):
        written = json.loads(result.save_to_json(tmp_path / "out").read_text(encoding="utf-8"))
        labels[written["input_path"]] = written["boxes"][0]["label"]
        result.save_to_img(tmp_path / "out")
    files = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("[!.]*.*")
    )
    assert files == [
        "left/part 1_res.json",
        "left/part 1_res.png",
        "right/part 1_2_res.json",
        "right/part 1_2_res.png",
        "right/part 1_res.jpg",
        "right/part 1_res.json",
    ]
    assert labels[str(tmp_path / "in" / "right" / "part 1.png")] == "绿色"
    assert len(labels) == 3


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_bad_inputs_are_error_results_in_their_places(
    small_dir: Path, tmp_path: Path, half_red: np.ndarray, batch_size: int, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    bad = [tmp_path / "broken.jpg", tmp_path / "missing.jpg", tmp_path / "no*.png", None]
    inputs = [half_red, bad[0], bad[1], half_red, bad[2], bad[3], half_red]
    with caplog.at_level(logging.WARNING):
        results = list(open_predictor(small_dir, batch_size=batch_size).predict(inputs))
    assert ["error" in result for result in results] == [False, True, True, False, True, True, False]
    assert [len(result["boxes"]) for result in results] == [1, 0, 0, 1, 0, 0, 1]
    for result in results:
        assert result["error"] == result.error == result.get("error")
        assert len(result.masks) == len(result.boxes) == len(result.instances)
    for name, result in zip(("broken.jpg", "missing.jpg", "no*.png", "NoneType"), results[1:3], strict=False):
        assert name in result.error and name in caplog.text


def test_saving_a_bad_input_ends_nothing(small_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (result,) = open_predictor(small_dir).predict(tmp_path / "missing.jpg")
    result.print()
    assert result.save_to_img(tmp_path / "out") is None
    assert "missing.jpg" in caplog.text
    saved = json.loads(result.save_to_json(tmp_path / "out").read_text(encoding="utf-8"))
    assert saved["error"] == result.error and saved["boxes"] == saved["masks"] == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"missing_res.json", REGISTER}


class Failing(Counting):
    """Cannot run with images that are all white."""

    def __call__(self, image: np.ndarray, im_shape: np.ndarray, scale_factor: np.ndarray) -> DetectionArrays:
        if (image.max(axis=(1, 2, 3)) >= 1).any():
            raise BackendError("Paddle Inference could not run the model")
        return super().__call__(image, im_shape, scale_factor)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_image_on_which_the_model_fails_ends_nothing(batch_size: int):
    black, white = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)
    predictor = Predictor(Failing(SPEC.preprocess), labels=SPEC.labels, batch_size=batch_size)
    results = list(predictor.predict([black, white, black, black, white]))
    assert [result.error is not None for result in results] == [False, True, False, False, True]
    assert "could not run" in results[1].error


def test_predictions_begin_when_the_first_result_is_asked_for(small_dir: Path, half_red: np.ndarray):
    taken = []

    def camera():
        for number in range(3):
            taken.append(number)
            yield half_red

    results = open_predictor(small_dir).predict(camera())
    assert taken == []
    next(results)
    assert taken == [0]
    assert len(list(results)) == 2


def test_more_classes_than_labels_are_an_error_not_a_wrong_label(tmp_path: Path):
    folder = export_toy(tmp_path)
    write_inference_yml(folder / "inference.yml", replace(SPEC, labels=("red thing",)))
    with pytest.raises(BackendError, match="label_list"):
        list(open_predictor(folder).predict(to_bgr(image_with((64, 96), green=np.s_[8:40, 8:80]))))
