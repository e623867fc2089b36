"""Colours of masks: the palette of Pascal VOC, and ``labelmap.txt``, which gives each class a colour.

A colour is one number: red + 256 x green + 65536 x blue.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.data.formats.mask_images import (
    VOID,
    IdMap,
    MaskPixels,
    colour_text,
    distinct,
    renumbered,
)
from paddlex_seg.data.formats.source_files import IGNORED_LABELS, decode_text, read_lines
from paddlex_seg.errors import DatasetError

LABELMAP = "labelmap.txt"
META_FILE = "dataset_meta.json"  # Datumaro writes it instead, if asked to save the meta data of the data set


def voc_colour(number: int) -> int:
    """The colour of an object number or a class in the palette of Pascal VOC."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0] + 256 * channels[1] + 65536 * channels[2]


NUMBER_OF_VOC_COLOUR: Mapping[int, int] = {voc_colour(number): number for number in range(256)}


@dataclass(frozen=True)
class Labelmap:
    """The classes of a ``labelmap.txt``, without the background."""

    names: Sequence[str]
    label_of_colour: Mapping[int, str]
    shared: Mapping[int, Sequence[str]]  # colours of several classes: they do not tell the class
    background: int  # colour
    in_order: Sequence[str]  # with the background, as masks of numbers count them


def read_labelmap(path: Path) -> Labelmap:
    """Read lines ``label:red,green,blue:parts:actions``. A label may contain colons and blanks.

    The background is the label whose colour is black, else the label ``background``. If no label has a
    colour, label n has colour n of Pascal VOC. Raises DatasetError for a file without labels.
    """
    entries: list[tuple[str, int | None]] = []
    for line in read_lines(path):
        found = re.fullmatch(r"(.+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::[^:]*){0,2}", line)
        if found:
            red, green, blue = (int(value) for value in found.groups()[1:])
            if max(red, green, blue) > 255:
                raise DatasetError(f"{path}: {line!r} has a colour value above 255; expected 0..255")
            entries.append((found[1].strip(), red + 256 * green + 65536 * blue))
        elif not line.startswith("#"):
            label = line.rsplit(":", 3)[0] if line.count(":") >= 3 else line
            entries.append((label.strip(" :"), None))
    if not entries:
        raise DatasetError(f"{path}: no line label:red,green,blue:parts:actions in this file")
    return _labelmap_of(entries)


def read_meta_file(path: Path) -> Labelmap | None:
    """The classes and colours in the ``dataset_meta.json`` of Datumaro; None if it has no colours."""
    try:
        content = json.loads(decode_text(path.read_bytes(), path))
        colours, labels = content["segmentation_colors"], content["label_map"].values()
        entries: list[tuple[str, int | None]] = [
            (str(label), int(red) + 256 * int(green) + 65536 * int(blue))
            for label, (red, green, blue) in zip(labels, colours, strict=True)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return _labelmap_of(entries) if entries else None


def _labelmap_of(entries: list[tuple[str, int | None]]) -> Labelmap:
    if all(colour is None for _, colour in entries):
        has_background = any(label == "background" for label, _ in entries)
        entries = entries if has_background else [("background", None), *entries]
        entries = [(label, voc_colour(number)) for number, (label, _) in enumerate(entries)]
    background = next((label for label, colour in entries if colour == 0), "background")
    labels_of: dict[int, list[str]] = {}
    for label, colour in entries:
        if label != background and colour is not None and label not in labels_of.setdefault(colour, []):
            labels_of[colour].append(label)
    return Labelmap(
        names=list(dict.fromkeys(label for label, _ in entries if label != background)),
        label_of_colour={colour: labels[0] for colour, labels in labels_of.items() if len(labels) == 1},
        shared={colour: labels for colour, labels in labels_of.items() if len(labels) > 1},
        background=next((colour for label, colour in entries if label == background and colour), 0),
        in_order=list(dict.fromkeys(label for label, _ in entries)),
    )


def numbers_by_colour(mask: MaskPixels) -> IdMap | None:
    """The numbers of the colours in the palette of Pascal VOC; None if the mask has other colours.

    Also None if two values of the mask have one colour, or if it is gray.
    """
    if mask.palette is not None:
        codes = [int(mask.palette[value]) for value in distinct(mask.values)]
        if len(set(codes)) < len(codes):
            return None
    elif not mask.is_colour:
        return None
    else:
        codes = distinct(mask.values)
    if not all(code in NUMBER_OF_VOC_COLOUR for code in codes):
        return None
    return renumbered(mask.colours(), {code: NUMBER_OF_VOC_COLOUR[code] for code in codes})


def object_numbers(mask: MaskPixels) -> IdMap:
    """The object of each pixel, 0 for none. The objects have the order of their numbers or VOC colours."""
    numbers = numbers_by_colour(mask)
    if numbers is not None:
        return numbers
    if not mask.is_colour:
        return mask.values
    others = [code for code in distinct(mask.values) if code and code not in NUMBER_OF_VOC_COLOUR]
    return renumbered(mask.values, {**NUMBER_OF_VOC_COLOUR, **{code: 256 + code for code in others}})


@dataclass(frozen=True)
class ClassMask:
    """A mask of classes: the label of each value, and the values that mean no class."""

    values: IdMap
    labels: Mapping[int, str]
    unlabelled: frozenset[int]
    is_colour: bool  # values are colours

    def describe(self, value: int) -> str:
        """The value in words, for a message."""
        return f"the colour {colour_text(value)}" if self.is_colour else f"the class {value}"


def class_mask_by_labelmap(mask: MaskPixels, labelmap: Labelmap) -> ClassMask:
    """The classes of a mask whose colours are listed, or whose gray values count the lines of the list."""
    known = {*labelmap.label_of_colour, *labelmap.shared, labelmap.background, voc_colour(VOID)}
    grays = distinct(mask.values) if mask.palette is None and not mask.is_colour else []
    if grays and any(value > 255 or value * 0x010101 not in known for value in grays):
        labels = {value: label for value, label in enumerate(labelmap.in_order) if label in labelmap.names}
        unlabelled = {value for value, label in enumerate(labelmap.in_order) if value not in labels} | {VOID}
        return ClassMask(mask.values, labels, frozenset(unlabelled - set(labels)), is_colour=False)
    colours = dict(labelmap.label_of_colour)
    unlabelled = {labelmap.background, 0, voc_colour(VOID)} - set(colours) - set(labelmap.shared)
    return ClassMask(mask.colours(), colours, frozenset(unlabelled), is_colour=True)


def class_mask_by_list(mask: MaskPixels, names: Sequence[str], file: str) -> ClassMask:
    """The classes of a mask whose numbers, or colours of Pascal VOC, count the names from the background 0.

    Raises DatasetError for other colours.
    """
    numbers = numbers_by_colour(mask)
    if numbers is None:
        if mask.is_colour:
            others = [code for code in distinct(mask.values) if code not in NUMBER_OF_VOC_COLOUR]
            raise DatasetError(
                f"{file} is a colour image, and {LABELMAP} does not exist, which gives the class of each "
                f"colour in lines such as bolt:{colour_text(others[0])}::"
            )
        numbers = mask.values
    labels = {
        value: name
        for value, name in enumerate(names)
        if value not in (0, VOID) and name not in IGNORED_LABELS
    }
    return ClassMask(numbers, labels, frozenset({0, VOID}), is_colour=False)
