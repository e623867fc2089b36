"""Pascal VOC masks of a scene, written without the toolkit, and their mutations."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from fuzz_cases import Label, Mutations, Source, some
from numpy.typing import NDArray
from PIL import Image

Values = NDArray[np.integer[Any]]
Kind = Literal["palette", "gray", "gray16", "colour"]


@dataclass
class VocSource(Source):
    """``JPEGImages``, ``SegmentationObject``, ``SegmentationClass``, lists and ``class_names.txt``."""

    numbers: dict[str, Values] = field(default_factory=dict)  # object numbers by name of the image
    classes: dict[str, Values] = field(default_factory=dict)
    image_paths: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)  # lines by split
    class_names: list[str] | None = None
    kind_of_numbers: Kind = "palette"
    kind_of_classes: Kind = "palette"
    encode: Callable[[str], bytes] = lambda text: text.encode()

    def build(self) -> None:
        for split, images in self.scene.splits.items():
            for image in images:
                self.numbers[image.name] = np.zeros(image.size_hw, np.uint8)
                self.classes[image.name] = np.zeros(image.size_hw, np.uint8)
                for number, thing in enumerate(image.things, start=1):
                    mask = thing.mask(image.size_hw)
                    self.numbers[image.name][mask] = number
                    self.classes[image.name][mask] = self.scene.labels.index(thing.label) + 1
                self.image_paths[image.name] = f"JPEGImages/{image.name}.png"
                self.files[self.image_paths[image.name]] = image.png
            self.lists[split] = [image.name for image in images]
        self.class_names = ["_background_", *self.scene.labels]

    def finish(self) -> None:
        for values_of, kind, folder in (
            (self.numbers, self.kind_of_numbers, "SegmentationObject"),
            (self.classes, self.kind_of_classes, "SegmentationClass"),
        ):
            for name, values in values_of.items():
                self.files[f"{folder}/{name}.png"] = _encode(values, kind)
        for split, lines in self.lists.items():
            text = "".join(f"{line}\n" for line in lines)
            self.files[f"ImageSets/Segmentation/{split}.txt"] = self.encode(text)
        if self.class_names is not None:
            self.files["class_names.txt"] = self.encode("".join(f"{name}\n" for name in self.class_names))


def voc_palette() -> NDArray[np.uint8]:
    """VOC's colours [256, 3]: bit 0, 1, 2 of a value are the highest bits of red, green, blue, and so on."""
    values = np.arange(256)
    bands = [sum(((values >> (3 * step + band)) & 1) << (7 - step) for step in range(3)) for band in range(3)]
    return np.stack(bands, axis=1).astype(np.uint8)


def _encode(values: Values, kind: Kind) -> bytes:
    buffer = io.BytesIO()
    if kind == "gray16":
        image = Image.fromarray(values.astype(np.uint16))
    elif kind == "colour":
        image = Image.fromarray(voc_palette()[values])
    else:
        image = Image.fromarray(values.astype(np.uint8))
        if kind == "palette":
            image.putpalette(voc_palette().ravel().tolist())
    image.save(buffer, "PNG")
    return buffer.getvalue()


MUTATIONS: Mutations[VocSource] = Mutations()
lossless, ambiguous, lossy = MUTATIONS.lossless, MUTATIONS.ambiguous, MUTATIONS.lossy


# ---- masks


@lossless
def gray_masks(source: VocSource, rng: random.Random) -> None:
    source.kind_of_numbers = "gray"
    source.kind_of_classes = rng.choice(["gray", "palette"])


@lossless
def gray_masks_of_16_bits(source: VocSource, rng: random.Random) -> None:
    source.kind_of_numbers = "gray16"
    source.kind_of_classes = rng.choice(["gray", "palette", "gray16"])


@lossless
def void_borders(source: VocSource, rng: random.Random) -> None:
    for name, numbers in source.numbers.items():
        inside = numbers > 0
        grown = inside.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                grown |= np.roll(inside, step, axis)
        border = grown & ~inside
        source.classes[name][border] = 255
        if rng.random() < 0.7:
            numbers[border] = 255


@lossless
def numbers_with_gaps(source: VocSource, rng: random.Random) -> None:
    for name, numbers in source.numbers.items():
        source.numbers[name] = np.where(numbers > 0, numbers * 20 + rng.randrange(100), 0).astype(np.uint8)


@lossless
def numbers_beyond_255(source: VocSource, rng: random.Random) -> None:
    source.kind_of_numbers = "gray16"
    for name, numbers in source.numbers.items():
        source.numbers[name] = np.where(numbers > 0, numbers.astype(np.uint16) + 500, 0).astype(np.uint16)


@lossless
def number_after_class(source: VocSource, rng: random.Random) -> None:
    """Numbers count on over all images."""
    last = 0
    for name, numbers in source.numbers.items():
        source.numbers[name] = np.where(numbers > 0, numbers + last, 0).astype(np.uint8)
        last = max(last, int(source.numbers[name].max()))


@lossless
def noise_in_the_class_mask(source: VocSource, rng: random.Random) -> None:
    for name, numbers in source.numbers.items():
        for number in np.unique(numbers[numbers > 0]):
            y, x = np.argwhere(numbers == number)[0]
            source.classes[name][y, x] = rng.choice([0, 255, 1])


# ---- lists


def _change_lines(source: VocSource, change: Callable[[str], str]) -> None:
    source.lists = {split: [change(line) for line in lines] for split, lines in source.lists.items()}


def _add_line_mutation(name: str, change: Callable[[str], str], label: Label = "lossless") -> None:
    MUTATIONS.add(label, name, lambda source, rng: _change_lines(source, change))


_add_line_mutation("lines_with_endings", lambda line: f"{line}.png")
_add_line_mutation("lines_with_other_endings", lambda line: f"{line}.jpg")
_add_line_mutation("lines_with_folders", lambda line: f"JPEGImages/{line}.png")
_add_line_mutation("lines_with_slashes", lambda line: f"/{line}", "ambiguous")
_add_line_mutation("lines_absolute", lambda line: f"/home/me/VOC2012/JPEGImages/{line}.png", "ambiguous")
_add_line_mutation(
    "lines_with_two_paths", lambda line: f"JPEGImages/{line}.png SegmentationClass/{line}.png", "ambiguous"
)
_add_line_mutation("lines_with_a_flag", lambda line: f"{line}  1", "ambiguous")
_add_line_mutation("lines_with_blanks", lambda line: f" {line} ")
_add_line_mutation("lines_with_backslashes", lambda line: line.replace("/", "\\"))


def _add_encoding(name: str, encode: Callable[[str], bytes]) -> None:
    def apply(source: VocSource, rng: random.Random) -> None:
        source.encode = encode

    MUTATIONS.add("lossless", name, apply)


_add_encoding("line_ends", lambda text: text.replace("\n", "\r\n").encode())
_add_encoding("encoding_mark", lambda text: text.encode("utf-8-sig"))
_add_encoding("encoding_utf16", lambda text: text.encode("utf-16"))
_add_encoding("encoding_gbk", lambda text: text.encode("gb18030"))
_add_encoding("empty_lines", lambda text: text.replace("\n", "\n\n").encode())


@lossless
def list_of_all_too(source: VocSource, rng: random.Random) -> None:
    source.lists["trainval"] = [line for lines in source.lists.values() for line in lines]


@lossless
def no_lists(source: VocSource, rng: random.Random) -> None:
    source.lists = {}
    source.splits_are_kept = False


# ---- classes


@lossless
def class_names_without_background(source: VocSource, rng: random.Random) -> None:
    source.class_names = list(source.scene.labels)


@lossless
def class_names_with_ignore(source: VocSource, rng: random.Random) -> None:
    source.class_names = ["__ignore__", "_background_", *source.scene.labels]


@lossless
def class_names_in_another_file(source: VocSource, rng: random.Random) -> None:
    names = ["_background_", *source.scene.labels]
    source.class_names = None
    name = rng.choice(["label.txt", "labels.txt", "classes.txt"])
    source.files[name] = "".join(f"{line}\n" for line in names).encode()


def _labelmap(source: VocSource) -> None:
    colours = voc_palette()
    lines = [
        f"{name}:{','.join(map(str, colours[value].tolist()))}::"
        for value, name in enumerate(["background", *source.scene.labels])
    ]
    source.class_names = None
    source.files["labelmap.txt"] = ("# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n").encode()


@lossless
def labelmap_of_cvat(source: VocSource, rng: random.Random) -> None:
    _labelmap(source)


@lossless
def labelmap_of_cvat_and_colours(source: VocSource, rng: random.Random) -> None:
    _labelmap(source)
    source.kind_of_numbers = source.kind_of_classes = "colour"


# ---- folders


@lossless
def one_folder_deeper(source: VocSource, rng: random.Random) -> None:
    source.inside = "set"


@lossless
def in_vocdevkit(source: VocSource, rng: random.Random) -> None:
    source.inside = "VOCdevkit/VOC2012"


@lossless
def image_endings_upper_case(source: VocSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        source.rename(path, path.replace(".png", ".PNG"))


@lossless
def boxes_beside(source: VocSource, rng: random.Random) -> None:
    for image in some(rng, source.scene.images):
        xml = f"<annotation><filename>{image.name}.png</filename><object><name>x</name></object></annotation>"
        source.files[f"Annotations/{image.name}.xml"] = xml.encode()


@lossless
def other_files_beside(source: VocSource, rng: random.Random) -> None:
    for image in some(rng, source.scene.images):
        source.files[f"SegmentationClass/{image.name}.npy"] = b"\x93NUMPY"
        source.files[f"SegmentationObjectVisualization/{image.name}.jpg"] = b""
        source.files["JPEGImages/Thumbs.db"] = b"x"


# ---- two readings


@ambiguous
def no_class_names(source: VocSource, rng: random.Random) -> None:
    source.class_names = None
    source.classes_are_kept = False


@ambiguous
def class_names_too_short(source: VocSource, rng: random.Random) -> None:
    source.class_names = (source.class_names or [])[:-1]


@ambiguous
def class_values_unknown(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.classes)):
        values = source.classes[name]
        values[values > 0] = rng.choice([77, 255, 0])


@ambiguous
def colours_without_a_list(source: VocSource, rng: random.Random) -> None:
    source.kind_of_numbers = rng.choice(["colour", "palette"])
    source.kind_of_classes = "colour"


@ambiguous
def images_in_no_list(source: VocSource, rng: random.Random) -> None:
    split = rng.choice(["train", "val"])
    source.lists[split] = source.lists[split][: rng.randrange(len(source.lists[split]))]


@ambiguous
def lists_lead_nowhere(source: VocSource, rng: random.Random) -> None:
    for split in some(rng, list(source.lists)):
        source.lists[split].append("lost")


@ambiguous
def only_the_val_list(source: VocSource, rng: random.Random) -> None:
    del source.lists["train"]
    source.splits_are_kept = False


@ambiguous
def masks_of_another_size(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.numbers)):
        for values_of in some(rng, [source.numbers, source.classes]):
            values_of[name] = np.kron(values_of[name], np.ones((2, 2), np.uint8)).astype(np.uint8)


@ambiguous
def masks_turned(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.numbers)):
        if source.numbers[name].shape[0] != source.numbers[name].shape[1]:
            source.numbers[name], source.classes[name] = source.numbers[name].T, source.classes[name].T


# ---- information is gone


@lossy
def object_masks_deleted(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.numbers)):
        del source.numbers[name]


@lossy
def class_masks_deleted(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.classes)):
        del source.classes[name]


@lossy
def no_class_masks(source: VocSource, rng: random.Random) -> None:
    source.classes = {}


@lossy
def no_object_masks(source: VocSource, rng: random.Random) -> None:
    source.numbers = {}


@lossy
def images_deleted(source: VocSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        source.files.pop(path, None)


@lossy
def images_damaged(source: VocSource, rng: random.Random) -> None:
    for path in some(rng, list(source.image_paths.values())):
        content = source.files.get(path, b"")
        source.files[path] = rng.choice([b"", content[: len(content) // 2], b"<html>404</html>"])


@lossy
def masks_damaged(source: VocSource, rng: random.Random) -> None:
    source.finish()
    for values_of, folder in ((source.numbers, "SegmentationObject"), (source.classes, "SegmentationClass")):
        for name in some(rng, list(values_of)):
            if rng.random() < 0.5:
                content = source.files[f"{folder}/{name}.png"]
                del values_of[name]
                source.files[f"{folder}/{name}.png"] = rng.choice(
                    [b"", content[: len(content) // 2], b"GIF89a"]
                )


@lossy
def masks_empty(source: VocSource, rng: random.Random) -> None:
    for name in some(rng, list(source.numbers)):
        source.numbers[name][:] = rng.choice([0, 255])
