import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, draw_scene, main, write_demo_dataset
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    written = write_demo_dataset(folder, num_train=12, num_val=4)
    assert written == [folder / COCO_FOLDER, folder / LABELME_FOLDER]
    return folder


def masks_by_image(demo: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for split in ("train", "val"):
        coco = read_coco(demo / COCO_FOLDER / "annotations" / f"instance_{split}.json")
        names = {category.id: category.name for category in coco.categories}
        for record in coco.images:
            items = [item for item in coco.annotations if item.image_id == record.id]
            found[record.file_name] = [
                (names[item.category_id], decoded(item, record.height, record.width)) for item in items
            ]
    return found


def decoded(annotation: Annotation, height: int, width: int) -> np.ndarray:
    return mask_tools.decode(annotation_to_rle(annotation, height, width)).astype(bool)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_written_masks_equal_the_drawn_masks(demo: Path) -> None:
    for number, objects in enumerate(masks_by_image(demo).values()):
        scene = draw_scene(number)
        assert [label for label, _ in objects] == list(scene.labels)
        for (_, written), drawn in zip(objects, scene.masks, strict=True):
            assert iou(written, drawn) > 0.97


def test_masks_match_the_objects_and_do_not_overlap() -> None:
    scene = draw_scene(0)
    assert sum(mask.astype(int) for mask in scene.masks).max() == 1
    for mask in scene.masks:
        assert 300 < mask.sum() < 0.2 * mask.size


def test_every_kind_of_segmentation_occurs(demo: Path) -> None:
    coco = read_coco(demo / COCO_FOLDER / "annotations" / "instance_train.json")
    kinds = set()
    for item in coco.annotations:
        if isinstance(item.segmentation, list):
            kinds.add("one polygon" if len(item.segmentation) == 1 else "several polygons")
        else:
            kinds.add(type(item.segmentation["counts"]))
    assert kinds == {"one polygon", "several polygons", list, str}
    with_objects = {item.image_id for item in coco.annotations}
    assert sum(record.id not in with_objects for record in coco.images) == 1
    assert {item.category_id for item in coco.annotations} == {1, 2}


def test_areas_and_boxes_fit_the_masks(demo: Path) -> None:
    coco = read_coco(demo / COCO_FOLDER / "annotations" / "instance_val.json")
    size = {record.id: (record.height, record.width) for record in coco.images}
    for item in coco.annotations:
        mask = decoded(item, *size[item.image_id])
        rows, columns = np.nonzero(mask)
        assert item.area == mask.sum()
        assert item.bbox_xywh == (
            columns.min(),
            rows.min(),
            columns.max() - columns.min() + 1,
            rows.max() - rows.min() + 1,
        )


def labelme_masks(path: Path) -> dict[object, tuple[str, np.ndarray]]:
    """The masks of a LabelMe file. Shapes with the same group_id make one mask."""
    content = json.loads(path.read_text(encoding="utf-8"))
    size_hw = (content["imageHeight"], content["imageWidth"])
    found: dict[object, tuple[str, np.ndarray]] = {}
    for number, shape in enumerate(content["shapes"]):
        if shape["shape_type"] == "mask":
            (x1, y1), (x2, y2) = (map(int, point) for point in shape["points"])
            mask = np.zeros(size_hw, bool)
            inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            mask[y1 : y2 + 1, x1 : x2 + 1] = inside > 0
        else:
            polygon = [value for point in shape["points"] for value in point]
            mask = decoded(Annotation(1, 1, 1, [polygon]), *size_hw)
        group = ("group", shape["group_id"]) if shape["group_id"] is not None else number
        label, other = found.get(group, (shape["label"], np.zeros(size_hw, bool)))
        found[group] = (label, other | mask)
    return found


def test_the_labelme_data_set_has_the_same_objects_and_pixels(demo: Path) -> None:
    twin = demo / LABELME_FOLDER
    expected = masks_by_image(demo)
    lists = [(twin / f"{split}_anno_list.txt").read_text().split() for split in ("train", "val")]
    assert [len(names) for names in lists] == [12, 4]
    for name in lists[0] + lists[1]:
        image = (twin / name).parent / json.loads((twin / name).read_text())["imagePath"]
        assert image.read_bytes() == (demo / COCO_FOLDER / "images" / image.name).read_bytes()
        objects = list(labelme_masks(twin / name).values())
        assert [label for label, _ in objects] == [label for label, _ in expected[image.name]]
        for (_, mask), (_, other) in zip(objects, expected[image.name], strict=True):
            assert (mask == other).all()
    assert (twin / "label.txt").read_text().split() == ["bolt", "washer"]


def test_every_run_writes_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    write_demo_dataset(tmp_path, num_train=12, num_val=4)
    files = sorted(path.relative_to(demo) for path in demo.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for name in files:
        assert (demo / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_existing_folder_is_kept_unless_overwrite_is_set(tmp_path: Path) -> None:
    (tmp_path / COCO_FOLDER).mkdir()
    mine = tmp_path / COCO_FOLDER / "mine.txt"
    mine.write_text("keep")
    assert write_demo_dataset(tmp_path, num_train=1, num_val=1) == [tmp_path / LABELME_FOLDER]
    assert mine.read_text() == "keep"
    assert len(write_demo_dataset(tmp_path, overwrite=True, num_train=1, num_val=1)) == 2
    assert not mine.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [COCO_FOLDER, LABELME_FOLDER]


def test_the_command_reports_unchanged_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (COCO_FOLDER, LABELME_FOLDER):
        (tmp_path / name).mkdir()
    main(["--dataset_dir", str(tmp_path)])
    assert capsys.readouterr().out.count("not changed") == 2
