"""The AP of parts of a data set."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from eval_problems import make_problem

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.results import read_results
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.slices import (
    ImageLook,
    ImageSlice,
    ObjectSlice,
    find_slices,
    look_at,
    measure_images,
    measure_slices,
    quarters,
)
from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.metrics.bootstrap import resample_weights
from paddlex_seg.metrics.coco_ap import evaluate_coco
from paddlex_seg.metrics.overlaps import measure_overlaps, truth_of
from paddlex_seg.structures import CocoFile, Id, ImageRecord, Instances

Problem = tuple[CocoFile, dict[Id, Instances]]


def problem(tmp_path: Path, seed: int, *, num_images: int = 20, **options: Any) -> Problem:
    document, rows = make_problem(seed, num_images=num_images, **options)
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.png"
    for name, content in (("truth", document), ("results", rows)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    coco = read_coco(tmp_path / "truth.json")
    return coco, read_results(tmp_path / "results.json", coco).instances


def results_by_name(
    coco: CocoFile, results: dict[Id, Instances], looks: dict[Id, ImageLook] | None = None, **options: Any
) -> dict[tuple[str, str], Any]:
    truth = truth_of(coco)
    slices, _ = find_slices(coco, truth, looks)
    overlaps = measure_overlaps(coco, results, [one.id for one in coco.categories], truth=truth)
    found = measure_slices(slices, coco, truth, results, overlaps, **options)
    assert len({(one.group, one.value) for one in found}) == len(found)
    return {(one.group, one.value): one for one in found}


@pytest.mark.parametrize("seed", range(3))
def test_ap_of_images_is_that_of_an_evaluation_of_these_images(tmp_path: Path, seed: int) -> None:
    coco, results = problem(tmp_path, seed, crowds=True)
    cameras = {image.id: "left" if image.id % 3 else "right" for image in coco.images}  # type: ignore[operator]
    named = replace(
        coco, images=tuple(replace(image, extra={"camera": cameras[image.id]}) for image in coco.images)
    )
    found = results_by_name(named, results)
    for camera in ("left", "right"):
        own = {id for id, name in cameras.items() if name == camera}
        part = replace(
            coco,
            images=tuple(image for image in coco.images if image.id in own),
            annotations=tuple(item for item in coco.annotations if item.image_id in own),
        )
        expected = evaluate_coco(
            part,
            {id: one for id, one in results.items() if id in own},
            [one.id for one in coco.categories],
        )
        slice_of = found["camera", camera]
        assert slice_of.ap == expected.segm.AP and slice_of.ap is not None
        assert slice_of.num_images == len(own)
        assert slice_of.num_objects == sum(not item.iscrowd for item in part.annotations)


@pytest.mark.parametrize("seed", range(3))
def test_ap_of_sizes_is_cocos(tmp_path: Path, seed: int) -> None:
    coco, results = problem(tmp_path, seed, crowds=True, num_images=60)
    found = results_by_name(coco, results)
    expected = evaluate_coco(coco, results, [one.id for one in coco.categories]).segm
    assert found["object size (COCO)", "small"].ap == expected.APs is not None
    assert found["object size (COCO)", "medium"].ap == expected.APm is not None
    assert found["object size (COCO)", "large"].ap is None
    assert found["object size (COCO)", "large"].num_objects == 0


def test_each_object_is_in_one_slice_of_each_property(tmp_path: Path) -> None:
    coco, results = problem(tmp_path, 1)
    looks = {image.id: ImageLook(float(image.id), 3, 5 + image.id % 2) for image in coco.images}  # type: ignore[operator, arg-type]
    found = results_by_name(coco, results, looks)
    groups: dict[str, int] = {}
    for (group, _), one in found.items():
        groups[group] = groups.get(group, 0) + one.num_objects
    assert set(groups.values()) == {len(coco.annotations)}
    assert set(groups) == {
        *("object size (COCO)", "object size (quarters)", "border", "aspect"),
        *("objects in the image", "brightness", "sharpness"),  # the contrast is the same everywhere
    }


def perfect(coco: CocoFile) -> dict[Id, Instances]:
    """The annotated objects as detections."""
    truth, classes = truth_of(coco), {one.id: place for place, one in enumerate(coco.categories)}
    found = {}
    for image in coco.images:
        places = [place for place, item in enumerate(coco.annotations) if item.image_id == image.id]
        boxes = truth.boxes_xywh[places].reshape(-1, 4)
        found[image.id] = Instances(
            size_hw=(image.height, image.width),
            class_ids=np.array([classes[coco.annotations[place].category_id] for place in places], np.int64),
            scores=np.full(len(places), 0.5, np.float32),
            boxes_xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            masks=tuple(truth.masks[place] for place in places),
        )
    return found


def test_a_false_detection_counts_where_it_belongs(tmp_path: Path) -> None:
    """A narrow false detection at the border costs AP of what is cut, not of what is inside."""
    coco, _ = problem(tmp_path, 2)
    results = perfect(coco)
    before = results_by_name(coco, results)
    assert before["border", "inside"].ap == before["border", "cut by the border"].ap == 1
    id, one = next((id, one) for id, one in results.items() if len(one))
    mask = np.zeros(one.size_hw, np.uint8)
    mask[90:, :2] = 1
    results[id] = Instances(
        size_hw=one.size_hw,
        class_ids=np.append(one.class_ids, one.class_ids[0]),
        scores=np.append(one.scores, np.float32(0.9)),
        boxes_xyxy=np.concatenate([one.boxes_xyxy, np.array([[0, 90, 2, 96]], np.float32)]),
        masks=(*one.masks, mask_to_rle(mask)),
    )
    after = results_by_name(coco, results)
    assert after["border", "cut by the border"].ap < 1
    assert after["border", "inside"].ap == after["aspect", "from 1:2 to 2:1"].ap == 1


def test_few_objects_have_no_ap(tmp_path: Path) -> None:
    coco, results = problem(tmp_path, 1)
    first = coco.images[0].id
    images = tuple(replace(image, extra={"site": "a" if image.id == first else "b"}) for image in coco.images)
    found = results_by_name(replace(coco, images=images), results)
    few = found["site", "a"]
    assert 0 < few.num_objects < 10 and few.ap is None and few.num_images == 1
    assert found["site", "b"].ap is not None


def test_intervals_are_about_the_ap(tmp_path: Path) -> None:
    coco, results = problem(tmp_path, 3)
    weights = resample_weights(len(coco.images), 50)
    found = results_by_name(coco, results, weights=weights)
    for one in found.values():
        assert (one.interval is None) == (one.ap is None)
        if one.interval is not None and one.ap is not None:
            assert one.interval.low < one.interval.high
            assert one.interval.low - 0.2 < one.ap < one.interval.high + 0.2


# ---- properties of images


def columns(**values: list[Any]) -> tuple[dict[tuple[str, str], int], list[str]]:
    """The slices of image records with these columns, and the notes."""
    number = len(next(iter(values.values())))
    images = tuple(
        ImageRecord(
            place, f"{place}.png", 8, 8, {name: column[place] for name, column in values.items() if column}
        )
        for place in range(number)
    )
    coco = CocoFile(Path("truth.json"), images, (), ())
    slices, notes = find_slices(coco, truth_of(coco))
    return {
        (one.group, one.value): len(one.image_ids) for one in slices if isinstance(one, ImageSlice)
    }, notes


def test_a_column_is_cut_into_its_values() -> None:
    found, notes = columns(camera=["b", "a", "b", None], day=[True, False, True, True], same=[1, 1, 1, 1])
    assert found == {
        ("camera", "(none)"): 1,
        ("camera", "a"): 1,
        ("camera", "b"): 2,
        ("day", "False"): 1,
        ("day", "True"): 3,
    }
    assert notes == []


def test_dates_are_cut_into_months_or_days() -> None:
    many = [f"2024-{1 + place % 3:02}-0{1 + place % 9} 10:00:{place:02}" for place in range(30)]
    assert columns(date_captured=many)[0] == {
        ("date_captured", month): 10 for month in ("2024-01", "2024-02", "2024-03")
    }
    exif = [f"2024:5:{1 + place % 2} 10:00:{place:02}" for place in range(30)]
    assert columns(taken=exif)[0] == {("taken", day): 15 for day in ("2024-05-01", "2024-05-02")}


def test_many_numbers_are_quarters_and_many_texts_a_note() -> None:
    found, notes = columns(
        exposure=[place / 10 for place in range(20)],
        url=[f"http://x/{place}" for place in range(20)],
        tags=[["a"] for _ in range(20)],
    )
    assert list(found.items()) == [
        (("exposure", "0 to 0.4"), 5),
        (("exposure", "0.5 to 0.9"), 5),
        (("exposure", "1 to 1.4"), 5),
        (("exposure", "1.5 to 1.9"), 5),
    ]
    assert notes == ["Columns of the image records with more than 12 values are no slices: url."]


def test_hostile_columns_are_no_error() -> None:
    found, _ = columns(
        **{"<script>": ["\ud800", "\n"] * 10},
        number=[float("nan"), float("inf"), 10**400, -0.0] * 5,
        mixed=["1", 1, 1.0, None] * 5,
    )
    assert found["<script>", "\n"] == 10
    assert found["mixed", "1"] == 15


@pytest.mark.parametrize("seed", range(5))
def test_quarters_cover_each_value_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, (2, 3, 9, 1000, 5)[seed], 50) + random.choice([0, 0.5])
    ranges = quarters(values.astype(float))
    assert 2 <= len(ranges) <= 4
    inside = [((values >= low) & (values <= high)).sum() for _, low, high in ranges]
    assert sum(inside) == 50 and min(inside) > 0
    assert len({label for label, _, _ in ranges}) == len(ranges)


def test_equal_values_have_no_quarters() -> None:
    assert quarters(np.full(9, 3.0)) == quarters(np.zeros(0)) == []


# ---- how images look


def write_image(path: Path, pixels: np.ndarray) -> None:
    assert cv2.imwrite(str(path), pixels)


def test_images_are_measured(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    write_image(tmp_path / "sharp.png", noise)
    write_image(tmp_path / "blurred.png", cv2.GaussianBlur(noise, (0, 0), 3))
    write_image(tmp_path / "dark.jpg", noise // 8)
    write_image(tmp_path / "flat.png", np.full((20, 20, 3), 200, np.uint8))
    write_image(tmp_path / "large.png", cv2.resize(noise, (4000, 3000), interpolation=cv2.INTER_NEAREST))
    names = ("sharp.png", "blurred.png", "dark.jpg", "flat.png", "large.png", "missing.png", "../a.png")
    coco = CocoFile(Path("truth.json"), tuple(ImageRecord(name, name, 400, 300) for name in names), (), ())
    with WorkerPool(0) as pool:
        looks = measure_images(coco, tmp_path, pool)
    assert set(looks) == set(names[:5])
    assert looks["flat.png"] == (200, 0, 0)
    assert looks["sharp.png"].sharpness > 20 * looks["blurred.png"].sharpness
    assert looks["dark.jpg"].brightness == pytest.approx(looks["sharp.png"].brightness / 8, abs=2)
    assert looks["dark.jpg"].contrast < looks["sharp.png"].contrast / 4
    # Enlarged ten times, the image is measured at nearly its own size again.
    assert looks["large.png"].sharpness > looks["sharp.png"].sharpness / 8
    _, notes = find_slices(coco, truth_of(coco), looks)
    assert notes[0].startswith("2 of 7 images cannot be read")


def test_workers_measure_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for place in range(6):
        write_image(tmp_path / f"{place}.png", random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    records = tuple(ImageRecord(place, f"{place}.png", 40, 30) for place in range(6))
    with WorkerPool(2) as pool:
        looks = measure_images(CocoFile(Path("t.json"), records, (), ()), tmp_path, pool)
    assert looks == {record.id: look_at(tmp_path, record) for record in records}


def test_slices_of_objects_have_limits_that_meet(tmp_path: Path) -> None:
    coco, _ = problem(tmp_path, 0)
    slices, _ = find_slices(coco, truth_of(coco))
    for group in ("border", "aspect", "object size (quarters)"):
        own = [one for one in slices if isinstance(one, ObjectSlice) and one.group == group]
        for first, second in zip(own, own[1:], strict=False):
            assert np.nextafter(first.high, np.inf) == second.low
