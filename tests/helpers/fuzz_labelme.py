"""LabelMe files of a scene, written without the toolkit, and their mutations."""

import base64
import io
import json
import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from fuzz_cases import Mutations, Source, some
from fuzz_scenes import SceneImage, Thing, encode_png
from PIL import Image

Record = dict[str, Any]


@dataclass
class LabelMeSource(Source):
    """``images/``, ``annotations/*.json``, lists of the splits, and ``label.txt``."""

    documents: dict[str, Any] = field(default_factory=dict)  # by name of the image in the scene
    paths: dict[str, str] = field(default_factory=dict)  # of the documents
    image_paths: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)  # lines by split
    classes: list[str] | None = None
    encode: Callable[[str], bytes] = lambda text: text.encode()
    encode_lists: Callable[[str], bytes] = lambda text: text.encode()
    dump: Callable[[Any], str] = lambda document: json.dumps(document, ensure_ascii=False)

    def build(self) -> None:
        for split, images in self.scene.splits.items():
            for image in images:
                shapes = [
                    shape
                    for number, thing in enumerate(image.things)
                    for shape in _shapes(image, thing, number)
                ]
                self.documents[image.name] = {
                    "version": "5.5.0",
                    "flags": {},
                    "shapes": shapes,
                    "imagePath": f"{'../' * (image.name.count('/') + 1)}images/{image.name}.png",
                    "imageData": None,
                    "imageHeight": image.height,
                    "imageWidth": image.width,
                }
                self.paths[image.name] = f"annotations/{image.name}.json"
                self.image_paths[image.name] = f"images/{image.name}.png"
                self.files[f"images/{image.name}.png"] = image.png
            self.lists[split] = [f"annotations/{image.name}.json" for image in images]
        self.classes = list(self.scene.labels)

    def finish(self) -> None:
        for name, document in self.documents.items():
            text = document if isinstance(document, str) else self.dump(document)
            self.files[self.paths[name]] = self.encode(text)
        for split, lines in self.lists.items():
            self.files[f"{split}_anno_list.txt"] = self.encode_lists("".join(f"{line}\n" for line in lines))
        if self.classes is not None:
            self.files["label.txt"] = self.encode_lists("".join(f"{line}\n" for line in self.classes))

    def images_with_documents(self) -> list[tuple[SceneImage, Record]]:
        """The images and their documents."""
        return [(image, self.documents[image.name]) for image in self.scene.images]

    @property
    def records(self) -> list[Record]:
        return [document for document in self.documents.values() if isinstance(document, dict)]

    @property
    def shapes(self) -> list[Record]:
        """The shapes of all files."""
        return [shape for document in self.records for shape in document["shapes"]]

    def some_objects(self, rng: random.Random) -> list[list[Record]]:
        """The shapes of some objects. Shapes of one group are one object."""
        objects: dict[tuple[int, Any], list[Record]] = {}
        for number, document in enumerate(self.records):
            for place, shape in enumerate(document["shapes"]):
                group = ("alone", place) if shape["group_id"] is None else (shape["group_id"],)
                objects.setdefault((number, group), []).append(shape)
        return some(rng, list(objects.values()))

    @property
    def polygons(self) -> list[Record]:
        """The shapes that are polygons."""
        return [shape for shape in self.shapes if shape.get("shape_type") == "polygon"]


def _shapes(image: SceneImage, thing: Thing, number: int) -> list[Record]:
    base: Record = {"label": thing.label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if thing.shape == "hole":
        x, y, w, h = thing.box
        cut = thing.mask(image.size_hw)[y : y + h, x : x + w]
        buffer = io.BytesIO()
        Image.fromarray(cut.astype(np.uint8)).save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode()
        corners = [[float(x), float(y)], [float(x + w - 1), float(y + h - 1)]]
        return [{**base, "points": corners, "shape_type": "mask", "mask": text}]
    group = number + 1 if len(thing.rings) > 1 else None
    return [
        {
            **base,
            "points": [[float(x), float(y)] for x, y in ring],
            "shape_type": "polygon",
            "group_id": group,
        }
        for ring in thing.rings
    ]


MUTATIONS: Mutations[LabelMeSource] = Mutations()
lossless, ambiguous, lossy = MUTATIONS.lossless, MUTATIONS.ambiguous, MUTATIONS.lossy


# ---- the image of a file


def _add_path_mutation(name: str, change: Callable[[str], Any]) -> None:
    """``change`` gets the name of the image below ``images/``."""

    def apply(source: LabelMeSource, rng: random.Random) -> None:
        for image, document in some(rng, source.images_with_documents()):
            document["imagePath"] = change(f"{image.name}.png")

    MUTATIONS.add("lossless", name, apply)


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


_add_path_mutation("path_absolute", lambda name: f"/home/me/old/images/{name}")
_add_path_mutation("path_absolute_windows", lambda name: f"C:\\Users\\me\\old\\images\\{name}")
_add_path_mutation("path_backslashes", lambda name: f"..\\images\\{name}")
_add_path_mutation("path_base", _base)
_add_path_mutation("path_below_images", lambda name: name)
_add_path_mutation("path_upper_case", lambda name: f"../images/{name.upper()}")
_add_path_mutation("path_other_ending", lambda name: f"../images/{name.replace('.png', '.jpg')}")
_add_path_mutation("path_missing", lambda name: None)
_add_path_mutation("path_quoted", lambda name: f"../images/{name.replace('_', '%5F')}")


FORMS: list[tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]] = [("NFC", "NFD"), ("NFD", "NFC")]


@lossless
def names_composed(source: LabelMeSource, rng: random.Random) -> None:
    listed, on_disk = rng.choice(FORMS)
    for image, document in source.images_with_documents():
        new = source.image_paths[image.name].replace("train_", "träin_").replace("val_", "vål_")
        source.rename(source.image_paths[image.name], unicodedata.normalize(on_disk, new))
        document["imagePath"] = "../" + unicodedata.normalize(listed, new)


@lossless
def image_endings_upper_case(source: LabelMeSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        source.rename(path, path.replace(".png", ".PNG"))


@lossless
def image_embedded_too(source: LabelMeSource, rng: random.Random) -> None:
    for image, document in some(rng, source.images_with_documents()):
        document["imageData"] = base64.b64encode(image.png).decode()


@lossless
def image_embedded_only(source: LabelMeSource, rng: random.Random) -> None:
    for image, document in some(rng, source.images_with_documents()):
        document["imageData"] = base64.b64encode(image.png).decode()
        source.files.pop(source.image_paths[image.name], None)


@lossless
def all_in_one_folder(source: LabelMeSource, rng: random.Random) -> None:
    """As LabelMe saves it without --output: the files beside the images."""
    for image, document in source.images_with_documents():
        source.rename(source.image_paths[image.name], f"{image.name}.png")
        source.paths[image.name] = f"{image.name}.json"
        document["imagePath"] = _base(f"{image.name}.png")
    for split, images in source.scene.splits.items():
        source.lists[split] = [source.paths[image.name] for image in images]


@lossless
def files_beside_images(source: LabelMeSource, rng: random.Random) -> None:
    for image, document in source.images_with_documents():
        source.paths[image.name] = f"images/{image.name}.json"
        document["imagePath"] = _base(f"{image.name}.png")
    for split, images in source.scene.splits.items():
        source.lists[split] = [source.paths[image.name] for image in images]


def _add_document_mutation(name: str, change: Callable[[Record], Any]) -> None:
    def apply(source: LabelMeSource, rng: random.Random) -> None:
        for document in some(rng, source.records):
            change(document)

    MUTATIONS.add("lossless", name, apply)


_add_document_mutation("data_missing", lambda document: document.pop("imageData"))
_add_document_mutation("data_empty", lambda document: document.update(imageData=""))
_add_document_mutation("sizes_missing", lambda it: [it.pop(key, 0) for key in ("imageHeight", "imageWidth")])
_add_document_mutation("height_missing", lambda document: document.pop("imageHeight", 0))
_add_document_mutation("sizes_null", lambda document: document.update(imageHeight=None, imageWidth=None))
_add_document_mutation(
    "sizes_text",
    lambda it: it.update(imageHeight=f"{it.get('imageHeight', 0)}", imageWidth=f"{it.get('imageWidth', 0)}"),
)
_add_document_mutation("sizes_float", lambda it: it.update(imageHeight=float(it.get("imageHeight") or 0)))
_add_document_mutation("version_missing", lambda document: document.pop("version", 0))
_add_document_mutation(
    "other_keys",
    lambda document: document.update(checked=True, lineColor=[0, 255, 0, 128], text="", caption=None),
)
_add_document_mutation("flags_null", lambda document: document.update(flags=None))


# ---- shapes


def _add_shape_mutation(name: str, change: Callable[[Record, random.Random], Any], polygons: bool) -> None:
    def apply(source: LabelMeSource, rng: random.Random) -> None:
        for shape in some(rng, source.polygons if polygons else source.shapes):
            change(shape, rng)

    MUTATIONS.add("lossless", name, apply)


_add_shape_mutation("shape_type_missing", lambda shape, rng: shape.pop("shape_type", 0), polygons=True)
_add_shape_mutation("shape_type_null", lambda shape, rng: shape.update(shape_type=None), polygons=True)
_add_shape_mutation(
    "shape_type_of_anylabeling", lambda shape, rng: shape.update(direction=0, score=None), False
)
_add_shape_mutation("shape_flags_null", lambda shape, rng: shape.update(flags=None), polygons=False)
_add_shape_mutation(
    "shape_keys_missing", lambda it, rng: [it.pop(k, 0) for k in ("flags", "description")], False
)
_add_shape_mutation("label_with_blanks", lambda it, rng: it.update(label=f" {it['label']} "), polygons=False)
_add_shape_mutation(
    "closing_point", lambda it, rng: it["points"].append(list(it["points"][0])), polygons=True
)
_add_shape_mutation(
    "points_repeated",
    lambda it, rng: it.update(points=[list(point) for point in it["points"] for _ in range(2)]),
    polygons=True,
)
_add_shape_mutation("points_other_direction", lambda it, rng: it["points"].reverse(), polygons=True)
_add_shape_mutation(
    "points_whole",
    lambda it, rng: it.update(points=[[int(x), int(y)] for x, y in it["points"]]),
    polygons=True,
)
_add_shape_mutation(
    "points_text",
    lambda it, rng: it.update(points=[[f"{x:g}", f"{y:g}"] for x, y in it["points"]]),
    polygons=True,
)
_add_shape_mutation("mask_key_missing", lambda shape, rng: shape.pop("mask", 0), polygons=True)


@lossless
def rectangles(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shape in source.polygons if len(shape["points"]) == 4]:
        way = rng.randrange(4)
        points = shape["points"]
        if way == 0:
            shape |= {"shape_type": "rectangle", "points": [points[0], points[2]]}
        elif way == 1:
            shape |= {"shape_type": "rectangle", "points": [points[2], points[0]]}
        elif way == 2:
            shape |= {"shape_type": "rectangle", "points": [points[3], points[1]]}
        else:
            shape |= {"shape_type": rng.choice(["rectangle", "rotation", "quadrilateral"])}


@lossless
def groups_of_one(source: LabelMeSource, rng: random.Random) -> None:
    for document in source.records:
        for number, shape in enumerate(document["shapes"]):
            if shape["group_id"] is None:
                shape["group_id"] = rng.choice([100 + number, f"g{number}", float(200 + number)])


@lossless
def groups_text(source: LabelMeSource, rng: random.Random) -> None:
    for shape in source.shapes:
        if shape["group_id"] is not None:
            shape["group_id"] = f"{shape['group_id']}"


@lossless
def labels_are_numbers(source: LabelMeSource, rng: random.Random) -> None:
    for number, label in enumerate(source.scene.labels):
        for shape in source.shapes:
            if shape["label"] == label:
                shape["label"] = number
        if source.classes is not None:
            source.classes = [str(number) if line == label else line for line in source.classes]
        source.relabel(label, str(number))


@lossless
def shapes_to_ignore(source: LabelMeSource, rng: random.Random) -> None:
    for document in some(rng, source.records):
        points = [[1.0, 1.0], [20.0, 1.0], [20.0, 20.0]]
        label = rng.choice(["__ignore__", "_background_"])
        document["shapes"].append(
            {"label": label, "points": points, "shape_type": "polygon", "group_id": None}
        )


# ---- lists and classes


@lossless
def no_lists(source: LabelMeSource, rng: random.Random) -> None:
    source.lists = {}
    source.splits_are_kept = False


@lossless
def lists_with_backslashes(source: LabelMeSource, rng: random.Random) -> None:
    source.lists = {
        split: [line.replace("/", "\\") for line in lines] for split, lines in source.lists.items()
    }


@lossless
def lists_with_dots(source: LabelMeSource, rng: random.Random) -> None:
    source.lists = {split: [f"./{line} " for line in lines] for split, lines in source.lists.items()}


@lossless
def lists_with_repeated_lines(source: LabelMeSource, rng: random.Random) -> None:
    source.lists = {split: [*lines, "", *lines[:1]] for split, lines in source.lists.items()}


@lossless
def no_class_list(source: LabelMeSource, rng: random.Random) -> None:
    source.classes = None


@lossless
def class_list_of_labelme(source: LabelMeSource, rng: random.Random) -> None:
    source.classes = ["__ignore__", "_background_", *(source.classes or [])]


@lossless
def class_list_has_another_name(source: LabelMeSource, rng: random.Random) -> None:
    source.finish()
    source.files["labels.txt"] = source.files.pop(
        "label.txt", b"\n".join(x.encode() for x in source.scene.labels)
    )
    source.classes = None


def _add_encoding(name: str, encode: Callable[[str], bytes]) -> None:
    def apply(source: LabelMeSource, rng: random.Random) -> None:
        way = rng.randrange(3)
        source.encode = encode if way != 1 else source.encode
        source.encode_lists = encode if way != 0 else source.encode_lists

    MUTATIONS.add("lossless", name, apply)


_add_encoding("encoding_mark", lambda text: text.encode("utf-8-sig"))
_add_encoding("encoding_utf16", lambda text: text.encode("utf-16"))
_add_encoding("encoding_gbk", lambda text: text.encode("gb18030"))
_add_encoding("line_ends", lambda text: text.replace(", ", ",\r\n").replace("\n", "\r\n").encode())


@lossless
def escaped_and_indented(source: LabelMeSource, rng: random.Random) -> None:
    source.dump = lambda document: json.dumps(document, indent=2)


@lossless
def keys_in_other_order(source: LabelMeSource, rng: random.Random) -> None:
    for name, document in source.documents.items():
        source.documents[name] = dict(reversed(document.items()))


# ---- two readings


@ambiguous
def normalised_coordinates(source: LabelMeSource, rng: random.Random) -> None:
    for image, document in source.images_with_documents():
        for shape in document["shapes"]:
            if shape["shape_type"] != "mask":
                shape["points"] = [[x / image.width, y / image.height] for x, y in shape["points"]]


@ambiguous
def sizes_swapped(source: LabelMeSource, rng: random.Random) -> None:
    for document in some(rng, source.records):
        document["imageHeight"], document["imageWidth"] = document["imageWidth"], document["imageHeight"]


@ambiguous
def two_files_for_one_image(source: LabelMeSource, rng: random.Random) -> None:
    image, document = rng.choice(source.images_with_documents())
    source.files["annotations/second.json"] = json.dumps(document, ensure_ascii=False).encode()
    source.allowed += source.truth
    for split, images in source.scene.splits.items():
        if image in images:
            source.lists[split].append("annotations/second.json")


@ambiguous
def stale_paths(source: LabelMeSource, rng: random.Random) -> bool:
    """Images and files were renumbered together; each file names the image of another one."""
    pairs = [
        pair
        for pair in source.images_with_documents()
        if (pair[0].width, pair[0].height) == (source.scene.images[0].width, source.scene.images[0].height)
    ]
    paths = [document["imagePath"] for _, document in pairs]
    for (image, document), path, (other, _) in zip(
        pairs, paths[1:] + paths[:1], pairs[1:] + pairs[:1], strict=True
    ):
        document["imagePath"] = path
        source.doubtful |= {image.key, other.key}
    return len(pairs) > 1


@ambiguous
def files_in_no_list(source: LabelMeSource, rng: random.Random) -> None:
    split = rng.choice(["train", "val"])
    source.lists[split] = source.lists[split][: rng.randrange(len(source.lists[split]))]


@ambiguous
def only_the_train_list(source: LabelMeSource, rng: random.Random) -> None:
    """The lists of the new split replace it, which docs/annotate.md says."""
    del source.lists["val"]
    source.may_change = ("_anno_list.txt",)
    source.splits_are_kept = False


@ambiguous
def lists_lead_nowhere(source: LabelMeSource, rng: random.Random) -> None:
    for split in some(rng, list(source.lists)):
        source.lists[split].append("annotations/lost.json")


@ambiguous
def labels_not_listed(source: LabelMeSource, rng: random.Random) -> None:
    source.classes = (source.classes or [])[1:] + ["another"]


@ambiguous
def labels_in_other_case(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        shape["label"] = shape["label"].upper()


@ambiguous
def shape_types_unknown(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        shape["shape_type"] = rng.choice(["cuboid", "line", "linestrip", "points", "circle", "mask", 7])


@ambiguous
def files_of_other_tools(source: LabelMeSource, rng: random.Random) -> None:
    source.files["annotations/settings.json"] = b'{"a": 1}'
    source.files["annotations/list.json"] = b"[1, 2]"
    source.lists["train"].append("annotations/settings.json")


# ---- information is gone


@lossy
def files_cut_off(source: LabelMeSource, rng: random.Random) -> None:
    for name in some(rng, list(source.documents)):
        text = source.dump(source.documents[name])
        source.documents[name] = text[: rng.randrange(len(text))]


@lossy
def files_of_something_else(source: LabelMeSource, rng: random.Random) -> None:
    for name in some(rng, list(source.documents)):
        source.documents[name] = rng.choice(
            ["[]", "null", "{}", "", '{"shapes": 3}', '{"shapes": [3, null]}', "[" * 5000]
        )


@lossy
def files_deleted(source: LabelMeSource, rng: random.Random) -> None:
    for name in some(rng, list(source.documents)):
        del source.documents[name]


@lossy
def images_deleted(source: LabelMeSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        source.files.pop(path, None)


@lossy
def images_damaged(source: LabelMeSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        content = source.files.get(path, b"")
        source.files[path] = rng.choice([b"", content[: len(content) // 2], b"<html>404</html>"])


@lossy
def images_replaced(source: LabelMeSource, rng: random.Random) -> None:
    """Only the size in the file can tell it."""
    for image, document in some(rng, source.images_with_documents()):
        document |= {"imageHeight": image.height, "imageWidth": image.width}
        source.files[source.image_paths[image.name]] = encode_png(rng.randrange(2**20), 80, 80)


@lossy
def coordinates_lost(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        point = rng.choice(shape["points"])
        point[rng.randrange(2)] = rng.choice([float("nan"), float("inf"), None, "x", 1e30, [], True])


@lossy
def points_lost(source: LabelMeSource, rng: random.Random) -> None:
    values: list[Any] = [[], None, [[1.0, 2.0]], [[1.0], [2.0], [3.0]], "x", [[1.0, 2.0], [3.0, 4.0]], {}]
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        if shape.get("shape_type") != "mask":
            shape["points"] = rng.choice(values)


@lossy
def labels_lost(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        shape["label"] = rng.choice([None, "", " ", [], {}, 1.5, True])


@lossy
def masks_lost(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        shape |= {"shape_type": "mask", "mask": rng.choice([None, "", "x", "iVBORw0KGgo=", 5, "é"])}


@lossy
def masks_cover_nothing(source: LabelMeSource, rng: random.Random) -> None:
    for shape in [shape for shapes in source.some_objects(rng) for shape in shapes]:
        if shape.get("shape_type") != "mask":
            shape["points"] = rng.choice([[[5.0, 5.0]] * 3, [[900.0, 900.0], [950.0, 900.0], [950.0, 950.0]]])
