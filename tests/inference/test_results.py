"""Saved results: JSON schema, file names and colours."""

import ast
import copy
import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from PIL import Image
from pycocotools import mask as coco_mask

from paddlex_seg.errors import ConfigError
from paddlex_seg.files import atomic
from paddlex_seg.files.written import REGISTER
from paddlex_seg.inference.results import Result, UnwritableResult, clip_to_image
from paddlex_seg.structures import Instances


def rectangle_rle(size_hw: tuple[int, int], x1: int, y1: int, x2: int, y2: int) -> dict:
    mask = np.zeros(size_hw, np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    return coco_mask.encode(mask)


def instances_of(boxes: list[list[float]], size_hw: tuple[int, int] = (40, 60)) -> Instances:
    return Instances(
        size_hw=size_hw,
        class_ids=np.arange(len(boxes)) % 2,
        scores=np.linspace(0.9, 0.3, len(boxes), dtype=np.float32),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        masks=tuple(rectangle_rle(size_hw, i, 0, i + 1, 5) for i in range(len(boxes))),
    )


def result_with(boxes: list[list[float]], **changes) -> Result:
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 200  # red
    values = {
        "input_path": "photos/a b.jpg",
        "page_index": None,
        "image": image,
        "instances": clip_to_image(instances_of(boxes)),
        "labels": ("bolt", "螺母"),
        "save_name": "a b",
    }
    return Result(**(values | changes))


def test_boxes_are_clipped_and_empty_ones_leave_with_their_masks():
    boxes = [[-5, 2, 30, 50], [61, 0, 80, 10], [10, 5, 10, 9], [20, 10, 70, 20]]
    clipped = clip_to_image(instances_of(boxes))
    assert clipped.boxes_xyxy.tolist() == [[0, 2, 30, 40], [20, 10, 60, 20]]
    before = instances_of(boxes)
    assert clipped.masks == (before.masks[0], before.masks[3])
    assert clipped.scores.tolist() == before.scores[[0, 3]].tolist()
    assert clipped.class_ids.tolist() == [0, 1]


def test_json_has_the_one_schema_and_only_plain_values(tmp_path: Path):
    result = result_with([[1, 2, 30, 20], [3, 4, 50, 38.5]])
    read = json.loads(result.save_to_json(tmp_path).read_text(encoding="utf-8"))
    assert read == result.to_json()
    assert list(read) == ["input_path", "page_index", "boxes", "masks"]
    assert read["boxes"][1] == {
        "cls_id": 1,
        "label": "螺母",
        "score": pytest.approx(0.3),
        "coordinate": [3, 4, 50, 38.5],
    }
    assert all(type(edge) is float for box in result.to_json()["boxes"] for edge in box["coordinate"])
    rle = read["masks"][1]
    assert coco_mask.decode({"size": rle["size"], "counts": rle["counts"].encode()}).sum() == 5


def test_a_result_is_a_dictionary_with_attributes_as_in_paddlex():
    result = result_with([[1, 2, 30, 20], [3, 4, 50, 38.5]], page_index=2)
    assert list(result) == ["input_path", "page_index", "input_img", "boxes", "masks"]
    for key in result:
        assert result[key] is getattr(result, key)
    assert (result["input_path"], result.page_index) == ("photos/a b.jpg", 2)
    assert result.input_img[0, 0].tolist() == [0, 0, 200] and result.image[0, 0].tolist() == [200, 0, 0]
    assert result.error is None and result["error"] is None and "error" not in result
    with pytest.raises(KeyError, match="box"):
        result["box"]
    assert result.json == {"res": result.to_json()}
    assert np.array_equal(np.asarray(result.img["res"]), result.draw())
    for copied in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert copied.to_json() == result.to_json() and copied.labels == result.labels


def test_a_result_is_printed_without_its_masks(capsys: pytest.CaptureFixture):
    result = result_with([[1, 2, 30, 20], [3, 4, 50, 38.5]])
    result.print()
    printed = ast.literal_eval(capsys.readouterr().out)
    assert printed == {"res": {**result.to_json(), "masks": "..."}} == result.str
    result.print(format_json=True, indent=2)
    text = capsys.readouterr().out
    assert json.loads(text) == printed and '\n  "res"' in text and "螺母" in text
    result.print(format_json=True, ensure_ascii=True)
    assert capsys.readouterr().out.isascii()
    assert len(repr(result)) < 500


def test_json_is_indented_and_escaped_as_asked(tmp_path: Path):
    result = result_with([[1, 2, 30, 20], [3, 4, 50, 38.5]])
    text = result.save_to_json(tmp_path / "a.json", indent=2, ensure_ascii=True).read_text()
    assert text.isascii() and '\n  "boxes"' in text and json.loads(text) == result.to_json()


def test_a_result_without_instances_is_written_too(tmp_path: Path):
    result = result_with([])
    assert json.loads(result.save_to_json(tmp_path).read_text())["boxes"] == []
    assert result.save_to_img(tmp_path).is_file()


@pytest.mark.parametrize("name", ["drawn.png", "drawn.JPG", "drawn.bmp", "drawn.webp", "drawn.tiff"])
def test_red_stays_red_on_disk(tmp_path: Path, name: str):
    path = result_with([]).save_to_img(tmp_path / "new folder" / name)
    assert path.name == name
    red, green, blue = np.asarray(Image.open(path).convert("RGB"))[20, 30]
    assert red > 180 and green < 30 and blue < 30


@pytest.mark.parametrize(
    ("input_path", "drawing"),
    [
        ("x/a b.jpg", "a b_res.jpg"),
        ("a b.PNG", "a b_res.png"),
        ("a b.ras", "a b_res.png"),
        (None, "a b_res.png"),
    ],
)
def test_files_in_a_folder_are_named_after_the_input(tmp_path: Path, input_path: str | None, drawing: str):
    result = result_with([[1, 2, 30, 20]], input_path=input_path)
    assert result.save_to_img(tmp_path) == tmp_path / drawing
    assert result.save_to_json(tmp_path) == tmp_path / "a b_res.json"
    assert {file.name for file in tmp_path.iterdir()} == {drawing, "a b_res.json", REGISTER}


def test_sub_folders_of_the_input_are_kept(tmp_path: Path):
    result = result_with([], save_name="left/cam 1/a")
    assert result.save_to_json(tmp_path) == tmp_path / "left" / "cam 1" / "a_res.json"


def test_a_name_with_dots_keeps_them_all(tmp_path: Path):
    assert result_with([], save_name="v1.2.final").save_to_json(tmp_path).name == "v1.2.final_res.json"


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = result_with([]).save_to_img(tmp_path / "a.png")
    before = path.read_bytes()

    def break_off(new: Path, path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(atomic, "put_in_place", break_off)
    with pytest.raises(OSError, match="disk full"):
        result_with([[1, 2, 30, 20]]).save_to_img(path)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {path.name, REGISTER}


def test_every_kind_of_file_is_written_into_a_folder_and_to_a_path(tmp_path: Path):
    result = result_with([[1, 2, 30, 20], [3, 4, 50, 38.5]], save_name="sub/a b")
    kinds = {
        "save_to_json": ("a b_res.json", "x.json"),
        "save_to_img": ("a b_res.jpg", "x.png"),
        "save_to_coco": ("a b_coco.json", "y.JSON"),
        "save_to_labelme": ("a b.json", "z.json"),
        "save_to_masks": ("a b_masks.png", "z.png"),
        "save_to_csv": ("a b_res.csv", "x.csv"),
    }
    for method, (in_folder, file) in kinds.items():
        assert getattr(result, method)(tmp_path) == tmp_path / "sub" / in_folder
        assert getattr(result, method)(str(tmp_path / "new" / file)) == tmp_path / "new" / file
        assert (tmp_path / "new" / file).stat().st_size > 10
    (tmp_path / "sub" / "a b_masks.png").write_bytes(b"of the user")
    assert result.save_to_masks(tmp_path) == tmp_path / "sub" / "a b_masks_2.png"
    assert (tmp_path / "sub" / "a b_masks.png").read_bytes() == b"of the user"


def test_a_labelme_file_never_replaces_one_of_the_user(tmp_path: Path):
    (tmp_path / "a b.json").write_text("{}")
    assert result_with([[1, 2, 30, 20]]).save_to_labelme(tmp_path) == tmp_path / "a b_2.json"
    assert (tmp_path / "a b.json").read_text() == "{}"


@pytest.mark.parametrize("method", ["save_to_json", "save_to_labelme"])
def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path, method: str):
    result = result_with([], input_path="caf\udce9.jpg", save_name="caf\udce9")
    with pytest.raises(UnwritableResult, match=r"caf\\xe9.*not valid UTF-8"):
        getattr(result, method)(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.json")] == []


def test_one_table_takes_the_objects_of_all_images(tmp_path: Path):
    path, tables = tmp_path / "objects.csv", set[Path]()
    path.write_text("of an earlier prediction")
    for name, boxes in (
        ("a.jpg", [[1, 2, 30, 20], [3, 4, 50, 38.5]]),
        ("b,c.jpg", []),
        ("d.jpg", [[1, 2, 9, 9]]),
    ):
        result_with(boxes, input_path=name, tables=tables).save_to_csv(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["id"]) for row in rows] == [("a.jpg", "1"), ("a.jpg", "2"), ("d.jpg", "1")]
    result_with([[1, 2, 9, 9]], input_path="e.jpg").save_to_csv(path)  # of another prediction
    assert path.read_bytes().count(b"\n") == 2


def test_a_failed_row_leaves_the_table_as_it_was(tmp_path: Path):
    disk, tables = tmp_path / "small", set[Path]()
    result = result_with([[1, 2, 30, 20]] * 20, tables=tables)
    with small_disk(disk, 64):
        path = result.save_to_csv(disk / "objects.csv")
        assert path is not None
        with pytest.raises(OSError, match="No space left"):
            for _ in range(100):
                before = path.read_bytes()
                result.save_to_csv(path)
        assert path.read_bytes() == before


def test_masks_have_the_form_that_is_asked_for(tmp_path: Path):
    result = result_with([[1, 2, 30, 20]], masks="dense")
    assert result.masks[0].shape == (18, 29) and result.to_json()["masks"][0] == result.masks[0].tolist()
    assert json.loads(result.save_to_json(tmp_path, masks="rle").read_text())["masks"] == result.masks_as(
        "rle"
    )
    assert result_with([[1, 2, 30, 20]]).masks == result.masks_as("rle")
    with pytest.raises(ConfigError, match="expected one of rle, polygons, crops, png, dense"):
        result.masks_as("box")


METHODS = ("save_to_json", "save_to_img", "save_to_coco", "save_to_labelme", "save_to_masks", "save_to_csv")


@pytest.mark.parametrize("method", METHODS)
def test_a_result_replaces_only_that_of_the_same_image(tmp_path: Path, method: str):
    def save(place: str | None, boxes: list) -> Path:
        # Another object each, as in another program.
        return getattr(result_with(boxes, place=place, save_name="a"), method)(tmp_path)

    first = save("/p/a.jpg", [[1, 2, 30, 20]])
    before = first.read_bytes()
    second = save("/q/a.jpg", [[1, 2, 50, 30], [5, 5, 9, 9]])
    assert second.stem.startswith(first.stem) and second.stem.endswith("_2")
    assert first.read_bytes() == before
    assert save("/q/a.jpg", []) == second
    assert save("/p/a.jpg", []) == first
    assert first.read_bytes() != before
    assert len([path for path in tmp_path.iterdir() if path.name != REGISTER]) == 2


def test_drawing_and_json_of_an_image_keep_the_same_number(tmp_path: Path):
    for place in ("/p/a.jpg", "/q/a.jpg", "/r/a.jpg", "/q/a.jpg"):
        result_with([[1, 2, 30, 20]], place=place, input_path=place, save_name="a").save_all(tmp_path)
    for number, place in (("", "/p/a.jpg"), ("_2", "/q/a.jpg"), ("_3", "/r/a.jpg")):
        assert (tmp_path / f"a_res{number}.jpg").is_file()
        assert json.loads((tmp_path / f"a_res{number}.json").read_text())["input_path"] == place
    assert len(list(tmp_path.glob("a_res*"))) == 6
