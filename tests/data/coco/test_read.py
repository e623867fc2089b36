import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.images import image_path, image_size, load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.polygons import mask_to_polygons
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


def ring() -> np.ndarray:
    mask = np.zeros((8, 10), bool)
    mask[1:7, 2:9] = True
    mask[3:5, 4:7] = False
    return mask


def runs_of(mask: np.ndarray) -> list[int]:
    flat = mask.ravel(order="F").tolist()
    runs, value = [0], False
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


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
    compressed = mask_tools.encode(np.asfortranarray(ring(), np.uint8))["counts"].decode()
    original = CocoFile(
        path=tmp_path / "out" / "instance_val.json",
        images=(ImageRecord(id=1, file_name="螺母/é 1.jpg", width=10, height=8),),
        annotations=(
            Annotation(1, 1, 2, [[0.5, 1.25, 3, 1, 3, 4], SQUARE], bbox_xywh=(0.5, 1, 5.5, 4), area=20.5),
            Annotation(2, 1, 9, {"size": [8, 10], "counts": runs_of(ring())}, iscrowd=True),
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
    broken = CocoFile(path, coco.images, coco.annotations, coco.categories, extra={"info": float("nan")})
    with pytest.raises(ValueError):
        write_coco(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_id": 4}, "no image has the id 4"),
        ({"category_id": 9}, "has category_id 9, but the file lists 5"),
        ({"category_id": "5"}, "category_id is '5'; expected a whole number"),
        ({"segmentation": []}, "segmentation is empty"),
        ({"segmentation": None}, "segmentation is null"),
        ({"segmentation": SQUARE}, "expected a list of polygons"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon of 4 numbers"),
        ({"segmentation": [SQUARE, SQUARE + [3]]}, "a polygon of 9 numbers"),
        ({"segmentation": [[1, 2, "3", 4, 5, 6]]}, "not numbers"),
        ({"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, "not pixel coordinates"),
        ({"segmentation": [[1, 2, 1e9, 4, 5, 6]]}, "not pixel coordinates"),
        ({"segmentation": {"size": [8, 10], "counts": [10, 20]}}, "sum to 30 pixels; expected 80"),
        ({"segmentation": {"size": [8, 10], "counts": [90, -10]}}, "not whole numbers"),
        ({"segmentation": {"size": [8, 10], "counts": "zz"}}, "RLE whose text is damaged"),
        ({"segmentation": {"size": [8, 10], "counts": "é"}}, "RLE whose text is damaged"),
        ({"segmentation": {"size": [8, 10], "counts": "11"}}, "sum to 2 pixels"),
        ({"segmentation": {"size": [10, 8], "counts": [80]}}, "size [10, 8] (height, width), but image 3"),
        ({"segmentation": {"counts": [80]}}, "size None"),
        ({"bbox": [1, 2, 3]}, "expected [x, y, width, height]"),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"area": float("inf")}, "area is inf"),
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
        ("[]", "the top level is a list"),
        ({"images": [], "categories": []}, "'annotations' is missing"),
        ({"images": {}, "categories": [], "annotations": []}, "'images' is a dict"),
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


def test_the_union_of_polygons_counts_shared_pixels_once() -> None:
    rle = annotation_to_rle(annotation([SQUARE, [4, 1, 8, 1, 8, 5, 4, 5]]), 8, 10)
    expected = np.zeros((8, 10), np.uint8)
    expected[1:5, 2:8] = 1
    assert (mask_tools.decode(rle) == expected).all()


@pytest.mark.parametrize("form", ["compressed text", "compressed bytes", "counts"])
def test_rle_of_every_kind_keeps_its_hole(form: str) -> None:
    compressed = mask_tools.encode(np.asfortranarray(ring(), np.uint8))["counts"]
    counts = {
        "compressed text": compressed.decode(),
        "compressed bytes": compressed,
        "counts": runs_of(ring()),
    }
    rle = annotation_to_rle(annotation({"size": [8, 10], "counts": counts[form]}), 8, 10)
    assert isinstance(rle["counts"], bytes)
    assert (mask_tools.decode(rle) == ring()).all()


def test_rle_of_another_size_than_the_image_is_refused() -> None:
    with pytest.raises(DatasetError, match="annotation 1"):
        annotation_to_rle(annotation({"size": [8, 10], "counts": [80]}), 10, 8)


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


def test_polygons_of_a_mask_draw_nearly_the_same_mask() -> None:
    y, x = np.mgrid[0:120, 0:160]
    mask = ((x - 50) ** 2 + (y - 60) ** 2 < 40**2) | ((abs(x - 130) < 12) & (abs(y - 60) < 50))
    polygons = mask_to_polygons(mask)
    drawn = mask_tools.decode(annotation_to_rle(annotation(polygons), 120, 160)).astype(bool)
    assert len(polygons) == 2
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.98


def test_instances_have_the_box_of_the_file_or_if_missing_of_the_mask() -> None:
    items = [
        Annotation(1, 1, 9, [SQUARE]),
        Annotation(2, 1, 4, [SQUARE], bbox_xywh=(1.5, 0, 2, 3)),
    ]
    record = ImageRecord(1, "a.jpg", width=10, height=8)
    instances = annotations_to_instances(items, record, [Category(4, "a"), Category(9, "b")])
    assert instances.class_ids.tolist() == [1, 0]
    assert instances.boxes_xyxy.tolist() == [[2, 1, 6, 5], [1.5, 0, 3.5, 3]]
    assert len(annotations_to_instances([], record, [])) == 0


def coco_with(name: str, *categories: Category) -> CocoFile:
    return CocoFile(Path(name), (), (), categories)


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        ((Category(1, "bolt"),), "val.json lacks category 2 (nut)"),
        ((Category(1, "bolt"), Category(2, "nut"), Category(3, "pin")), "train.json lacks category 3 (pin)"),
        (
            (Category(1, "nut"), Category(2, "bolt")),
            "category 1 is 'bolt' in train.json and 'nut' in val.json",
        ),
        (
            (Category(2, "nut"), Category(1, "bolt")),
            "the order of the ids is [1, 2] in train.json and [2, 1]",
        ),
    ],
    ids=["missing", "extra", "renamed", "reordered"],
)
def test_categories_that_disagree_are_refused(val: tuple[Category, ...], expected: str) -> None:
    train = coco_with("train.json", Category(1, "bolt"), Category(2, "nut"))
    same_categories(train, coco_with("val.json", Category(1, "bolt"), Category(2, "nut", "metal")))
    with pytest.raises(DatasetError) as caught:
        same_categories(train, coco_with("val.json", *val))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "b/../../a.jpg", "..\\a.jpg", "/etc/a.jpg", "C:\\a.jpg", "", ".", "a\0"]
)
def test_file_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="file_name"):
        image_path(Path("images"), name)


@pytest.mark.parametrize("name", ["a/b.jpg", "a\\b.jpg", "c/../a/b.jpg", "./a/b.jpg"])
def test_file_names_inside_the_folder_are_found(name: str) -> None:
    assert image_path(Path("images"), name) == Path("images/a/b.jpg")


def test_a_nested_data_set_is_found_and_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder 'images'"):
        dataset_paths(tmp_path)
    (tmp_path / "first" / "images").mkdir(parents=True)
    assert dataset_paths(tmp_path) == dataset_paths(tmp_path / "first")
    assert dataset_paths(tmp_path).train_json == tmp_path / "first" / "annotations" / "instance_train.json"
    (tmp_path / "second" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="first, second"):
        dataset_paths(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        dataset_paths(tmp_path / "nowhere")


RED = (200, 30, 10)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_all_colour_modes_are_converted_to_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    stored = Image.new("RGB", (6, 4), RED)
    (stored.quantize() if mode == "P" else stored.convert(mode)).save(path)
    image = load_image(path)
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert abs(image.astype(int) - RED).max() <= 2


def test_gray_of_8_and_16_bits_gives_the_same_image(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert (load_image(tmp_path / "8.png") == gray[..., None]).all()
    assert (load_image(tmp_path / "16.png") == gray[..., None]).all()


def save_with_orientation(path: Path, orientation: int) -> np.ndarray:
    """Write an image of width 6 and height 4 with one white corner. Returns its stored pixels."""
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    return stored


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (0, -1)),
        (3, (-1, -1)),
        (4, (-1, 0)),
        (5, (0, 0)),
        (6, (0, -1)),
        (7, (-1, -1)),
        (8, (-1, 0)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    save_with_orientation(path, orientation)
    image = load_image(path)
    assert image.shape == ((6, 4, 3) if orientation >= 5 else (4, 6, 3))
    assert image[corner].tolist() == [255, 255, 255]
    assert image_size(path).shown_hw == image.shape[:2]


def test_exif_orientation_is_not_applied_if_the_listed_size_is_that_of_the_stored_pixels(
    tmp_path: Path,
) -> None:
    stored = save_with_orientation(tmp_path / "a.png", 6)
    assert (load_image(tmp_path / "a.png", size_hw=(4, 6)) == stored).all()
    assert load_image(tmp_path / "a.png", size_hw=(6, 4)).shape == (6, 4, 3)
    with pytest.raises(DatasetError, match="a.png"):
        load_image(tmp_path / "a.png", size_hw=(6, 5))


def test_bad_images_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "cut.jpg"
    )
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "text.jpg", "none.jpg"):
        with pytest.raises(DatasetError, match=name):
            load_image(tmp_path / name)


def test_too_large_images_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetError, match="big.png: the image is too large"):
        load_image(tmp_path / "big.png")


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
