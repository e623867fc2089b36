"""YOLO segmentation labels of a scene, written without the toolkit, and their mutations."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fuzz_cases import Mutations, Source, some
from fuzz_scenes import SceneImage, encode_png, image_key, joined

Line = list[Any]  # class and coordinates


@dataclass
class YoloSource(Source):
    """``images/train``, ``labels/train`` and ``data.yaml``, or ``train/images`` and ``valid/images``."""

    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, list[Line]] = field(default_factory=dict)  # by name of the image in the scene
    image_paths: dict[str, str] = field(default_factory=dict)  # the same
    label_paths: dict[str, str] = field(default_factory=dict)
    between: str = " "
    line_end: str = "\n"
    after_line: str = ""
    encode: Callable[[str], bytes] = lambda text: text.encode()
    encode_settings: Callable[[str], bytes] = lambda text: text.encode()
    number: Callable[[float], str] = lambda value: f"{value:.9g}"
    comment: str = ""

    def build(self) -> None:
        for image in self.scene.images:
            self.labels[image.name] = [
                [
                    self.scene.labels.index(thing.label),
                    *(
                        value / side
                        for point in joined(thing.rings)
                        for value, side in zip(point, (image.width, image.height), strict=True)
                    ),
                ]
                for thing in image.things
            ]
        self.settings = {
            "path": ".",
            "train": "images/train",
            "val": "images/val",
            "nc": len(self.scene.labels),
            "names": list(self.scene.labels),
        }
        self.place("images/{split}", "labels/{split}")

    def place(self, images: str, labels: str, val: str = "val") -> None:
        """Put images and labels into these folders."""
        for path in self.image_paths.values():
            self.files.pop(path, None)
        for split, image in self.by_split():
            folder = val if split == "val" else split
            self.image_paths[image.name] = f"{images.format(split=folder)}/{image.name}.png"
            self.label_paths[image.name] = f"{labels.format(split=folder)}/{image.name}.txt"
            self.files[self.image_paths[image.name]] = image.png

    def by_split(self) -> list[tuple[str, SceneImage]]:
        """Every image with its split."""
        return [(split, image) for split, images in self.scene.splits.items() for image in images]

    @property
    def lines(self) -> list[Line]:
        """All lines of all label files."""
        return [line for lines in self.labels.values() for line in lines]

    def finish(self) -> None:
        for name, lines in self.labels.items():
            text = "".join(
                self.between.join([_plain(line[0]), *map(self._plain_number, line[1:])])
                + self.after_line
                + self.line_end
                for line in lines
            )
            self.files[self.label_paths[name]] = self.encode(text)
        if self.settings:
            text = self.comment + "\n".join(f"{key}: {_yaml(value)}" for key, value in self.settings.items())
            self.files["data.yaml"] = self.encode_settings(text + "\n")

    def _plain_number(self, value: Any) -> str:
        return self.number(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    return str(value)


def _yaml(value: Any) -> str:
    """JSON is YAML."""
    if isinstance(value, dict):
        return "".join(f"\n  {key}: {json.dumps(name, ensure_ascii=False)}" for key, name in value.items())
    return json.dumps(value, ensure_ascii=False)


MUTATIONS: Mutations[YoloSource] = Mutations()
lossless, ambiguous, lossy = MUTATIONS.lossless, MUTATIONS.ambiguous, MUTATIONS.lossy


# ---- the text


def _add_text_mutation(name: str, **values: Any) -> None:
    def apply(source: YoloSource, rng: random.Random) -> None:
        for key, value in values.items():
            setattr(source, key, value)

    MUTATIONS.add("lossless", name, apply)


_add_text_mutation("tabs", between="\t")
_add_text_mutation("many_blanks", between="   ")
_add_text_mutation("trailing_blank", after_line=" ")
_add_text_mutation("line_ends", line_end="\r\n")
_add_text_mutation("line_ends_of_old_macs", line_end="\r")
_add_text_mutation("empty_lines", line_end="\n\n \n")
_add_text_mutation("encoding_mark", encode=lambda text: text.encode("utf-8-sig"))
_add_text_mutation("encoding_utf16", encode=lambda text: text.encode("utf-16"))
_add_text_mutation("no_last_line_end", encode=lambda text: text.rstrip("\n").encode())
_add_text_mutation("many_digits", number=lambda value: f"{value:.17f}")
_add_text_mutation("scientific_notation", number=lambda value: f"{value:.12e}")
_add_text_mutation("settings_mark", encode_settings=lambda text: text.encode("utf-8-sig"))
_add_text_mutation("settings_utf16", encode_settings=lambda text: text.encode("utf-16"))
_add_text_mutation("settings_gbk", encode_settings=lambda text: text.encode("gb18030"))
_add_text_mutation("settings_line_ends", encode_settings=lambda text: text.replace("\n", "\r\n").encode())
_add_text_mutation("settings_comments", comment="# made by a tool: v1\n\n")


@lossless
def class_numbers_float(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[0] = f"{line[0]}.0"


@lossless
def pixel_coordinates(source: YoloSource, rng: random.Random) -> None:
    for image in source.scene.images:
        sides = (image.width, image.height)
        for line in source.labels[image.name]:
            line[1:] = [
                float(round(value * sides[place % 2], 6)) if isinstance(value, float) else value
                for place, value in enumerate(line[1:])
            ]


@lossless
def closing_point(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line += line[1:3]


@lossless
def points_repeated(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[1:] = [value for x, y in zip(line[1::2], line[2::2], strict=True) for value in (x, y, x, y)]


@lossless
def other_direction(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[1:] = [
            value for x, y in list(zip(line[1::2], line[2::2], strict=True))[::-1] for value in (x, y)
        ]


# ---- data.yaml


@lossless
def names_by_number(source: YoloSource, rng: random.Random) -> None:
    source.settings["names"] = dict(enumerate(source.scene.labels))


@lossless
def names_by_number_text(source: YoloSource, rng: random.Random) -> None:
    source.settings["names"] = {f'"{id}"': name for id, name in enumerate(source.scene.labels)}


@lossless
def number_of_classes_missing(source: YoloSource, rng: random.Random) -> None:
    source.settings.pop("nc", None)


@lossless
def path_missing(source: YoloSource, rng: random.Random) -> None:
    source.settings.pop("path", None)


@lossless
def path_of_another_machine(source: YoloSource, rng: random.Random) -> None:
    ways = ["/home/me/datasets/set", "../datasets/set", "C:\\Users\\me\\set", "./", ""]
    source.settings["path"] = rng.choice(ways)


@lossless
def splits_absolute(source: YoloSource, rng: random.Random) -> None:
    root = rng.choice(["/content/drive/set/", "D:/set/", "D:\\set\\", "../"])
    for split in ("train", "val"):
        source.settings[split] = root + source.settings[split]


@lossless
def splits_with_other_forms(source: YoloSource, rng: random.Random) -> None:
    for split in ("train", "val"):
        place = source.settings[split]
        source.settings[split] = rng.choice([f"./{place}", f"{place}/", place.replace("/", "\\"), [place]])


@lossless
def other_keys(source: YoloSource, rng: random.Random) -> None:
    source.settings |= {
        "download": None,
        "test": None,
        "roboflow": "https://example.com",
    }


@lossless
def settings_have_another_name(source: YoloSource, rng: random.Random) -> None:
    source.finish()
    settings, source.settings = source.files.pop("data.yaml"), {}
    source.files[rng.choice(["dataset.yaml", "data.yml", "my set.yaml"])] = settings


@lossless
def class_list_instead(source: YoloSource, rng: random.Random) -> None:
    source.settings = {}
    source.files["classes.txt"] = "".join(f"{name}\n" for name in source.scene.labels).encode()


# ---- folders


@lossless
def folders_of_splits(source: YoloSource, rng: random.Random) -> None:
    source.place("{split}/images", "{split}/labels", val="valid")
    source.settings |= {"train": "../train/images", "val": "../valid/images"}


@lossless
def one_folder_deeper(source: YoloSource, rng: random.Random) -> None:
    source.inside = "export 1"


@lossless
def lists_of_images(source: YoloSource, rng: random.Random) -> None:
    source.settings |= {"train": "train.txt", "val": "val.txt"}
    before = rng.choice(["", "./", "data/", "/home/me/set/", "D:\\set\\"])
    for split in ("train", "val"):
        lines = [
            before + source.image_paths[image.name] for name, image in source.by_split() if name == split
        ]
        source.files[f"{split}.txt"] = "".join(f"{line}\n" for line in lines).encode()


@lossless
def image_endings_upper_case(source: YoloSource, rng: random.Random) -> None:
    for name, path in some(rng, list(source.image_paths.items())):
        source.rename(path, path.replace(".png", ".PNG"))
        source.image_paths[name] = path.replace(".png", ".PNG")


@lossless
def label_endings_upper_case(source: YoloSource, rng: random.Random) -> None:
    for name, path in some(rng, list(source.label_paths.items())):
        source.label_paths[name] = path.replace(".txt", ".TXT")


@lossless
def label_files_empty_or_missing_for_background(source: YoloSource, rng: random.Random) -> None:
    for name in [name for name, lines in source.labels.items() if not lines]:
        del source.labels[name]


@lossless
def no_splits(source: YoloSource, rng: random.Random) -> None:
    source.place("images", "labels")
    source.settings |= {"train": "images", "val": "images"}
    source.splits_are_kept = False


# ---- two readings


@ambiguous
def val_leads_nowhere(source: YoloSource, rng: random.Random) -> None:
    source.settings["val"] = "somewhere/else"


@ambiguous
def pixel_coordinates_in_some_lines(source: YoloSource, rng: random.Random) -> None:
    for image in some(rng, source.scene.images):
        for line in some(rng, source.labels[image.name]):
            sides = (image.width, image.height)
            line[1:] = [float(value * sides[place % 2]) for place, value in enumerate(line[1:])]


@ambiguous
def one_number_too_many(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line.append(rng.choice([0.5, 0.93]))  # such as a confidence


@ambiguous
def one_number_too_few(source: YoloSource, rng: random.Random) -> None:
    """If all lines have an odd number of coordinates, the last one may be taken for a confidence."""
    source.doubtful |= {image.key for image in source.scene.images}
    for line in some(rng, source.lines):
        del line[rng.randrange(1, len(line))]


@ambiguous
def boxes(source: YoloSource, rng: random.Random) -> None:
    for split, image in source.by_split():
        for line, thing in zip(source.labels[image.name], image.things, strict=False):
            if rng.random() < 0.5:
                x, y, w, h = thing.box
                line[1:] = [
                    (x + w / 2) / image.width,
                    (y + h / 2) / image.height,
                    w / image.width,
                    h / image.height,
                ]
                source.allow_box(split, image, thing)


@ambiguous
def class_off_by_one(source: YoloSource, rng: random.Random) -> None:
    """Class 1 is the first one, so the last one is not in the list. Moved names are wrong objects."""
    for line in source.lines:
        line[0] += 1
    source.classes_are_kept = False


@ambiguous
def class_numbers_odd(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[0] = rng.choice(["-1", "0.5", "99", "nan", "bolt", "1e400"])


@ambiguous
def names_missing(source: YoloSource, rng: random.Random) -> None:
    source.settings["names"] = rng.choice([None, [], {}, "bolt", [None], 3])
    source.classes_are_kept = False


@ambiguous
def label_files_without_image(source: YoloSource, rng: random.Random) -> None:
    source.files["labels/train/other.txt"] = b"0 0.1 0.1 0.5 0.1 0.5 0.5\n"


@ambiguous
def lists_with_lines_that_lead_nowhere(source: YoloSource, rng: random.Random) -> None:
    lists_of_images(source, rng)
    for split in ("train", "val"):
        source.files[f"{split}.txt"] += b"images/train/lost.png\n"


@ambiguous
def two_images_of_one_stem(source: YoloSource, rng: random.Random) -> None:
    path = rng.choice(list(source.image_paths.values()))
    other = encode_png(rng.randrange(2**20), 48, 32)
    source.files[f"{path[:-4]}.jpg"] = other
    source.doubtful.add(image_key(other))


# ---- information is gone


@lossy
def label_files_deleted(source: YoloSource, rng: random.Random) -> None:
    for name in some(rng, list(source.labels)):
        del source.labels[name]


@lossy
def images_deleted(source: YoloSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        source.files.pop(path, None)


@lossy
def images_damaged(source: YoloSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        content = source.files[path]
        source.files[path] = rng.choice(
            [b"", content[:30], content[: len(content) // 2], b"<html>404</html>"]
        )


@lossy
def coordinates_lost(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[rng.randrange(1, len(line))] = rng.choice(
            ["nan", "inf", "x", "-", "1e300", "NaN", "None", "0,5"]
        )


@lossy
def lines_cut_off(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        del line[rng.choice([1, 2, 3, 4]) :]


@lossy
def settings_cut_off(source: YoloSource, rng: random.Random) -> None:
    share = rng.random()
    source.encode_settings = lambda text: text.encode()[: int(len(text.encode()) * share)]
    source.classes_are_kept = False
    source.splits_are_kept = False


@lossy
def settings_missing(source: YoloSource, rng: random.Random) -> None:
    source.settings = {}
    source.classes_are_kept = False


@lossy
def masks_cover_nothing(source: YoloSource, rng: random.Random) -> None:
    for line in some(rng, source.lines):
        line[1:] = rng.choice(
            [[0.5] * 6, [0.1, 0.1, 0.5, 0.1, 0.3, 0.1], [0.5, 0.5, 0.5001, 0.5, 0.5001, 0.5001]]
        )


@lossy
def label_files_of_something_else(source: YoloSource, rng: random.Random) -> None:
    content = rng.choice([b"\x89PNG\r\n\x1a\n\0\0", b"{}", b"\xff\xfe\x00", b"\0" * 100, b"0 " * 1000])
    source.encode = lambda text: content
