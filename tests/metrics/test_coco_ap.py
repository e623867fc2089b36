"""AP against pycocotools, on its published results and on random problems."""

import json
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_oracle import result_rows, run_pycocotools, truth_document, twelve_figures
from pycocotools import mask as coco_mask

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.metrics.coco_ap import evaluate_coco, results_to_coco_json
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Instances

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_from_document(document: dict) -> CocoFile:
    return CocoFile(
        path=Path("val.json"),
        images=tuple(
            ImageRecord(id=i["id"], file_name=f"{i['id']}.jpg", width=i["width"], height=i["height"])
            for i in document["images"]
        ),
        annotations=tuple(
            Annotation(
                id=a["id"],
                image_id=a["image_id"],
                category_id=a["category_id"],
                segmentation=a["segmentation"],
                bbox_xywh=tuple(a["bbox"]) if "bbox" in a else None,
                area=a.get("area"),
                iscrowd=bool(a.get("iscrowd", 0)),
            )
            for a in document["annotations"]
        ),
        categories=tuple(Category(id=c["id"], name=c["name"]) for c in document["categories"]),
    )


def to_instances(rows: list[dict], class_of_id: dict[int, int], size_hw: tuple[int, int]) -> Instances:
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    return Instances(
        size_hw=size_hw,
        class_ids=np.array([class_of_id[row["category_id"]] for row in rows], np.int64),
        scores=np.array([row["score"] for row in rows]),
        boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
        masks=tuple(
            {"size": r["segmentation"]["size"], "counts": r["segmentation"]["counts"].encode()} for r in rows
        ),
    )


def random_problem(seed: int) -> tuple[dict, list[dict]]:
    """Ellipses of three classes, the third without objects. Detections are shifted copies and false ones."""
    rng = np.random.default_rng(seed)
    document: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": f"c{i}"} for i in (3, 7, 20)],
    }
    rows: list[dict] = []
    for image_id in range(6):
        size = (int(rng.integers(60, 300)), int(rng.integers(60, 300)))
        document["images"].append({"id": image_id, "height": size[0], "width": size[1]})
        for _ in range(rng.integers(0, 6)):
            centre, axes = rng.uniform(0, size), rng.uniform(4, 80, 2)
            category_id = int(rng.choice([3, 7]))
            add_truth(
                document, image_id, category_id, ellipse(size, centre, axes), iscrowd=rng.random() < 0.15
            )
            for _ in range(rng.integers(0, 4)):
                moved = ellipse(size, centre + rng.normal(0, 4, 2), axes * rng.uniform(0.8, 1.2, 2))
                rows.append(prediction(image_id, category_id, moved, rng))
        for _ in range(130 if image_id == 0 else 3):  # image 0 has more than the maximum of 100 detections
            nonsense = ellipse(size, rng.uniform(0, size), rng.uniform(2, 60, 2))
            rows.append(prediction(image_id, int(rng.choice([3, 7, 20])), nonsense, rng))
    return document, rows


def ellipse(size: tuple[int, int], centre: np.ndarray, axes: np.ndarray) -> dict:
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, centre[::-1].astype(int).tolist(), axes.astype(int).tolist(), 0, 0, 360, 1, -1)
    return coco_mask.encode(np.asfortranarray(mask))


def add_truth(document: dict, image_id: int, category_id: int, rle: dict, iscrowd: bool) -> None:
    document["annotations"].append(
        {
            "id": len(document["annotations"]) + 1,
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": rle,
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": float(coco_mask.area(rle)),
            "iscrowd": int(iscrowd),
        }
    )


def prediction(image_id: int, category_id: int, rle: dict, rng: np.random.Generator) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "bbox": (coco_mask.toBbox(rle) + rng.normal(0, 1, 4).clip(-0.4, 0.4)).tolist(),
        "score": float(np.round(rng.random(), 2)),  # rounded: many ties
    }


def group_rows(document: dict, rows: list[dict]) -> dict[int, Instances]:
    class_of_id = {c["id"]: index for index, c in enumerate(document["categories"])}
    results = {}
    for image in document["images"]:
        own = [row for row in rows if row["image_id"] == image["id"]]
        results[image["id"]] = to_instances(own, class_of_id, (image["height"], image["width"]))
    return results


def evaluate_rows(document: dict, rows: list[dict], **options: bool):
    category_ids = [category["id"] for category in document["categories"]]
    return evaluate_coco(coco_from_document(document), group_rows(document, rows), category_ids, **options)


def values(summary) -> list[float | None]:
    return [getattr(summary, name) for name in NAMES]


def require_equal(coco: CocoFile, results: dict, category_ids: list, most: int = 100) -> None:
    """All figures, also those of each class, are pycocotools' to the last bit."""
    metrics, document = evaluate_coco(coco, results, category_ids), truth_document(coco)
    for kind in ("segm", "bbox"):
        rows = result_rows(coco, results, category_ids, kind)
        expected = run_pycocotools(document, rows, kind)
        assert astuple(getattr(metrics, kind)) == tuple(twelve_figures(expected))
        for k, own in enumerate(metrics.classes):
            assert astuple(getattr(own, kind)) == tuple(twelve_figures(expected, slice(k, k + 1)))
        if metrics.all_detections is not None:
            expected = run_pycocotools(document, rows, kind, metrics.all_detections.max_detections)
            assert astuple(getattr(metrics.all_detections, kind)) == tuple(twelve_figures(expected))


def test_published_segm_results_give_the_published_numbers(shared_dir: Path):
    folder = shared_dir / "data" / "coco_eval"
    coco = read_coco(folder / "instances_val2014_100.json")
    expected = json.loads((folder / "expected_pycocotools.json").read_text())["segm"]
    rows = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    for row in rows:
        row.setdefault("bbox", coco_mask.toBbox(row["segmentation"]).tolist())
    ids = [category.id for category in coco.categories]
    results = group_rows(json.loads((folder / "instances_val2014_100.json").read_text()), rows)
    metrics = evaluate_coco(coco, results, ids)
    assert list(astuple(metrics.segm)) == expected["stats"]
    per_class = {str(one.category_id): one.AP for one in metrics.classes if one.AP is not None}
    assert per_class == expected["per_category_AP"]
    require_equal(coco, results, ids)


def test_published_bbox_results_give_the_published_numbers(shared_dir: Path):
    folder = shared_dir / "data" / "coco_eval"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    expected = json.loads((folder / "expected_pycocotools.json").read_text())["bbox"]
    rows = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    size_of_id = {image["id"]: [image["height"], image["width"]] for image in document["images"]}
    for row in rows:
        size = size_of_id[row["image_id"]]
        rle = coco_mask.encode(np.zeros(size, np.uint8, order="F"))
        row["segmentation"] = {"size": size, "counts": rle["counts"].decode()}
    metrics = evaluate_rows(document, rows)
    assert list(astuple(metrics.bbox)) == expected["stats"]
    assert {str(one.category_id): one.bbox.AP for one in metrics.classes if one.bbox.AP is not None} == (
        expected["per_category_AP"]
    )


@pytest.mark.parametrize("part", range(10))
def test_random_problems_equal_pycocotools_bit_by_bit(part: int):
    for seed in range(20 * part, 20 * part + 20):
        document, rows = random_problem(seed)
        ids = [category["id"] for category in document["categories"]]
        require_equal(coco_from_document(document), group_rows(document, rows), ids)


def test_the_written_predictions_give_the_same_figures_in_pycocotools():
    document, rows = random_problem(0)
    category_ids = [category["id"] for category in document["categories"]]
    results = group_rows(document, rows)
    written = json.loads(json.dumps(results_to_coco_json(results, category_ids)))
    metrics = evaluate_coco(coco_from_document(document), results, category_ids)
    for kind, unused in (("segm", "bbox"), ("bbox", "segmentation")):
        own = [{key: value for key, value in row.items() if key != unused} for row in written]
        expected = twelve_figures(run_pycocotools(document, own, kind))
        assert expected[0] is not None and 0 < expected[0] < 1
        assert list(astuple(getattr(metrics, kind))) == expected


EDGES = {
    "no truth": lambda coco, results: (replace(coco, annotations=()), results),
    "no detections": lambda coco, results: (coco, {}),
    "neither": lambda coco, results: (replace(coco, annotations=()), {}),
    "only crowds": lambda coco, results: (
        replace(coco, annotations=tuple(replace(one, iscrowd=True) for one in coco.annotations)),
        results,
    ),
    "one class": lambda coco, results: (
        replace(
            coco,
            annotations=tuple(replace(one, category_id=3) for one in coco.annotations),
            categories=coco.categories[:1],
        ),
        results,
    ),
    "ids with gaps": lambda coco, results: renamed(coco, results, lambda id: 10 * id + 7),
    "ids beyond 2^53": lambda coco, results: renamed(coco, results, lambda id: 2**53 + 1 + id),
    "text ids": lambda coco, results: renamed(coco, results, lambda id: f"b{9 - id}"),
    "mixed ids": lambda coco, results: renamed(coco, results, lambda id: id if id % 2 else f"b{id}"),
    "duplicate names": lambda coco, results: (
        replace(
            coco,
            images=tuple(replace(one, file_name="a.jpg") for one in coco.images),
            categories=tuple(replace(one, name="same") for one in coco.categories),
        ),
        results,
    ),
}


def renamed(coco: CocoFile, results: dict, rename: Callable[[int], Id]) -> tuple[CocoFile, dict]:
    return replace(
        coco,
        images=tuple(replace(one, id=rename(one.id)) for one in coco.images),
        annotations=tuple(
            replace(one, id=rename(one.id), image_id=rename(one.image_id)) for one in coco.annotations
        ),
    ), {rename(id): found for id, found in results.items()}


@pytest.mark.parametrize("edge", EDGES)
def test_edges_equal_pycocotools_bit_by_bit(edge: str):
    for seed in range(3):
        document, rows = random_problem(seed)
        coco, results = EDGES[edge](coco_from_document(document), group_rows(document, rows))
        require_equal(coco, results, [3, 7, 20])


@pytest.mark.parametrize("rename", [lambda id: id * 1000 + 1, lambda id: f"k{9 - id}", lambda id: 2**60 - id])
def test_categories_may_have_any_ids(rename: Callable[[int], Id]):
    document, rows = random_problem(5)
    coco = coco_from_document(document)
    ids = [rename(category.id) for category in coco.categories]
    coco = replace(
        coco,
        annotations=tuple(replace(one, category_id=rename(one.category_id)) for one in coco.annotations),
        categories=tuple(replace(one, id=id) for one, id in zip(coco.categories, ids, strict=True)),
    )
    require_equal(coco, group_rows(document, rows), ids)


def test_images_with_more_than_100_objects_are_also_evaluated_with_all_detections():
    rng = np.random.default_rng(0)
    document: dict = {
        "images": [{"id": 1, "height": 400, "width": 400}, {"id": 2, "height": 400, "width": 400}],
        "annotations": [],
        "categories": [{"id": 1, "name": "grain"}],
    }
    rows = []
    for number in range(144):
        mask = ellipse(
            (400, 400), np.array([20 + 30 * (number // 12), 20 + 30 * (number % 12)]), np.array([9, 9])
        )
        add_truth(document, 1, 1, mask, iscrowd=False)
        rows += [prediction(1, 1, mask, rng)] * 2  # the second finds nothing
    metrics = evaluate_rows(document, rows)
    assert metrics.segm.AR100 < 0.8
    assert metrics.all_detections.max_detections == 288
    assert metrics.all_detections.segm.AR100 == 1.0
    assert set(metrics.to_json()["all_detections"]["segm"]) >= {"AP", "AR288"}
    assert "more than 100 objects" in metrics.note and "288" in metrics.table()
    require_equal(coco_from_document(document), group_rows(document, rows), [1])


def test_detections_of_classes_that_the_file_does_not_list_are_left_out():
    document, rows = random_problem(1)
    coco, results = coco_from_document(document), group_rows(document, rows)
    without = replace(
        coco,
        categories=coco.categories[1:],
        annotations=tuple(one for one in coco.annotations if one.category_id != 3),
    )
    require_equal(without, results, [3, 7, 20])


def test_no_ground_truth_gives_null_and_says_why():
    document, rows = random_problem(0)
    document["annotations"] = []
    metrics = evaluate_rows(document, rows)
    assert values(metrics.segm) == values(metrics.bbox) == [None] * 12
    assert "has no objects, so AP cannot be computed" in metrics.note
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["AP"] is None


def test_no_detections_give_zero():
    document, _ = random_problem(0)
    metrics = evaluate_rows(document, [])
    assert metrics.segm.AP == metrics.bbox.AP == metrics.segm.AR100 == 0.0


def test_images_missing_from_the_results_count_as_missed():
    document, rows = random_problem(1)
    results = group_rows(document, rows)
    del results[3]
    with_empty = results | {3: to_instances([], {}, (10, 10))}
    coco = coco_from_document(document)
    assert evaluate_coco(coco, results, [3, 7, 20]) == evaluate_coco(coco, with_empty, [3, 7, 20])


def test_a_class_without_objects_is_left_out_of_the_mean_and_named():
    document, rows = random_problem(2)
    metrics = evaluate_rows(document, rows)
    by_name = {one.name: one.AP for one in metrics.classes}
    assert by_name["c20"] is None
    assert metrics.segm.AP == pytest.approx((by_name["c3"] + by_name["c7"]) / 2)
    assert "c20" in metrics.note


def test_an_annotation_with_id_0_is_evaluated():
    document, rows = random_problem(3)
    expected = evaluate_rows(document, rows)
    for annotation in document["annotations"]:
        annotation["id"] -= 1
    assert evaluate_rows(document, rows) == expected


def test_class_indices_follow_the_given_category_ids_not_their_order_in_the_file():
    document, rows = random_problem(4)
    expected = evaluate_rows(document, rows)
    document["categories"].reverse()
    assert evaluate_rows(document, rows).segm == expected.segm


def test_size_class_comes_from_the_area_of_the_mask():
    document, _ = random_problem(5)
    document["annotations"] = [a for a in document["annotations"] if not a["iscrowd"] and a["area"] < 90**2]
    assert document["annotations"]
    rng = np.random.default_rng(0)
    perfect = [
        {**prediction(a["image_id"], a["category_id"], a["segmentation"], rng), "bbox": a["bbox"]}
        for a in document["annotations"]
    ]
    for annotation in document["annotations"]:
        annotation["area"] = 1e6
    metrics = evaluate_rows(document, perfect, also_as_in_file=True)
    assert metrics.segm.APl is None
    assert metrics.as_in_file.segm.APl is not None
    assert (metrics.as_in_file.num_boxes, metrics.as_in_file.num_areas) == (0, len(perfect))
    for annotation in document["annotations"]:
        del annotation["area"], annotation["bbox"]
    metrics = evaluate_rows(document, perfect)
    assert metrics.segm.APl is None
    assert metrics.bbox.AP == pytest.approx(1.0)


def test_uncompressed_rle_polygons_and_compressed_text_are_read_alike():
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 40.0, 10.0, 40.0]]
    rle = coco_mask.merge(coco_mask.frPyObjects(square, 50, 60))
    flat = coco_mask.decode(rle).flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    found = {
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": [50, 60], "counts": rle["counts"].decode()},
        "bbox": [10, 10, 20, 30],
        "score": 0.5,
    }
    for segmentation in (square, {"size": [50, 60], "counts": counts}, found["segmentation"]):
        document = {
            "images": [{"id": 1, "height": 50, "width": 60}],
            "categories": [{"id": 1, "name": "square"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation}],
        }
        assert evaluate_rows(document, [found]).segm.AP == pytest.approx(1.0)


def test_evaluation_prints_nothing(capfd: pytest.CaptureFixture[str]):
    document, rows = random_problem(6)
    evaluate_rows(document, rows)
    assert capfd.readouterr() == ("", "")


def test_table_shows_the_numbers_and_a_dash_for_missing_ones():
    document, rows = random_problem(2)
    metrics = evaluate_rows(document, rows)
    lines = metrics.table().splitlines()
    assert lines[1].startswith("segm") and f"{metrics.segm.AP:.3f}" in lines[1]
    assert lines[2].startswith("bbox") and f"{metrics.bbox.AP50:.3f}" in lines[2]
    assert any(line.split() == ["-", "c20"] for line in lines)
