"""AP against pycocotools, on its published results and on random problems."""

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paddlex_seg.metrics.coco_ap import evaluate_coco, results_to_coco_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")


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


def pycocotools_stats(document: dict, rows: list[dict], kind: str) -> list[float | None]:
    unused = "bbox" if kind == "segm" else "segmentation"
    rows = [{key: value for key, value in row.items() if key != unused} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else value for value in evaluation.stats[:9].tolist()]


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


def test_published_segm_results_give_the_published_numbers(shared_dir: Path):
    folder = shared_dir / "data" / "coco_eval"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    expected = json.loads((folder / "expected_pycocotools.json").read_text())["segm"]
    rows = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    for row in rows:
        row.setdefault("bbox", coco_mask.toBbox(row["segmentation"]).tolist())
    metrics = evaluate_rows(document, rows)
    assert values(metrics.segm) == pytest.approx(expected["stats"][:9], abs=1e-9)
    per_class = {str(one.category_id): one.AP for one in metrics.classes if one.AP is not None}
    assert per_class == pytest.approx(expected["per_category_AP"], abs=1e-9)


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
    assert values(metrics.bbox) == pytest.approx(expected["stats"][:9], abs=1e-9)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(8))
def test_random_problems_equal_pycocotools_on_the_written_predictions(seed: int, kind: str):
    document, rows = random_problem(seed)
    category_ids = [category["id"] for category in document["categories"]]
    results = group_rows(document, rows)
    written = json.loads(json.dumps(results_to_coco_json(results, category_ids)))
    metrics = evaluate_coco(coco_from_document(document), results, category_ids)
    expected = pycocotools_stats(document, written, kind)
    assert expected[0] is not None and 0 < expected[0] < 1
    assert values(getattr(metrics, kind)) == pytest.approx(expected, abs=1e-9)


def test_no_ground_truth_gives_null_and_says_why():
    document, rows = random_problem(0)
    document["annotations"] = []
    metrics = evaluate_rows(document, rows)
    assert values(metrics.segm) == values(metrics.bbox) == [None] * 9
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
