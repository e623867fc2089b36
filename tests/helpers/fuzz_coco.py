"""COCO annotation files of a scene, written without the toolkit, and their mutations."""

import copy
import json
import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fuzz_cases import Mutations, Source, some
from fuzz_scenes import SceneImage, Thing, compressed, encode_png, found_of, uncompressed

Record = dict[str, Any]


@dataclass
class CocoSource(Source):
    """``images/`` and ``annotations/instance_train.json`` and ``_val.json``."""

    documents: dict[str, Any] = field(default_factory=dict)
    # How a document becomes bytes; the last step of all.
    encode: Callable[[str, str], bytes] = lambda split, text: text.encode()
    dump: Callable[[Any], str] = lambda document: json.dumps(document, ensure_ascii=False)
    things: list[tuple[Record, str, SceneImage, Thing]] = field(default_factory=list)  # what a record shows

    def build(self) -> None:
        number = 0
        for split, images in self.scene.splits.items():
            records, annotations = [], []
            for image in images:
                file_name = f"{image.name}.png"
                self.files[f"images/{file_name}"] = image.png
                image_id = len(self.files)
                records.append(
                    {"id": image_id, "file_name": file_name, "width": image.width, "height": image.height}
                )
                for thing in image.things:
                    number += 1
                    mask = thing.mask(image.size_hw)
                    flat = [[float(value) for point in ring for value in point] for ring in thing.rings]
                    segmentation: Any = flat
                    if thing.shape == "hole":
                        segmentation = compressed(mask) if number % 2 else uncompressed(mask)
                    annotations.append(
                        {
                            "id": number,
                            "image_id": image_id,
                            "category_id": self.scene.labels.index(thing.label) + 1,
                            "segmentation": segmentation,
                            "area": float(mask.sum()),
                            "bbox": [float(value) for value in thing.box],
                            "iscrowd": 0,
                        }
                    )
                    self.things.append((annotations[-1], split, image, thing))
            self.documents[split] = {
                "images": records,
                "annotations": annotations,
                "categories": [
                    {"id": id, "name": name, "supercategory": ""}
                    for id, name in enumerate(self.scene.labels, start=1)
                ],
            }

    def finish(self) -> None:
        for split, document in self.documents.items():
            text = document if isinstance(document, str) else self.dump(document)
            self.files[f"annotations/instance_{split}.json"] = self.encode(split, text)

    def lists(self, key: str) -> list[Record]:
        """The records of a kind of all splits."""
        documents = [document for document in self.documents.values() if isinstance(document, dict)]
        return [record for document in documents for record in document.get(key) or [] if record]

    @property
    def annotations(self) -> list[Record]:
        return self.lists("annotations")

    @property
    def images(self) -> list[Record]:
        return self.lists("images")

    @property
    def categories(self) -> list[Record]:
        return self.lists("categories")

    @property
    def polygons(self) -> list[Record]:
        """The annotations whose segmentation is a list of polygons, as written first."""
        return [item for item in self.annotations if is_polygons(item.get("segmentation"))]

    @property
    def rles(self) -> list[Record]:
        """The annotations whose segmentation is an RLE."""
        return [item for item in self.annotations if isinstance(item.get("segmentation"), dict)]

    def thing_of(self, item: Record) -> tuple[str, SceneImage, Thing]:
        """What the annotation shows. Ids may have been changed, so it is told by its place in memory."""
        return next((split, image, thing) for known, split, image, thing in self.things if known is item)

    def replace(self, old: Record, new: Record) -> Record:
        """``new``, which shows what ``old`` shows, if that is an annotation."""
        shown = [(new, split, image, thing) for known, split, image, thing in self.things if known is old]
        self.things += shown
        return new


def is_polygons(segmentation: Any) -> bool:
    """Whether this is a list of lists of numbers."""
    return isinstance(segmentation, list) and all(
        isinstance(part, list) and len(part) >= 6 and all(type(value) is float for value in part)
        for part in segmentation
    )


MUTATIONS: Mutations[CocoSource] = Mutations()
lossless, ambiguous, lossy = MUTATIONS.lossless, MUTATIONS.ambiguous, MUTATIONS.lossy


# ---- ids


def _change_ids(source: CocoSource, change: Callable[[Any], Any], *, images: bool, annotations: bool) -> None:
    for record in source.images if images else []:
        record["id"] = change(record["id"])
    for item in source.annotations:
        if images:
            item["image_id"] = change(item["image_id"])
        if annotations:
            item["id"] = change(item["id"])


def _add_id_mutation(name: str, change: Callable[[Any], Any]) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        which = rng.choice([(True, False), (False, True), (True, True)])
        _change_ids(source, change, images=which[0], annotations=which[1])

    MUTATIONS.add("lossless", name, apply)


_add_id_mutation("ids_number_text", str)
_add_id_mutation("ids_text", lambda id: f"img-{id}-ä")
_add_id_mutation("ids_uuid", lambda id: f"0b7c9e0a-5d1f-4d2e-9d8c-{int(id):012x}")
_add_id_mutation("ids_hash", lambda id: 2**62 + int(id))
_add_id_mutation("ids_beyond_64_bits", lambda id: 2**127 + int(id))
_add_id_mutation("ids_float", float)
_add_id_mutation("ids_from_zero", lambda id: int(id) - 1)
_add_id_mutation("ids_negative", lambda id: -int(id))


@lossless
def image_id_text_in_annotations_only(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["image_id"] = str(item["image_id"])


@lossless
def category_id_text(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["category_id"] = str(item["category_id"])


@lossless
def category_ids_text_everywhere(source: CocoSource, rng: random.Random) -> None:
    for item in source.annotations:
        item["category_id"] = f"c{item['category_id']}"
    for category in source.categories:
        category["id"] = f"c{category['id']}"


@lossless
def category_ids_huge(source: CocoSource, rng: random.Random) -> None:
    for item in source.annotations:
        item["category_id"] = 2**63 + int(item["category_id"])
    for category in source.categories:
        category["id"] = 2**63 + int(category["id"])


@lossless
def category_ids_from_zero(source: CocoSource, rng: random.Random) -> None:
    for item in source.annotations:
        item["category_id"] = int(item["category_id"]) - 1
    for category in source.categories:
        category["id"] = int(category["id"]) - 1


@lossless
def annotation_ids_equal(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["id"] = source.annotations[0]["id"]


@lossless
def annotation_ids_missing(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item.pop("id", None)


# ---- numbers beside the mask


def _add_value_mutation(name: str, key: str, values: list[Any]) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        for item in some(rng, source.annotations):
            value = rng.choice(values)
            if value is _GONE:
                item.pop(key, None)
            else:
                item[key] = value(item) if callable(value) else copy.deepcopy(value)

    MUTATIONS.add("lossless", name, apply)


_GONE = object()
_NAN = float("nan")


def _box(item: Record) -> list[float]:
    box = item.get("bbox")
    return box if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) else [1, 2, 3, 4]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_add_value_mutation("bbox_missing", "bbox", [_GONE, None])
_add_value_mutation("bbox_zero", "bbox", [[0, 0, 0, 0], [0.0, 0.0, 0.0, 0.0]])
_add_value_mutation("bbox_nan", "bbox", [[_NAN] * 4, [1.0, 2.0, _NAN, 4.0], [1.0, float("inf"), 2.0, 3.0]])
_add_value_mutation("bbox_text", "bbox", [lambda item: [f"{value:g}" for value in _box(item)]])
_add_value_mutation("bbox_words", "bbox", ["none", ["a", "b", "c", "d"], {}, 7])
_add_value_mutation("bbox_short", "bbox", [[], [1.0], [1.0, 2.0, 3.0], [1.0] * 5, [[1.0, 2.0, 3.0, 4.0]]])
_add_value_mutation(
    "bbox_negative",
    "bbox",
    [
        lambda item: [
            _box(item)[0] + _box(item)[2],
            _box(item)[1] + _box(item)[3],
            -_box(item)[2],
            -_box(item)[3],
        ]
    ],
)
_add_value_mutation("bbox_elsewhere", "bbox", [[0.0, 0.0, 2.0, 2.0], [500.0, 400.0, 30.0, 20.0], [1e300] * 4])
_add_value_mutation("bbox_huge_ints", "bbox", [[10**400, 0, 5, 5]])
_add_value_mutation(
    "bbox_of_corners",
    "bbox",
    [lambda item: [*_box(item)[:2], _box(item)[0] + _box(item)[2], _box(item)[1] + _box(item)[3]]],
)
_add_value_mutation("area_missing", "area", [_GONE, None])
_add_value_mutation("area_zero", "area", [0, 0.0, -1, -30.5])
_add_value_mutation("area_nan", "area", [_NAN, float("inf"), -float("inf")])
_add_value_mutation("area_text", "area", [lambda item: str(item.get("area", 1)), "12.5", " 40 "])
_add_value_mutation("area_words", "area", ["", "large", [], {}, [100.0]])
_add_value_mutation("area_wrong", "area", [1.0, 1e9, 10**400, lambda item: _box(item)[2] * _box(item)[3]])
_add_value_mutation("iscrowd_missing", "iscrowd", [_GONE, None])
_add_value_mutation("iscrowd_false", "iscrowd", [False, "0", 0.0, "false"])


# ---- segmentation: lists


def _pairs(part: list[float]) -> list[list[float]]:
    return [list(pair) for pair in zip(part[::2], part[1::2], strict=True)]


def _flat_pairs(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, [item for item in source.polygons if len(item["segmentation"]) == 1]):
        item["segmentation"] = _pairs(item["segmentation"][0])


def _change_parts(source: CocoSource, rng: random.Random, change: Callable[[list[float]], Any]) -> None:
    for item in some(rng, source.polygons):
        item["segmentation"] = [change(part) for part in item["segmentation"]]


MUTATIONS.add("lossless", "points_as_pairs", _flat_pairs)


@lossless
def parts_of_pairs(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, _pairs)


@lossless
def one_level_too_many(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.polygons):
        item["segmentation"] = [item["segmentation"]]


@lossless
def each_part_one_level_too_many(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [part])


@lossless
def pairs_one_level_too_many(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.polygons):
        item["segmentation"] = [[_pairs(part) for part in item["segmentation"]]]


@lossless
def flat_list(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, [item for item in source.polygons if len(item["segmentation"]) == 1]):
        item["segmentation"] = item["segmentation"][0]


@lossless
def coordinates_text(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [f"{value:g}" for value in part])


@lossless
def coordinates_whole(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [int(value) for value in part])


@lossless
def closing_point(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [*part, *part[:2]])


@lossless
def points_repeated(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [value for pair in _pairs(part) for value in (*pair, *pair)])


@lossless
def other_start_and_direction(source: CocoSource, rng: random.Random) -> None:
    def turned(part: list[float]) -> list[float]:
        pairs = _pairs(part)
        start = rng.randrange(len(pairs))
        return [value for pair in (pairs[start:] + pairs[:start])[::-1] for value in pair]

    _change_parts(source, rng, turned)


@lossless
def points_on_edges(source: CocoSource, rng: random.Random) -> None:
    def refined(part: list[float]) -> list[float]:
        pairs = _pairs(part)
        middles = [
            [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] for a, b in zip(pairs, pairs[1:] + pairs[:1], strict=True)
        ]
        return [value for pair, middle in zip(pairs, middles, strict=True) for value in (*pair, *middle)]

    _change_parts(source, rng, refined)


@lossless
def empty_part_beside(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.polygons):
        item["segmentation"] = [*item["segmentation"], rng.choice([[], [5.0, 5.0], [5.0, 5.0, 9.0, 9.0]])]


@lossless
def normalised_coordinates(source: CocoSource, rng: random.Random) -> bool:
    polygons = source.polygons
    if len(polygons) < len(source.annotations) or not polygons:
        return False
    for item in polygons:
        _, image, _ = source.thing_of(item)
        sides = (image.width, image.height)
        item["segmentation"] = [
            [value / sides[place % 2] for place, value in enumerate(part)] for part in item["segmentation"]
        ]
        if rng.random() < 0.5:
            item.pop("bbox", None)
    return True


# ---- segmentation: RLE


def _masked(source: CocoSource, item: Record) -> Any:
    _, image, thing = source.thing_of(item)
    return thing.mask(image.size_hw)


@lossless
def rle_compressed(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["segmentation"] = compressed(_masked(source, item))


@lossless
def rle_uncompressed(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["segmentation"] = uncompressed(_masked(source, item))


@lossless
def rle_size_floats(source: CocoSource, rng: random.Random) -> None:
    rle_compressed(source, rng)
    for item in some(rng, source.rles):
        item["segmentation"]["size"] = [float(side) for side in item["segmentation"]["size"]]


@lossless
def rle_count_floats(source: CocoSource, rng: random.Random) -> None:
    rle_uncompressed(source, rng)
    for item in some(rng, [item for item in source.rles if isinstance(item["segmentation"]["counts"], list)]):
        item["segmentation"]["counts"] = [float(run) for run in item["segmentation"]["counts"]]


@lossless
def rle_in_a_list(source: CocoSource, rng: random.Random) -> None:
    rle_compressed(source, rng)
    for item in some(rng, source.rles):
        item["segmentation"] = [item["segmentation"]]


@lossless
def rle_with_other_keys(source: CocoSource, rng: random.Random) -> None:
    rle_uncompressed(source, rng)
    for item in some(rng, source.rles):
        item["segmentation"] = {
            "counts": item["segmentation"]["counts"],
            "order": "F",
            **item["segmentation"],
        }


@lossless
def rle_empty_runs(source: CocoSource, rng: random.Random) -> None:
    rle_uncompressed(source, rng)
    for item in source.rles:
        if isinstance(item["segmentation"]["counts"], list):
            item["segmentation"]["counts"] += [0] * rng.randrange(1, 4)


# ---- images: sizes


def _add_size_mutation(name: str, change: Callable[[Record], Any]) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        for record in some(rng, source.images):
            change(record)

    MUTATIONS.add("lossless", name, apply)


def _sides(record: Record, change: Callable[[Any], Any]) -> None:
    record.update({key: change(record[key]) for key in ("width", "height") if key in record})


_add_size_mutation("sizes_float", lambda record: _sides(record, float))
_add_size_mutation("sizes_text", lambda record: _sides(record, lambda side: f"{side:g}"))
_add_size_mutation("sizes_missing", lambda record: [record.pop(key, 0) for key in ("width", "height")])
_add_size_mutation("sizes_null", lambda record: _sides(record, lambda side: None))
_add_size_mutation("sizes_zero", lambda record: _sides(record, lambda side: 0))
_add_size_mutation("width_missing", lambda record: record.pop("width", 0))
_add_size_mutation(
    "sizes_swapped",
    lambda record: record.update(width=record.get("height"), height=record.get("width")),
)


# ---- images: names


def _add_name_mutation(name: str, change: Callable[[str], str], folder_first: bool = False) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        if folder_first:
            _into_folder(source)
        for record in some(rng, source.images):
            record["file_name"] = change(record["file_name"])

    MUTATIONS.add("lossless", name, apply)


def _into_folder(source: CocoSource) -> None:
    """All images lie in a folder of the folder of images."""
    for record in source.images:
        _move(source, record, f"cam 2/{record['file_name']}")


def _move(source: CocoSource, record: Record, new: str) -> None:
    source.rename(f"images/{record['file_name']}", f"images/{new}")
    record["file_name"] = new


def _base(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


_add_name_mutation("name_prefix_images", lambda name: f"images/{name}")
_add_name_mutation("name_prefix_folder", lambda name: f"train2017/{name}")
_add_name_mutation("name_prefix_dot", lambda name: f"./{name}")
_add_name_mutation("name_prefix_jpegimages", lambda name: f"JPEGImages\\{name}")
_add_name_mutation("name_absolute", lambda name: f"/home/me/project/images/{name}")
_add_name_mutation("name_absolute_windows", lambda name: f"C:\\data\\images\\{name}")
_add_name_mutation("name_upper_case", str.upper)
_add_name_mutation("name_ending_upper_case", lambda name: name.replace(".png", ".PNG"))
_add_name_mutation("name_other_ending", lambda name: name.replace(".png", ".jpg"))
_add_name_mutation("name_without_ending", lambda name: name.removesuffix(".png"))
_add_name_mutation("name_backslash", lambda name: name.replace("/", "\\"), folder_first=True)
_add_name_mutation("name_quoted", quote, folder_first=True)
_add_name_mutation("name_quoted_prefix", lambda name: f"http://server/data/{quote(name)}", folder_first=True)
_add_name_mutation("name_without_folder", _base, folder_first=True)
_add_name_mutation("name_with_blanks", lambda name: f" {name} ")


def _add_form_mutation(name: str, listed: Any, on_disk: Any) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        for record in source.images:
            new = record["file_name"].replace("train", "träin").replace("val", "vål")
            _move(source, record, unicodedata.normalize(on_disk, new))
            record["file_name"] = unicodedata.normalize(listed, new)

    MUTATIONS.add("lossless", name, apply)


_add_form_mutation("name_composed", "NFC", "NFD")
_add_form_mutation("name_decomposed", "NFD", "NFC")


@lossless
def file_names_upper_case_on_disk(source: CocoSource, rng: random.Random) -> None:
    for record in some(rng, source.images):
        source.rename(f"images/{record['file_name']}", f"images/{record['file_name'].upper()}")


@lossless
def image_listed_twice(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        for record in some(rng, document["images"]):
            other = {
                **record,
                "id": f"{record['id']}9" if isinstance(record["id"], str) else 9000 + record["id"],
            }
            document["images"].append(other)
            for item in document["annotations"]:
                if item["image_id"] == record["id"] and rng.random() < 0.5:
                    item["image_id"] = other["id"]


# ---- categories


@lossless
def categories_in_other_order(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        rng.shuffle(document["categories"])


@lossless
def category_ids_of_val_differ(source: CocoSource, rng: random.Random) -> None:
    document = source.documents["val"]
    ids = [category["id"] for category in document["categories"]]
    moved = dict(zip(ids, ids[1:] + ids[:1], strict=True)) if len(ids) > 1 else {ids[0]: 7}
    for category in document["categories"]:
        category["id"] = moved[category["id"]]
    for item in document["annotations"]:
        item["category_id"] = moved.get(item["category_id"], item["category_id"])


@lossless
def category_background_unused(source: CocoSource, rng: random.Random) -> None:
    for document in some(rng, list(source.documents.values())):
        document["categories"].insert(0, {"id": 0, "name": "_background_", "supercategory": ""})


@lossless
def category_unused_in_val(source: CocoSource, rng: random.Random) -> None:
    document = source.documents["val"]
    used = {item["category_id"] for item in document["annotations"]}
    document["categories"] = [entry for entry in document["categories"] if entry["id"] in used]


@lossless
def supercategories(source: CocoSource, rng: random.Random) -> None:
    for category in some(rng, source.categories):
        category["supercategory"] = rng.choice([None, "thing", "none", 3])
        if rng.random() < 0.3:
            del category["supercategory"]


# ---- the file


@lossless
def keys_in_other_order(source: CocoSource, rng: random.Random) -> None:
    for split, document in source.documents.items():
        for key in ("images", "annotations", "categories"):
            document[key] = [
                source.replace(record, dict(reversed(record.items()))) for record in document[key]
            ]
        source.documents[split] = dict(rng.sample(sorted(document.items()), len(document)))


@lossless
def records_in_other_order(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        order = list(enumerate(document["images"]))
        rng.shuffle(order)
        document["images"] = [record for _, record in order]


@lossless
def other_keys(source: CocoSource, rng: random.Random) -> None:
    for record in [*source.images, *source.annotations, *source.categories]:
        record[rng.choice(["attributes", "keypoints", "license", "score", "自"])] = rng.choice(
            [None, {"a": 1}, [1, 2], "text", 3.5]
        )
    for document in source.documents.values():
        document |= {"info": rng.choice([None, {}, {"year": "2024"}]), "licenses": [], "type": "instances"}


def _add_encoding(name: str, encode: Callable[[str], bytes]) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        splits = some(rng, list(source.documents))
        source.encode = lambda split, text: encode(text) if split in splits else text.encode()

    MUTATIONS.add("lossless", name, apply)


_add_encoding("encoding_mark", lambda text: text.encode("utf-8-sig"))
_add_encoding("encoding_utf16", lambda text: text.encode("utf-16"))
_add_encoding("encoding_utf16_big", lambda text: b"\xfe\xff" + text.encode("utf-16-be"))
_add_encoding("encoding_utf32", lambda text: text.encode("utf-32"))
_add_encoding("encoding_gbk", lambda text: text.encode("gb18030"))
_add_encoding("line_ends", lambda text: text.replace(", ", ",\r\n\t").encode() + b"\r\n\r\n")


@lossless
def escaped_and_indented(source: CocoSource, rng: random.Random) -> None:
    source.dump = lambda document: json.dumps(document, indent=1, ensure_ascii=True)


# ---- two readings


def _allow(source: CocoSource, item: Record) -> None:
    source.allow_box(*source.thing_of(item))


def _numbers_of_box(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        _, _, thing = source.thing_of(item)
        _allow(source, item)
        item["segmentation"] = [[float(value) for value in thing.box]]


MUTATIONS.add("ambiguous", "four_numbers_of_the_box", _numbers_of_box)


@ambiguous
def four_numbers_of_the_corners(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        _, _, thing = source.thing_of(item)
        _allow(source, item)
        x, y, w, h = map(float, thing.box)
        item["segmentation"] = [[x, y, x + w, y + h]]


def _add_no_segmentation(name: str, values: list[Any]) -> None:
    def apply(source: CocoSource, rng: random.Random) -> None:
        for item in some(rng, source.annotations):
            _allow(source, item)
            value = rng.choice(values)
            if value is _GONE:
                item.pop("segmentation", None)
            else:
                item["segmentation"] = copy.deepcopy(value)

    MUTATIONS.add("ambiguous", name, apply)


_add_no_segmentation("segmentation_empty", [[], [[]], [[], []], {}, ""])
_add_no_segmentation("segmentation_missing", [None, _GONE])


@ambiguous
def one_number_too_many(source: CocoSource, rng: random.Random) -> None:
    _change_parts(source, rng, lambda part: [*part, rng.choice([0.0, part[0], 7.5])])


@ambiguous
def one_number_too_few(source: CocoSource, rng: random.Random) -> None:
    def shorter(part: list[float]) -> list[float]:
        place = rng.randrange(len(part))
        return part[:place] + part[place + 1 :]

    _change_parts(source, rng, shorter)


@ambiguous
def counts_without_size(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        counts = uncompressed(_masked(source, item))["counts"]
        item["segmentation"] = rng.choice([counts, [counts], {"counts": counts}])


@ambiguous
def rle_size_swapped(source: CocoSource, rng: random.Random) -> None:
    rle_compressed(source, rng)
    for item in some(rng, source.rles):
        item["segmentation"]["size"] = item["segmentation"]["size"][::-1]


@ambiguous
def rle_size_text(source: CocoSource, rng: random.Random) -> None:
    rle_uncompressed(source, rng)
    for item in some(rng, source.rles):
        size = item["segmentation"]["size"]
        item["segmentation"]["size"] = rng.choice(
            [[f"{side}" for side in size], f"{size[0]},{size[1]}", None]
        )


@ambiguous
def rle_counts_as_bytes_text(source: CocoSource, rng: random.Random) -> None:
    rle_compressed(source, rng)
    for item in some(rng, [item for item in source.rles if isinstance(item["segmentation"]["counts"], str)]):
        item["segmentation"]["counts"] = f"b'{item['segmentation']['counts']}'"


@ambiguous
def sizes_of_another_image(source: CocoSource, rng: random.Random) -> None:
    for record in some(rng, source.images):
        record.update(width=96, height=64)


@ambiguous
def image_found_twice(source: CocoSource, rng: random.Random) -> None:
    for record in some(rng, source.images):
        name = record["file_name"]
        _move(source, record, f"camA/{name}")
        source.files[f"images/camB/{name}"] = encode_png(rng.randrange(2**20), 48, 32)
        record["file_name"] = rng.choice([name, f"camC/{name}", f"camA\\..\\{name}"])


@ambiguous
def all_are_crowds(source: CocoSource, rng: random.Random) -> None:
    for item in source.annotations:
        item["iscrowd"] = rng.choice([1, True, 1.0])
    source.allowed += [
        found_of(split, image, thing.label, thing.mask(image.size_hw)).as_crowd()
        for _, split, image, thing in source.things
    ]


@ambiguous
def category_names_with_blanks(source: CocoSource, rng: random.Random) -> None:
    category = rng.choice(source.documents["val"]["categories"])
    name = category["name"]
    category["name"] = rng.choice([f"{name} ", name.title(), name.upper(), f" {name}"])
    source.allowed += [
        found_of(split, image, category["name"], thing.mask(image.size_hw))
        for _, split, image, thing in source.things
        if split == "val" and thing.label == name
    ]


@ambiguous
def annotation_repeated(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        for item in some(rng, document["annotations"]):
            document["annotations"].append(
                {**copy.deepcopy(item), "id": 70000 + len(document["annotations"])}
            )
    source.allowed += source.truth


@ambiguous
def category_id_beyond_the_list(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item["category_id"] = rng.choice([99, -1, None, "x"])


@ambiguous
def two_categories_of_one_name(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        document["categories"].append({**document["categories"][0], "id": 55})


@ambiguous
def two_categories_of_one_id(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        document["categories"].append({**document["categories"][0], "name": "other"})


@ambiguous
def two_images_of_one_id(source: CocoSource, rng: random.Random) -> None:
    for document in source.documents.values():
        for record in document["images"]:
            record["id"] = document["images"][0]["id"]


# ---- information is gone


@lossy
def file_cut_off(source: CocoSource, rng: random.Random) -> None:
    split = rng.choice(["train", "val"])
    encode = source.encode
    share = rng.random()

    def cut(name: str, text: str) -> bytes:
        content = encode(name, text)
        return content[: int(len(content) * share)] if name == split else content

    source.encode = cut


@lossy
def file_missing(source: CocoSource, rng: random.Random) -> None:
    del source.documents[rng.choice(["train", "val"])]


@lossy
def file_of_something_else(source: CocoSource, rng: random.Random) -> None:
    source.documents[rng.choice(["train", "val"])] = rng.choice(
        ["[]", "null", "3", '"a"', "{}", "", "[" * 5000]
    )


@lossy
def lists_of_something_else(source: CocoSource, rng: random.Random) -> None:
    document = source.documents[rng.choice(["train", "val"])]
    key = rng.choice(["images", "annotations", "categories"])
    document[key] = rng.choice([None, {}, [], "x", [None], [[]], [3], {"1": {}}])


@lossy
def images_deleted(source: CocoSource, rng: random.Random) -> None:
    for record in some(rng, source.images):
        source.files.pop(f"images/{record['file_name']}", None)


@lossy
def images_damaged(source: CocoSource, rng: random.Random) -> None:
    for record in some(rng, source.images):
        name = f"images/{record['file_name']}"
        content = source.files.get(name, b"")
        ways = [
            b"",
            content[: len(content) // 2],
            b"<html>404</html>",
            b"version https://git-lfs.github.com/",
        ]
        source.files[name] = rng.choice(ways)


@lossy
def image_records_removed(source: CocoSource, rng: random.Random) -> None:
    document = source.documents[rng.choice(["train", "val"])]
    document["images"].remove(rng.choice(document["images"]))


@lossy
def annotations_removed_images_stay(source: CocoSource, rng: random.Random) -> None:
    source.documents[rng.choice(["train", "val"])]["annotations"] = []


@lossy
def masks_cover_nothing(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        _, image, _ = source.thing_of(item)
        pixels = image.width * image.height
        item["segmentation"] = rng.choice(
            [
                {"size": list(image.size_hw), "counts": [pixels]},
                [[5.0, 5.0, 9.0, 5.0, 7.0, 5.0]],
                [[5.0, 5.0, 5.0, 5.0, 5.0, 5.0]],
                [[900.0, 900.0, 950.0, 900.0, 950.0, 950.0]],
                [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]],
            ]
        )


@lossy
def coordinates_lost(source: CocoSource, rng: random.Random) -> None:
    def lost(part: list[float]) -> list[Any]:
        place = rng.randrange(len(part))
        value: Any = rng.choice([_NAN, float("inf"), None, "x", 1e30, [], True])
        return [*part[:place], value, *part[place + 1 :]]

    _change_parts(source, rng, lost)


@lossy
def rle_damaged(source: CocoSource, rng: random.Random) -> None:
    rle_compressed(source, rng)
    for item in some(rng, [item for item in source.rles if isinstance(item["segmentation"]["counts"], str)]):
        counts = item["segmentation"]["counts"]
        item["segmentation"]["counts"] = rng.choice([counts[:-1], counts[1:], "", "~~~~", "é", counts * 2])


@lossy
def references_lost(source: CocoSource, rng: random.Random) -> None:
    for item in some(rng, source.annotations):
        item[rng.choice(["image_id", "category_id"])] = rng.choice([None, 10**6, [], {}, _NAN, 1.5, True])


@lossy
def records_of_something_else(source: CocoSource, rng: random.Random) -> None:
    document = source.documents[rng.choice(["train", "val"])]
    key = rng.choice(["images", "annotations", "categories"])
    if document[key]:
        document[key][rng.randrange(len(document[key]))] = rng.choice([None, [], 3, "x", {}])


@lossy
def names_lost(source: CocoSource, rng: random.Random) -> None:
    source.dump = json.dumps  # half a pair of surrogates has no other form
    for record in some(rng, source.images):
        record["file_name"] = rng.choice(
            [None, "", "..", 7, "a\0b", "../../etc/passwd", "\ud800.png", "x" * 5000]
        )
