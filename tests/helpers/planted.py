"""A small sound data set, and defects to plant in it: for each code of a finding, three of them.

A defect changes the data set and says which finding must come of it.
"""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image
from pycocotools import mask as mask_tools

WIDTH, HEIGHT = 96, 72
TRIANGLE, SQUARE = [10, 10, 40, 12, 30, 50], [50, 20, 80, 20, 80, 60, 50, 60]
CATEGORIES = [(1, "bolt"), (2, "nut"), (5, "pin")]


class Expected(NamedTuple):
    """The finding that must be there; ids as in the file."""

    code: str
    file: str
    image_id: int | None = None
    annotation_id: int | None = None


@dataclass
class Planted:
    """A data set whose annotation files are still in memory."""

    root: Path
    documents: dict[str, Any] = field(default_factory=dict)

    def image(self, split: str, place: int = 0) -> dict[str, Any]:
        return self.documents[split]["images"][place]

    def annotation(self, split: str, place: int = 0) -> dict[str, Any]:
        return self.documents[split]["annotations"][place]

    def image_file(self, split: str, place: int = 0) -> Path:
        return self.root / "images" / self.image(split, place)["file_name"]

    def file(self, split: str) -> Path:
        return self.root / "annotations" / f"instance_{split}.json"

    def save(self) -> None:
        for split, document in self.documents.items():
            self.file(split).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    def expect(self, code: str, split: str, image: Any = None, annotation: Any = None) -> Expected:
        return Expected(
            code,
            f"instance_{split}.json",
            None if image is None else image["id"],
            None if annotation is None else annotation["id"],
        )

    def on_annotation(self, code: str, split: str, place: int) -> Expected:
        record = self.annotation(split, place)
        return Expected(code, f"instance_{split}.json", record["image_id"], record["id"])


def pixels(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """An image like no other: smooth coloured blobs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def rle_of(polygon: list[float], compressed: bool = True, height: int = HEIGHT, width: int = WIDTH) -> Any:
    rle = mask_tools.merge(mask_tools.frPyObjects([polygon], height, width))
    if compressed:
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = np.concatenate([[0], mask_tools.decode(rle).ravel(order="F"), [2]])
    borders = np.flatnonzero(np.diff(flat.astype(int)))
    return {"size": rle["size"], "counts": np.diff(np.concatenate([[0], borders])).tolist()}


def annotation(id: int, image_id: int, category_id: int, segmentation: Any) -> dict[str, Any]:
    if isinstance(segmentation, list):
        rle = mask_tools.merge(mask_tools.frPyObjects(segmentation, HEIGHT, WIDTH))
    elif isinstance(segmentation["counts"], list):
        rle = mask_tools.frPyObjects(segmentation, HEIGHT, WIDTH)
    else:
        rle = segmentation
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "bbox": mask_tools.toBbox(rle).tolist(),
        "area": int(mask_tools.area(rle)),
        "iscrowd": 0,
    }


def shifted(polygon: list[float], x: float, y: float) -> list[float]:
    return [value + (x, y)[i % 2] for i, value in enumerate(polygon)]


def write_sound_dataset(root: Path) -> Planted:
    """Five images to train on and three to evaluate on, in several formats; masks of every kind."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    planted = Planted(root)
    first = 1
    for split, count in (("train", 5), ("val", 3)):
        images, annotations = [], []
        for number in range(first, first + count):
            suffix = (".png", ".jpg")[number % 2]
            name = f"part_{number}{suffix}"
            pixels(number).save(root / "images" / name)
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            left, right = shifted(TRIANGLE, 0, number), shifted(SQUARE, number, 0)
            masks = [[left], rle_of(right, compressed=number % 3 == 0) if number % 2 else [right]]
            for k, mask in enumerate(masks):
                category = CATEGORIES[(number + k) % 3][0]
                annotations.append(annotation(10 * number + k, number, category, mask))
        planted.documents[split] = {
            "info": {"year": 2025},
            "images": images,
            "categories": [{"id": id, "name": name, "supercategory": "part"} for id, name in CATEGORIES],
            "annotations": annotations,
        }
        first += count
    planted.save()
    return planted


Plant = Callable[[Planted], Expected]
PLANTS: dict[str, list[Plant]] = {}


def plants(code: str) -> Callable[[Callable[[Planted, int], Expected]], Callable[[Planted, int], Expected]]:
    """Registers a function of a data set and a variant, 0 to 2, under the code that it plants."""

    def register(function: Callable[[Planted, int], Expected]) -> Callable[[Planted, int], Expected]:
        PLANTS[code] = [lambda planted, variant=variant: function(planted, variant) for variant in range(3)]
        return function

    return register


SPLITS = ("train", "val", "train")  # where a variant is planted
PLACES = (0, 1, 3)  # in the lists


def where(variant: int) -> tuple[str, int]:
    split = SPLITS[variant]
    return split, PLACES[variant]


# ---- the annotation file


@plants("json_missing")
def _(p: Planted, v: int) -> Expected:
    gone = ("train", "val", "train")[v]
    if v == 2:
        os.replace(p.file(gone), p.file(gone).with_name("train.json"))
    else:
        p.file(gone).unlink()
    del p.documents[gone]
    return p.expect("json_missing", gone)


@plants("json_unreadable")
def _(p: Planted, v: int) -> Expected:
    text = p.file("val").read_bytes()
    broken = (text[: len(text) // 2], b"", text.replace(b"2025", b'"\xff\xff"'))[v]
    p.file("val").write_bytes(broken)
    del p.documents["val"]
    return p.expect("json_unreadable", "val")


@plants("json_top_level")
def _(p: Planted, v: int) -> Expected:
    p.documents["train"] = (p.documents["train"]["annotations"], "text", None)[v]
    return p.expect("json_top_level", "train")


@plants("key_missing")
def _(p: Planted, v: int) -> Expected:
    key = ("images", "categories", "annotations")[v]
    if v == 1:
        p.documents["val"][key] = {"1": "bolt"}
    else:
        del p.documents["val"][key]
    return p.expect("key_missing", "val")


@plants("image_entry_invalid")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    image.update(({"width": None}, {"height": "tall"}, {"file_name": None})[v])
    return p.expect("image_entry_invalid", split, image)


@plants("category_entry_invalid")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        category = p.documents[split]["categories"][v]
        category.update(({"name": None}, {"name": ""}, {"id": 1.5})[v])
    return p.expect("category_entry_invalid", "train")


@plants("annotation_entry_invalid")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    record = p.annotation(split, place)
    expected = p.on_annotation("annotation_entry_invalid", split, place)
    record.update(({"category_id": 1.5}, {"category_id": True}, {"iscrowd": 7})[v])
    return expected


@plants("dataset_nested")
def _(p: Planted, v: int) -> Expected:
    name = ("data", "my data", "数据")[v]
    inner = p.root / name
    inner.mkdir()
    for part in ("images", "annotations"):
        os.replace(p.root / part, inner / part)
    (p.root / "notes").mkdir()
    p.documents.clear()
    return p.expect("dataset_nested", "train")


@plants("annotation_file_twin")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    twin = p.file(split).with_name(f"instances_{split}.json")
    twin.write_text(("{}", "not JSON", p.file(split).read_text(encoding="utf-8"))[v], encoding="utf-8")
    return p.expect("annotation_file_twin", "train")


@plants("split_without_images")
def _(p: Planted, v: int) -> Expected:
    split = ("train", "val", "val")[v]
    p.documents[split].update(images=[], annotations=[])
    return p.expect("split_without_images", split)


@plants("split_without_annotations")
def _(p: Planted, v: int) -> Expected:
    split = ("train", "val", "val")[v]
    p.documents[split].update(annotations=[])
    if v == 2:
        del p.documents[split]["images"][1:]
    return p.expect("split_without_annotations", split)


# ---- images


@plants("image_missing")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image_file(split, place)
    if v == 2:
        os.replace(image, image.with_name(image.name.upper()))
    else:
        image.unlink()
    return p.expect("image_missing", split, p.image(split, place))


@plants("image_empty_file")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.image_file(split, place).write_bytes(b"")
    return p.expect("image_empty_file", split, p.image(split, place))


@plants("image_truncated")
def _(p: Planted, v: int) -> Expected:
    split, place = (("train", 0), ("train", 1), ("val", 1))[v]  # JPEG, PNG, JPEG
    content = p.image_file(split, place).read_bytes()
    p.image_file(split, place).write_bytes(content[: (len(content) * 3 // 4, len(content) // 2, -2)[v]])
    return p.expect("image_truncated", split, p.image(split, place))


@plants("image_corrupt")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    path = p.image_file(split, place)
    buffer = io.BytesIO()
    pixels(3).save(buffer, "PNG")
    headless = buffer.getvalue().replace(b"IHDR", b"IHXX")
    path.write_bytes((b"not found", b"\x00" * 400, headless)[v])
    return p.expect("image_corrupt", split, p.image(split, place))


@plants("image_unsupported")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    if v == 2:
        p.image_file(split, place).write_bytes(b"<html>not found</html>")
        return p.expect("image_unsupported", split, image)
    image["file_name"] = f"field_{v}.tif"
    values = np.linspace(0, (1, 1e6)[v], WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    kind = (np.float32, np.int32)[v]
    Image.fromarray(values.astype(kind)).save(p.root / "images" / image["file_name"])
    return p.expect("image_unsupported", split, image)


def _save_as(p: Planted, v: int, name: str, content: Image.Image, code: str, **options: Any) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    p.image_file(split, place).unlink()
    image["file_name"] = name
    content.save(p.root / "images" / name, **options)
    return p.expect(code, split, image)


@plants("image_16bit")
def _(p: Planted, v: int) -> Expected:
    wide = np.asarray(pixels(70).convert("L"), np.uint16) * 257
    return _save_as(p, v, ("a.png", "b.tif", "c.png")[v], Image.fromarray(wide), "image_16bit")


@plants("image_cmyk")
def _(p: Planted, v: int) -> Expected:
    name = ("a.jpg", "b.tif", "c.jpeg")[v]
    return _save_as(p, v, name, pixels(71).convert("CMYK"), "image_cmyk")


@plants("image_animated")
def _(p: Planted, v: int) -> Expected:
    frames = [pixels(72 + k) for k in range(3)]
    name = ("a.gif", "b.webp", "c.tif")[v]
    return _save_as(p, v, name, frames[0], "image_animated", save_all=True, append_images=frames[1:])


@plants("image_alpha")
def _(p: Planted, v: int) -> Expected:
    image = pixels(75)
    if v == 0:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    elif v == 1:
        image = image.convert("L")
        image.putalpha(90)
    else:
        image = image.convert("P")
        image.info["transparency"] = 0
    return _save_as(p, v, ("a.png", "b.png", "c.png")[v], image, "image_alpha")


@plants("image_bands_dropped")
def _(p: Planted, v: int) -> Expected:
    expected = _save_as(p, v, "a.tif", pixels(76), "image_bands_dropped")
    bands = np.stack([np.asarray(pixels(77).convert("L"))] * (5, 8, 2)[v])  # of 5 and 2, Pillow drops some
    planes = bands if v == 1 else bands.transpose(1, 2, 0)
    photometric, config = (("rgb", "contig"), ("minisblack", "separate"), ("minisblack", "contig"))[v]
    tifffile.imwrite(p.root / "images" / "a.tif", planes, photometric=photometric, planarconfig=config)
    return expected


@plants("image_size_mismatch")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    image.update(
        ({"width": WIDTH + 1}, {"width": 2 * WIDTH, "height": 2 * HEIGHT}, {"height": 2 * HEIGHT})[v]
    )
    _drop_rles_of(p, split, image["id"])
    return p.expect("image_size_mismatch", split, image)


def _drop_rles_of(p: Planted, split: str, image_id: int) -> None:
    """RLEs would be of another size as well, which is a finding of its own."""
    document = p.documents[split]
    document["annotations"] = [
        item
        for item in document["annotations"]
        if item["image_id"] != image_id or isinstance(item["segmentation"], list)
    ]


def _turned(p: Planted, split: str, place: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    p.image(split, place)["file_name"] = f"turned_{orientation}.jpg"
    pixels(80 + orientation).save(p.root / "images" / f"turned_{orientation}.jpg", exif=exif)


def _label(p: Planted, split: str, place: int, polygon: list[float]) -> None:
    """The only object of the image is ``polygon``, in pixels of the image that was labelled."""
    document, image = p.documents[split], p.image(split, place)
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != image["id"]]
    x, y = polygon[::2], polygon[1::2]
    box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    document["annotations"].append(
        {
            "id": 900,
            "image_id": image["id"],
            "category_id": 1,
            "segmentation": [polygon],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
    )


WIDE = [2, 2, 94, 2, 94, 70, 2, 70]  # fits in the image as it is stored
HIGH = [2, 2, 70, 2, 70, 94, 2, 94]  # fits in the image turned by a quarter


@plants("image_exif_frame")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    _turned(p, split, place, orientation=(6, 8, 5)[v])
    _label(p, split, place, WIDE)
    return p.expect("image_exif_frame", split, p.image(split, place))


@plants("image_exif_swapped")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    _turned(p, split, place, orientation=(6, 8, 7)[v])
    image = p.image(split, place)
    if v == 2:  # listed upright, but labelled as stored
        image.update(width=HEIGHT, height=WIDTH)
    _label(p, split, place, WIDE if v == 2 else HIGH)
    return p.expect("image_exif_swapped", split, image)


@plants("image_size_swapped")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    image.update(width=HEIGHT, height=WIDTH)
    _label(p, split, place, [10, 10, 40, 10, 40, 30, 10, 30] if v == 0 else WIDE)
    return p.expect("image_size_swapped", split, image)


@plants("image_exif_turned")
def _(p: Planted, v: int) -> Expected:
    """The object is a dark rectangle in the corner of the stored image."""
    split, place = where(v)
    _turned(p, split, place, orientation=(3, 2, 4)[v])
    path = p.image_file(split, place)
    with Image.open(path) as image:
        orientation, pixels = image.getexif(), np.array(image)
    pixels[:] = pixels // 8 + 200
    pixels[5:25, 8:40] = 10
    Image.fromarray(pixels).save(path, exif=orientation, quality=95)
    _label(p, split, place, [8, 5, 40, 5, 40, 25, 8, 25])
    return p.expect("image_exif_turned", split, p.image(split, place))


@plants("image_exif_unclear")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    _turned(p, split, place, orientation=(3, 2, 6)[v])
    path = p.image_file(split, place)
    with Image.open(path) as image:
        orientation = image.getexif()
    fog = np.random.default_rng(v).integers(120, 124, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(fog).save(path, exif=orientation)
    _label(p, split, place, [20, 20, 50, 20, 50, 40, 20, 40])
    return p.expect("image_exif_unclear", split, p.image(split, place))


@plants("image_without_objects")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    if v == 2:
        image = {"id": 600, "file_name": "empty.png", "width": WIDTH, "height": HEIGHT}
        pixels(90).save(p.root / "images" / "empty.png")
        p.documents[split]["images"].append(image)
    else:
        document = p.documents[split]
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] != image["id"]]
    return p.expect("image_without_objects", split, image)


@plants("image_many_objects")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    image = p.image(split, place)
    for k in range((99, 150, 400)[v]):
        corner = [k % 80, k // 80 * 5, k % 80 + 6, k // 80 * 5, k % 80 + 6, k // 80 * 5 + 7]
        p.documents[split]["annotations"].append(annotation(1000 + k, image["id"], 1, [corner]))
    return p.expect("image_many_objects", split, image)


@plants("image_unreferenced")
def _(p: Planted, v: int) -> Expected:
    name = ("forgotten.png", "sub/forgotten.jpg", "Über uns.JPG")[v]
    (p.root / "images" / name).parent.mkdir(exist_ok=True)
    pixels(91).save(p.root / "images" / name)
    return Expected("image_unreferenced", "images")


def _copy_image(p: Planted, source: tuple[str, int], split: str, change: int | None) -> dict[str, Any]:
    """The image ``source`` once more, in ``split``: as it is, or saved again in one of three ways."""
    path = p.image_file(*source)
    name = f"again_{split}{path.suffix if change is None else ('.jpg', '.png', '.jpg')[change]}"
    target = p.root / "images" / name
    width, height = WIDTH, HEIGHT
    if change is None:
        target.write_bytes(path.read_bytes())
    else:
        with Image.open(path) as opened:
            opened = opened.convert("RGB")
            if change == 1:
                width, height = 2 * WIDTH, 2 * HEIGHT
                opened = opened.resize((width, height), Image.Resampling.BILINEAR)
            if change == 2:
                opened = opened.point(lambda value: min(255, value + 5))
            opened.save(target, **({"quality": 40} if change == 0 else {}))
    image = {"id": 700, "file_name": name, "width": width, "height": height}
    p.documents[split]["images"].append(image)
    p.documents[split]["annotations"].append(annotation(7000, 700, 2, [[4, 4, 30, 5, 20, 33]]))
    return image


@plants("image_duplicate")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    return p.expect("image_duplicate", split, _copy_image(p, (split, v % 2), split, None))


@plants("image_near_duplicate")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    return p.expect("image_near_duplicate", split, _copy_image(p, (split, v % 2), split, v))


@plants("leak_duplicate")
def _(p: Planted, v: int) -> Expected:
    if v == 2:  # the same file in both lists
        image = {**p.image("train", 2), "id": 700}
        p.documents["val"]["images"].append(image)
        p.documents["val"]["annotations"].append(annotation(7000, 700, 2, [[4, 4, 30, 5, 20, 33]]))
        return p.expect("leak_duplicate", "val", image)
    return p.expect("leak_duplicate", "val", _copy_image(p, ("train", v), "val", None))


@plants("leak_near_duplicate")
def _(p: Planted, v: int) -> Expected:
    return p.expect("leak_near_duplicate", "val", _copy_image(p, ("train", v), "val", v))


def _renamed(p: Planted, v: int, name: str, code: str) -> Expected:
    split, place = where(v)
    target = p.root / "images" / name.replace("\\", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(p.image_file(split, place), target)
    p.image(split, place)["file_name"] = name
    return p.expect(code, split, p.image(split, place))


@plants("file_name_outside")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    names = ("../secret.png", "/etc/passwd.png", "C:\\photos\\a.png")
    p.image_file(split, place).unlink()
    p.image(split, place)["file_name"] = names[v]
    return p.expect("file_name_outside", split, p.image(split, place))


@plants("file_name_backslash")
def _(p: Planted, v: int) -> Expected:
    return _renamed(p, v, ("line1\\a.png", "line1\\cam2\\a.png", ".\\a.png")[v], "file_name_backslash")


@plants("file_name_space")
def _(p: Planted, v: int) -> Expected:
    return _renamed(p, v, ("my part.png", "line 2/a.png", " a.png")[v], "file_name_space")


@plants("file_name_non_ascii")
def _(p: Planted, v: int) -> Expected:
    return _renamed(p, v, ("Größe.png", "工件/a.png", "a😀.png")[v], "file_name_non_ascii")


# ---- ids, names, references


@plants("image_id_duplicate")
def _(p: Planted, v: int) -> Expected:
    split, place = (("train", 1), ("val", 2), ("train", 4))[v]
    p.image(split, place)["id"] = p.image(split, 0)["id"]
    return p.expect("image_id_duplicate", split, p.image(split, 0))


@plants("file_name_duplicate")
def _(p: Planted, v: int) -> Expected:
    split, place = (("train", 1), ("val", 2), ("train", 4))[v]
    p.image_file(split, place).unlink()
    p.image(split, place)["file_name"] = p.image(split, 0)["file_name"]
    return p.expect("file_name_duplicate", split, p.image(split, place))


@plants("annotation_id_duplicate")
def _(p: Planted, v: int) -> Expected:
    split, place = (("train", 1), ("val", 3), ("train", 7))[v]
    p.annotation(split, place)["id"] = p.annotation(split, 0)["id"]
    return p.on_annotation("annotation_id_duplicate", split, place)


@plants("category_id_duplicate")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        categories = p.documents[split]["categories"]
        categories.insert(v + 1, {"id": categories[v]["id"], "name": f"other {v}"})
    return p.expect("category_id_duplicate", "train")


@plants("category_name_duplicate")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        p.documents[split]["categories"].append({"id": 8, "name": CATEGORIES[v][1]})
    p.annotation("train", v)["category_id"] = 8
    return p.expect("category_name_duplicate", "train")


@plants("image_id_dangling")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["image_id"] = (999, 0, -1)[v]
    return p.on_annotation("image_id_dangling", split, place)


@plants("category_id_dangling")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["category_id"] = (0, 3, 6)[v]
    return p.on_annotation("category_id_dangling", split, place)


@plants("categories_differ_names")
def _(p: Planted, v: int) -> Expected:
    categories = p.documents["val"]["categories"]
    if v == 0:
        categories[0]["name"], categories[1]["name"] = categories[1]["name"], categories[0]["name"]
    else:
        categories[v]["name"] = ("", "Nut", "pin ")[v]
    return p.expect("categories_differ_names", "train")


@plants("categories_differ_ids")
def _(p: Planted, v: int) -> Expected:
    categories = p.documents[("val", "train", "val")[v]]["categories"]
    if v < 2:
        categories.append({"id": 9, "name": "washer"})
    else:
        for category in categories:
            category["id"] += 10
        for item in p.documents["val"]["annotations"]:
            item["category_id"] += 10
    return p.expect("categories_differ_ids", "train")


@plants("categories_differ_order")
def _(p: Planted, v: int) -> Expected:
    categories = p.documents["val"]["categories"]
    order = ([2, 1, 0], [1, 0, 2], [1, 2, 0])[v]
    categories[:] = [categories[i] for i in order]
    return p.expect("categories_differ_order", "train")


@plants("class_only_in_val")
def _(p: Planted, v: int) -> Expected:
    lonely = CATEGORIES[v][0]
    for item in p.documents["train"]["annotations"]:
        if item["category_id"] == lonely:
            item["category_id"] = CATEGORIES[(v + 1) % 3][0]
    return p.expect("class_only_in_val", "train")


@plants("class_without_instances")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        p.documents[split]["categories"].insert((0, 1, 3)[v], {"id": 9, "name": "washer"})
    return p.expect("class_without_instances", "train")


@plants("category_dummy")
def _(p: Planted, v: int) -> Expected:
    above = ("part", "workpiece", "部件")[v]
    for split in ("train", "val"):
        for category in p.documents[split]["categories"]:
            category["supercategory"] = above
        dummy = {"id": (0, 9, 0)[v], "name": above, "supercategory": "none"}
        p.documents[split]["categories"].insert((0, 3, 1)[v], dummy)
    return p.expect("category_dummy", "train")


# ---- masks


def _masked(p: Planted, v: int, code: str, *segmentations: Any) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["segmentation"] = segmentations[v]
    return p.on_annotation(code, split, place)


def _drawn(p: Planted, v: int, polygon: list[float]) -> None:
    """Give the annotation the box and area of the polygon."""
    split, place = where(v)
    drawn = annotation(1, 1, 1, [polygon])
    p.annotation(split, place).update(bbox=drawn["bbox"], area=drawn["area"])


def _empty(p: Planted, v: int, code: str, segmentation: Any, box: list[float]) -> Expected:
    """A mask that covers nothing, with a box that says so too."""
    split, place = where(v)
    p.annotation(split, place).update(segmentation=segmentation, bbox=box, area=0)
    return p.on_annotation(code, split, place)


@plants("segmentation_missing")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    if v == 2:
        p.annotation(split, place)["segmentation"] = None
    else:
        del p.annotation(split, place)["segmentation"]
    return p.on_annotation("segmentation_missing", split, place)


@plants("segmentation_empty")
def _(p: Planted, v: int) -> Expected:
    split, place = (("train", 0), ("val", 0), ("val", 5))[v]
    p.annotation(split, place)["segmentation"] = []
    return p.on_annotation("segmentation_empty", split, place)


@plants("segmentation_invalid")
def _(p: Planted, v: int) -> Expected:
    return _masked(p, v, "segmentation_invalid", "mask.png", 7, [{"left": 1, "top": 2}])


@plants("polygon_flat_list")
def _(p: Planted, v: int) -> Expected:
    return _masked(p, v, "polygon_flat_list", TRIANGLE, SQUARE, [float(value) for value in TRIANGLE])


@plants("polygon_too_few_points")
def _(p: Planted, v: int) -> Expected:
    code = "polygon_too_few_points"
    if v == 2:
        return _masked(p, v, code, None, None, [TRIANGLE, [5, 5]])
    return _empty(p, v, code, ([[5, 5]], [[7, 6], []])[v], ([5, 5, 0, 0], [7, 6, 1, 1])[v])


@plants("polygon_odd")
def _(p: Planted, v: int) -> Expected:
    return _masked(p, v, "polygon_odd", [[*TRIANGLE, 4]], [TRIANGLE, SQUARE[:-1]], [[5, 5, 9]])


@plants("polygon_nan")
def _(p: Planted, v: int) -> Expected:
    bad = (float("nan"), float("-inf"), "twelve")[v]
    return _masked(p, v, "polygon_nan", *[[[*TRIANGLE[:-1], bad]]] * 3)


@plants("polygon_zero_area")
def _(p: Planted, v: int) -> Expected:
    line, spot = [5, 5, 20, 20, 40, 40], [30, 30] * 4
    if v == 2:
        return _masked(p, v, "polygon_zero_area", None, None, [SQUARE, line])
    return _empty(p, v, "polygon_zero_area", ([line], [spot])[v], ([5, 5, 35, 35], [30, 30, 0, 0])[v])


@plants("polygon_self_intersecting")
def _(p: Planted, v: int) -> Expected:
    bow = [50, 20, 80, 60, 80, 20, 50, 60]
    star = [48, 10, 60, 50, 25, 25, 70, 25, 35, 50]
    return _masked(p, v, "polygon_self_intersecting", [bow], [star], [TRIANGLE, bow])


@plants("polygon_outside")
def _(p: Planted, v: int) -> Expected:
    return _masked(
        p,
        v,
        "polygon_outside",
        [[50, 20, 130, 20, 130, 60, 50, 60]],
        [[-5, 10, 30, 10, 30, 40, -5, 40]],
        [TRIANGLE, [60, 30, 80, 30, 80, 74, 60, 74]],
    )


@plants("mask_empty")
def _(p: Planted, v: int) -> Expected:
    tiny = [20.1, 20.1, 20.4, 20.1, 20.4, 20.4]
    nothing = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    mask = ([shifted(SQUARE, 200, 0)], [tiny], nothing)[v]
    return _empty(p, v, "mask_empty", mask, ([250, 20, 30, 40], [20.1, 20.1, 0.3, 0.3], [0, 0, 0, 0])[v])


@plants("rle_size_mismatch")
def _(p: Planted, v: int) -> Expected:
    _drawn(p, v, TRIANGLE)
    turned = {**rle_of(TRIANGLE), "size": [WIDTH, HEIGHT]}
    larger = rle_of(TRIANGLE, compressed=False, height=2 * HEIGHT, width=2 * WIDTH)
    return _masked(p, v, "rle_size_mismatch", turned, larger, rle_of(SQUARE, width=WIDTH + 1))


@plants("rle_size_missing")
def _(p: Planted, v: int) -> Expected:
    _drawn(p, v, SQUARE)
    runs = rle_of(SQUARE, compressed=False)["counts"]
    return _masked(p, v, "rle_size_missing", runs, [runs], {"counts": rle_of(SQUARE)["counts"]})


@plants("rle_form")
def _(p: Planted, v: int) -> Expected:
    good = rle_of(SQUARE)
    plain = rle_of(SQUARE, compressed=False)
    return _masked(
        p,
        v,
        "rle_form",
        [good],
        {**good, "counts": f"b'{good['counts']}'"},
        {"size": [[HEIGHT, WIDTH]], "counts": [float(run) for run in plain["counts"]]},
    )


@plants("polygon_points")
def _(p: Planted, v: int) -> Expected:
    pairs = [list(xy) for xy in zip(SQUARE[::2], SQUARE[1::2], strict=True)]
    named = [{"x": x, "y": y} for x, y in pairs]
    return _masked(p, v, "polygon_points", pairs, [pairs], [named])


@plants("polygon_nested")
def _(p: Planted, v: int) -> Expected:
    return _masked(p, v, "polygon_nested", [[SQUARE]], [[SQUARE, TRIANGLE]], [[[TRIANGLE]]])


@plants("polygon_is_box")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    box = p.annotation(split, place)["bbox"]
    return _masked(p, v, "polygon_is_box", [box], box, [[5, 5, 20, 20]])


@plants("segmentation_text")
def _(p: Planted, v: int) -> Expected:
    return _masked(
        p,
        v,
        "segmentation_text",
        str([SQUARE]),
        json.dumps(rle_of(SQUARE)),
        [[str(value) for value in SQUARE]],
    )


@plants("coordinates_normalised")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    for item in p.documents[split]["annotations"]:
        if isinstance(item["segmentation"], list):
            item["segmentation"] = [_parts_of(part, 1) for part in item["segmentation"]]
    return p.on_annotation("coordinates_normalised", split, 0)


@plants("coordinates_percent")
def _(p: Planted, v: int) -> Expected:
    _drawn(p, v, SQUARE)
    return _masked(p, v, "coordinates_percent", *[[_parts_of(SQUARE, 100)]] * 3)


def _parts_of(polygon: list[float], whole: float) -> list[float]:
    return [value / (WIDTH, HEIGHT)[i % 2] * whole for i, value in enumerate(polygon)]


@plants("rle_damaged")
def _(p: Planted, v: int) -> Expected:
    _drawn(p, v, TRIANGLE)
    good = rle_of(TRIANGLE)
    plain = rle_of(TRIANGLE, compressed=False)
    return _masked(
        p,
        v,
        "rle_damaged",
        {**good, "counts": good["counts"][:-9]},
        {**plain, "counts": plain["counts"][:-1]},
        {**good, "counts": 7},
    )


# ---- boxes, areas, flags


@plants("bbox_missing")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    if v == 1:
        p.annotation(split, place)["bbox"] = None
    else:
        del p.annotation(split, place)["bbox"]
    return p.on_annotation("bbox_missing", split, place)


@plants("bbox_zero")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["bbox"] = ([10, 10, 0, 20], [10, 10, 20, 0], [0, 0, 0, 0])[v]
    return p.on_annotation("bbox_zero", split, place)


@plants("bbox_negative")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["bbox"] = ([40, 10, -30, 20], [10, 30, 20, -20.5], [40, 50, -30, -40])[v]
    return p.on_annotation("bbox_negative", split, place)


@plants("bbox_mismatch")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    x, y, width, height = p.annotation(split, place)["bbox"]
    boxes = ([x, y, x + width, y + height], [x + 4, y, width, height], [x, y, width - 5, height])
    p.annotation(split, place)["bbox"] = boxes[v]
    return p.on_annotation("bbox_mismatch", split, place)


@plants("area_missing")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    if v == 1:
        p.annotation(split, place)["area"] = None
    else:
        del p.annotation(split, place)["area"]
    return p.on_annotation("area_missing", split, place)


@plants("area_mismatch")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["area"] *= (3, 0, -1)[v]
    return p.on_annotation("area_mismatch", split, place)


@plants("area_of_box")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    records = [item for item in p.documents[split]["annotations"] if item["id"] % 10 == 0]
    for item in records[: (1, 2, 5)[v]]:  # triangles
        item["area"] = item["bbox"][2] * item["bbox"][3]
    return p.expect("area_of_box", split, {"id": records[0]["image_id"]}, records[0])


@plants("crowd")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    p.annotation(split, place)["iscrowd"] = 1
    return p.on_annotation("crowd", split, place)


@plants("annotation_duplicate")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    again = {**p.annotation(split, place), "id": 5000 + v}
    if v == 1:
        again.pop("area")
        again["area"] = p.annotation(split, place)["area"]
    p.documents[split]["annotations"].insert((0, 2, 9)[v], again)
    first = p.annotation(split, place + 1) if v == 0 else again
    return Expected("annotation_duplicate", f"instance_{split}.json", first["image_id"], first["id"])


@plants("json_encoding")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    p.documents[split]["info"] = {"contributor": "螺丝厂"}
    text = json.dumps(p.documents.pop(split), ensure_ascii=False)
    p.file(split).write_bytes(text.encode(("utf-16-le", "utf-16", "utf-32-be")[v]))
    return p.expect("json_encoding", split)


@plants("json_encoding_guessed")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    p.documents[split]["info"] = {"contributor": ("螺丝厂", "螺絲廠", "ねじ")[v]}
    text = json.dumps(p.documents.pop(split), ensure_ascii=False)
    p.file(split).write_bytes(text.encode(("gbk", "big5", "shift-jis")[v]))
    return p.expect("json_encoding_guessed", split)


@plants("category_name_number")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        p.documents[split]["categories"][v]["name"] = (0, 7, 2**70)[v]
    return p.expect("category_name_number", "train")


@plants("id_is_text")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    record = p.annotation(split, place)
    expected = p.on_annotation("id_is_text", split, place)
    key = ("image_id", "category_id", "id")[v]
    record[key] = str(record[key])
    return expected


@plants("id_rounded")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    record, rounded = p.annotation(split, place), (1e18, 1.2e30, 2.0**60)[v]
    record["id"] = rounded
    expected = p.on_annotation("id_rounded", split, place)
    return expected._replace(annotation_id=int(rounded))


@plants("category_names_alike")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        p.documents[split]["categories"][2]["name"] = ("bolt ", "BOLT", "ｂｏｌｔ")[v]
    return p.expect("category_names_alike", "train")


@plants("category_background")
def _(p: Planted, v: int) -> Expected:
    background = {"id": 0, "name": ("_background_", "background", "__background__")[v], "supercategory": None}
    for split in ("train", "val"):
        p.documents[split]["categories"].insert((0, 3, 1)[v], dict(background))
    return p.expect("category_background", "train")


@plants("category_background_used")
def _(p: Planted, v: int) -> Expected:
    for split in ("train", "val"):
        p.documents[split]["categories"][v]["name"] = ("_background_", "Background", "背景")[v]
    return p.expect("category_background_used", "train")


@plants("number_is_text")
def _(p: Planted, v: int) -> Expected:
    split, place = where(v)
    record = p.annotation(split, place)
    record.update(
        ({"area": str(record["area"])}, {"bbox": list(map(str, record["bbox"]))}, {"iscrowd": "false"})[v]
    )
    return p.on_annotation("number_is_text", split, place)


@plants("bbox_rounded")
def _(p: Planted, v: int) -> Expected:
    return plant_small_object(p, v, "bbox_rounded", bbox=([20, 20, 7, 7], [19, 19, 8, 8], [20, 21, 8, 8])[v])


@plants("area_rounded")
def _(p: Planted, v: int) -> Expected:
    return plant_small_object(p, v, "area_rounded", area=(49, 72, 55.5)[v])


def plant_small_object(p: Planted, v: int, code: str, **values: Any) -> Expected:
    split, place = where(v)
    record = p.annotation(split, place)
    small = annotation(record["id"], record["image_id"], 1, [[20, 20, 28, 20, 28, 28, 20, 28]])
    p.documents[split]["annotations"][place] = {**small, **values}
    return p.on_annotation(code, split, place)


@plants("split_all_crowd")
def _(p: Planted, v: int) -> Expected:
    split = SPLITS[v]
    for item in p.documents[split]["annotations"]:
        item["iscrowd"] = (1, True, "1")[v]
    return p.expect("split_all_crowd", split)
