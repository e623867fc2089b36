import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import small_ring, uncompressed
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]  # 4 x 4 pixels


def document(**changes: Any) -> dict[str, Any]:
    annotation = {"id": 7, "image_id": 3, "category_id": 5, "segmentation": [SQUARE]}
    return {
        "info": {"licence": "CC0"},
        "images": [{"id": 3, "file_name": "a.jpg", "width": 10, "height": 8}],
        "categories": [{"id": 5, "name": "nut"}],
        "annotations": [{**annotation, **changes}],
    }


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "instance_train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def annotation(segmentation: Any) -> Annotation:
    return Annotation(id=1, image_id=1, category_id=1, segmentation=segmentation)


def test_optional_fields_may_be_absent(tmp_path: Path) -> None:
    coco = read_coco(saved(tmp_path, document()))
    assert coco.annotations == (Annotation(id=7, image_id=3, category_id=5, segmentation=[SQUARE]),)
    assert coco.extra == {"info": {"licence": "CC0"}}


def test_backslashes_in_file_names_become_slashes(tmp_path: Path) -> None:
    content = document()
    content["images"][0]["file_name"] = "line1\\a.jpg"
    assert read_coco(saved(tmp_path, content)).images[0].file_name == "line1/a.jpg"


def test_write_then_read_gives_the_same_file(tmp_path: Path) -> None:
    compressed = mask_tools.encode(np.asfortranarray(small_ring(), np.uint8))["counts"].decode()
    original = CocoFile(
        path=tmp_path / "out" / "instance_val.json",
        images=(ImageRecord(id=1, file_name="螺母/é 1.jpg", width=10, height=8),),
        annotations=(
            Annotation(1, 1, 2, [[0.5, 1.25, 3, 1, 3, 4], SQUARE], bbox_xywh=(0.5, 1, 5.5, 4), area=20.5),
            Annotation(
                2, 1, 9, {"size": [8, 10], "counts": uncompressed(small_ring())["counts"]}, iscrowd=True
            ),
            Annotation(4, 1, 2, {"size": [8, 10], "counts": compressed}),
        ),
        categories=(Category(9, "washer", "metal"), Category(2, "Schraube ß")),
        extra={"licenses": [{"id": 1}]},
    )
    write_coco(original, original.path)
    assert read_coco(original.path) == original
    assert [path.name for path in original.path.parent.iterdir()] == ["instance_val.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path, document())
    before = path.read_bytes()
    coco = read_coco(path)
    broken = CocoFile(path, coco.images, coco.annotations, coco.categories, extra={"info": object()})
    with pytest.raises(TypeError):
        write_coco(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_id": 4}, "no image has the id 4"),
        ({"category_id": 9}, "has category_id 9, but the file lists 5"),
        ({"category_id": "five"}, "has category_id five, but the file lists 5"),
        ({"category_id": 5.5}, "category_id is 5.5; expected a whole number or text"),
        ({"segmentation": []}, "segmentation is empty"),
        ({"segmentation": None}, "segmentation is null"),
        ({"segmentation": SQUARE}, "expected a list of polygons"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon of 4 numbers"),
        ({"segmentation": [SQUARE, SQUARE + [3]]}, "a polygon of 9 numbers"),
        ({"segmentation": [[1, 2, "3", 4, 5, 6]]}, "has numbers as text"),
        ({"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, "not pixel coordinates"),
        ({"segmentation": [[1, 2, 1e9, 4, 5, 6]]}, "not pixel coordinates"),
        ({"segmentation": {"size": [8, 10], "counts": [10, 20]}}, "sum to 30 pixels; expected 80"),
        ({"segmentation": {"size": [8, 10], "counts": [90, -10]}}, "not whole numbers"),
        ({"segmentation": {"size": [8, 10], "counts": "zz"}}, "RLE whose text is damaged"),
        ({"segmentation": {"size": [8, 10], "counts": "é"}}, "RLE whose text is damaged"),
        ({"segmentation": {"size": [8, 10], "counts": "11"}}, "sum to 2 pixels"),
        (
            {"segmentation": {"size": [10, 8], "counts": [80]}},
            "size [10, 8] (height, width), but its image is [8, 10]",
        ),
        ({"segmentation": {"counts": [80]}}, "an RLE without a size"),
        ({"segmentation": {"size": "80", "counts": [80]}}, "an RLE of size '80'"),
        ({"segmentation": {"size": ["a"], "counts": [80]}}, "an RLE of size ['a']"),
        ({"iscrowd": 2}, "iscrowd is 2"),
    ],
)
def test_an_invalid_annotation_is_reported_with_its_problem(
    tmp_path: Path, changes: Any, expected: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        read_coco(saved(tmp_path, document(**changes)))
    assert "annotation 7" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{'images': []}", "not JSON"),
        ("[]", "the file is a list; expected an object with images, annotations and categories"),
        ({"images": [], "categories": []}, "'annotations' is missing"),
        ({"images": {}, "categories": [], "annotations": []}, "'images' is an object"),
    ],
)
def test_a_file_that_is_not_coco_is_rejected(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(DatasetError, match="instance_train.json") as caught:
        read_coco(saved(tmp_path, content))
    assert expected in str(caught.value)


def test_missing_and_wrongly_encoded_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none.json: the file does not exist"):
        read_coco(tmp_path / "none.json")
    path = tmp_path / "latin.json"
    path.write_bytes('{"images": "é"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match="latin.json: not UTF-8"):
        read_coco(path)


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    content = document(segmentation=[[1, 2]])
    content["images"].append({"id": 3, "file_name": "", "width": 0})
    content["categories"].append({"id": 5, "name": "bolt"})
    with pytest.raises(DatasetError) as caught:
        read_coco(saved(tmp_path, content))
    for part in (
        "polygon of 2",
        "'height' is missing",
        "file_name is empty",
        "width is 0",
        "category 5: the id",
    ):
        assert part in str(caught.value)


def test_many_problems_are_cut_with_a_count(tmp_path: Path) -> None:
    content = document()
    content["annotations"] = [{"id": i} for i in range(50)]
    with pytest.raises(DatasetError) as caught:
        read_coco(saved(tmp_path, content))
    assert "150 problems" in str(caught.value)
    assert "... and 130 more" in str(caught.value)


def test_compressed_rle_of_random_masks_passes_the_check(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = document()
    content["images"][0].update(width=300, height=200)
    for density in (0, 0.001, 0.5, 0.999, 1):
        mask = np.asfortranarray(rng.random((200, 300)) < density, np.uint8)
        rle = {"size": [200, 300], "counts": mask_tools.encode(mask)["counts"].decode()}
        content["annotations"][0]["segmentation"] = rle
        read = read_coco(saved(tmp_path, content)).annotations[0]
        assert (mask_tools.decode(annotation_to_rle(read, 200, 300)) == mask).all()


def test_real_coco_files_are_unchanged_after_a_round_trip(shared_dir: Path, tmp_path: Path) -> None:
    for path in sorted((shared_dir / "data").glob("*/annotations/instance_*.json")):
        coco = read_coco(path)
        write_coco(coco, tmp_path / path.name)
        again = read_coco(tmp_path / path.name)
        assert (again.images, again.annotations, again.categories, again.extra) == (
            coco.images,
            coco.annotations,
            coco.categories,
            coco.extra,
        )
