"""The files of a source: texts of any encoding, lists of classes and splits, images and their names."""

import filecmp
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from PIL import Image

from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.images import DECODER_ERRORS, ImageSize, header_size, image_size
from paddlex_seg.errors import DatasetError

CLASS_LISTS = ("label.txt", "labels.txt", "class_names.txt", "classes.txt")
IGNORED_LABELS = ("__ignore__", "_background_")
SPLITS = ("train", "val", "test")


def decode_text(content: bytes, path: Path) -> str:
    """The text of a file: UTF-8 or UTF-16 by its byte order mark, else UTF-8, else GB 18030.

    Raises DatasetError when it is none of them.
    """
    by_mark = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    for encoding in (by_mark, "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DatasetError(f"{path}: neither UTF-8 nor GB 18030 text. Save the file as UTF-8.")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without surrounding blanks and without empty ones.

    Raises DatasetError when the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: the file cannot be read ({error.strerror}).") from error
    return [line.strip() for line in decode_text(content, path).splitlines() if line.strip()]


def read_class_list(root: Path) -> list[str] | None:
    """The lines of the list of classes in ``root``, each once; None if there is no such file."""
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return list(dict.fromkeys(read_lines(root / name)))
    return None


def read_class_names(root: Path) -> list[str] | None:
    """The classes of the list in ``root``, without the labels that stand for no object."""
    lines = read_class_list(root)
    return None if lines is None else [line for line in lines if line not in IGNORED_LABELS]


def names_of_values(class_list: Sequence[str]) -> list[str]:
    """The name of each value of a mask of classes; 0 is the background, whether the list names it or not."""
    names = [line for line in class_list if line != "__ignore__"]
    return names if names[:1] in (["_background_"], ["background"]) else ["_background_", *names]


def read_split_lists(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """The lines of the list file of each split, for those that exist; a list for train alone says nothing.

    Raises DatasetError when there are lists, but none for train.
    """
    lists = {split: read_lines(path) for split, path in paths.items() if path.is_file()}
    if lists and "train" not in lists:
        found = ", ".join(paths[split].name for split in lists)
        raise DatasetError(
            f"{paths['train']}: the file does not exist, but {found} does. "
            "List what is for training in it, or remove the other lists."
        )
    return {ALL: lists["train"]} if list(lists) == ["train"] else lists


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The files with these endings in ``folder`` and below it, relative to it and sorted; none hidden."""
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
    """The sizes in the headers of images, read side by side; the error in place of one that has none."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(unique, pool.map(_size_or_error, unique, chunksize=64), strict=True))


def agreed_size(
    size: ImageSize | DatasetError, listed_hw: tuple[int, int] | None, listed_in: str
) -> tuple[int, int]:
    """The size (height, width) that labels are made for: the listed one, else that of the upright image.

    Raises DatasetError when the image is of another size, upright or not, or ``size`` is an error.
    """
    if isinstance(size, DatasetError):
        raise size
    if listed_hw is None:
        return size.shown_hw
    if listed_hw not in (size.shown_hw, size.stored_hw):
        raise DatasetError(
            f"{listed_in} is {listed_hw} (height, width), but the image is {size.shown_hw}: "
            "it was resized or replaced after labelling"
        )
    return listed_hw


def embedded_size(content: bytes) -> tuple[ImageSize, str]:
    """The size of an image given as bytes, and the ending that fits its format.

    Raises DatasetError when it is no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(image.format or "", f".{image.format}".lower())
            return header_size(image), suffix
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise DatasetError(f"the embedded image cannot be read ({error})") from error


class ImageNames:
    """Gives each image of a source its ``file_name``, and keeps those that have to be put there.

    An image inside ``root/images`` is named as it lies. Another one gets the wished name, with a number if a
    different image has that name; one that an earlier conversion put there is found again.
    """

    def __init__(self, root: Path):
        self.to_place: dict[str, Path | bytes] = {}  # by file_name
        self._root = os.path.join(os.path.normpath(root), "")
        self._image_dir = os.path.join(self._root, "images", "")
        self._name_of: dict[str, str] = {}  # by path

    def of_file(self, path: Path, wish: str | None = None) -> str:
        """The name of the image at ``path``.

        ``wish`` is a relative path with slashes; without one, the image keeps its place below the
        root, but for a leading ``annotations/``.
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
        """The name of an image that lies nowhere."""
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
