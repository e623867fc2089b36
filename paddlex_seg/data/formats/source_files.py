"""Reads the files of a source data set: text in any encoding, lists of classes and splits, image files."""

import filecmp
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from PIL import Image

from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.images import DECODER_ERRORS, ImageSize, header_size, image_size, too_large
from paddlex_seg.data.text_files import decode_text
from paddlex_seg.errors import DatasetError

CLASS_LISTS = ("label.txt", "labels.txt", "class_names.txt", "classes.txt")
IGNORED_LABELS = ("__ignore__", "_background_")
SPLITS = ("train", "val", "test")


def read_lines(path: Path) -> list[str]:
    """The stripped lines of a text file, without empty lines.

    Raises DatasetError when the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: the file cannot be read ({error.strerror}).") from error
    return [line.strip() for line in decode_text(content, path).splitlines() if line.strip()]


def read_class_list(root: Path) -> list[str] | None:
    """The lines of the class list in ``root`` without duplicates; None if there is no such file."""
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return list(dict.fromkeys(read_lines(root / name)))
    return None


def read_class_names(root: Path) -> list[str] | None:
    """The classes of the class list in ``root``, without `IGNORED_LABELS`; None if there is no such file."""
    lines = read_class_list(root)
    return None if lines is None else [line for line in lines if line not in IGNORED_LABELS]


def names_of_values(class_list: Sequence[str]) -> list[str]:
    """The class name of each pixel value of a class mask. Value 0 is always the background."""
    names = [line for line in class_list if line != "__ignore__"]
    return names if names[:1] in (["_background_"], ["background"]) else ["_background_", *names]


def read_split_lists(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """The lines of the list file of each split, as far as the files exist.

    If only the train list exists, the split is called "all". Raises DatasetError when there are lists, but
    none for train.
    """
    lists = {split: read_lines(path) for split, path in paths.items() if path.is_file()}
    if lists and "train" not in lists:
        found = ", ".join(paths[split].name for split in lists)
        raise DatasetError(
            f"{paths['train']}: the file does not exist, but {found} does. "
            "Create it with the training images, or rename the other lists to convert without splits."
        )
    return {ALL: lists["train"]} if list(lists) == ["train"] else lists


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The files with these endings in ``folder`` and its subfolders, relative and sorted; no hidden files."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(place).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        found += [
            prefix + name for name in names if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def image_sizes(paths: Iterable[Path]) -> dict[Path, ImageSize | DatasetError]:
    """The image sizes, read from the file headers in parallel; an error for each unreadable file."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(unique, pool.map(_size_or_error, unique, chunksize=64), strict=True))


def agreed_size(
    size: ImageSize | DatasetError, listed_hw: tuple[int, int] | None, listed_in: str
) -> tuple[int, int]:
    """The size (height, width) the labels refer to: the listed size, else that of the upright image.

    Raises DatasetError when ``size`` is an error, or the listed size fits neither the upright nor the stored
    image.
    """
    if isinstance(size, DatasetError):
        raise size
    if listed_hw is None:
        return size.shown_hw
    if listed_hw not in (size.shown_hw, size.stored_hw):
        raise DatasetError(
            f"{listed_in} is {listed_hw} (height, width), but the image is {size.shown_hw}; "
            "the image was probably resized or replaced after labelling"
        )
    return listed_hw


def embedded_size(content: bytes) -> tuple[ImageSize, str]:
    """The size of an image given as bytes, and the file extension of its format.

    Raises DatasetError when it is not an image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(image.format or "", f".{image.format}".lower())
            return header_size(image), suffix
    except Image.DecompressionBombError as error:
        raise DatasetError(f"the embedded image cannot be read: {too_large(error)}") from error
    except DECODER_ERRORS as error:
        raise DatasetError(f"the embedded image cannot be read ({error})") from error


class ImageNames:
    """Gives each image of a source its ``file_name``, and collects images to be placed in ``root/images``.

    An image inside ``root/images`` keeps its path. Any other image gets the wished name, with a number added
    if another image has that name. An image that an earlier conversion placed there is reused.
    """

    def __init__(self, root: Path):
        self.to_place: dict[str, Path | bytes] = {}  # by file_name
        self._root = os.path.join(os.path.normpath(root), "")
        self._image_dir = os.path.join(self._root, "images", "")
        self._name_of: dict[str, str] = {}  # by path

    def of_file(self, path: Path, wish: str | None = None) -> str:
        """The ``file_name`` of the image at ``path``.

        ``wish`` is a relative path with slashes. Default: the path relative to the root, without a leading
        ``annotations/``.
        """
        text = os.path.normpath(path)
        if text.startswith(self._image_dir):
            return text[len(self._image_dir) :].replace(os.sep, "/")
        if text not in self._name_of:
            inside = text[len(self._root) :] if text.startswith(self._root) else os.path.basename(text)
            inside = inside.replace(os.sep, "/").removeprefix("annotations/")
            self._name_of[text] = self._place(path, wish or inside)
        return self._name_of[text]

    def of_bytes(self, content: bytes, wish: str) -> str:
        """The ``file_name`` of an image that has no file yet."""
        return self._place(content, wish)

    def _place(self, source: Path | bytes, wish: str) -> str:
        name, number = wish, 1
        while name in self.to_place or os.path.exists(self._image_dir + name):
            if name not in self.to_place and _holds(self._image_dir + name, source):
                return name
            number += 1
            name = str(PurePosixPath(wish).with_stem(f"{PurePosixPath(wish).stem}_{number}"))
        self.to_place[name] = source
        return name


def _holds(path: str, source: Path | bytes) -> bool:
    """Whether the file has the bytes of ``source``."""
    if isinstance(source, Path):
        return filecmp.cmp(path, source, shallow=False)
    return os.path.getsize(path) == len(source) and Path(path).read_bytes() == source


def _size_or_error(path: Path) -> ImageSize | DatasetError:
    try:
        return image_size(path)
    except DatasetError as error:
        return error
