"""Loads the images that a user names: files, folders, patterns, URLs, arrays, PIL images, texts with paths.

Inputs are expanded one by one while images are asked for, so a generator may be given, and memory does not
grow with their number. An input that cannot be used becomes a `BadInput` in its place.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.images import (
    DECODER_ERRORS,
    IMAGE_SUFFIXES,
    is_animated,
    load_image,
    load_pages,
    pillow_to_rgb,
)
from paddlex_seg.data.text_files import decode_text
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.addresses import AddressError, file_name, local_path, scheme_of, unsupported
from paddlex_seg.files.download import DownloadError, LimitError, Limits, Network, download
from paddlex_seg.files.names import printable
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.structures import Bands

_LOGGER = logging.getLogger(__name__)
DOWNLOAD_LIMITS = Limits(num_bytes=200_000_000, seconds=60.0, redirects=5)
LIST_SUFFIXES = (".txt", ".lst", ".list")  # of a text with one input per line
_MOST_LIST_BYTES = 100_000_000
_DEEPEST = 20  # lists in lists

Input = Any
"""A file, folder, pattern or URL (text or path), an array, a PIL image, ``{"img": input}``, or any of these
in a list or another iterable. A file that ends in one of `LIST_SUFFIXES` has one path or URL per line."""


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory, uint8 [H, W, 3], RGB. A multi-page file gives one per page.

    ``save_name`` names result files. It is the name of the file without its extension, with the sub-folder
    if a folder or a pattern was given. If another image of the prediction has it, a number is added.
    ``place`` tells images of different predictions apart: the whole path, or the URL.
    """

    image: NDArray[np.uint8]
    input_path: str | None  # the path or URL; None for an image in memory
    page_index: int | None
    save_name: str
    place: str | None


@dataclass(frozen=True)
class BadInput:
    """An input that cannot be used. ``input_path`` is its path or URL, if it has one."""

    problem: str
    input_path: str | None
    page_index: int | None
    save_name: str
    place: str | None


@dataclass(frozen=True)
class _Source:
    """One image file, URL or image in memory; or an input that cannot be used, with its ``problem``."""

    origin: Path | str | NDArray | Image.Image
    name: str  # of result files, not yet unique
    problem: str | None = None

    @property
    def input_path(self) -> str | None:
        return str(self.origin) if isinstance(self.origin, str | Path) else None

    @property
    def place(self) -> str | None:
        """The whole path, also that of the file of a PIL image, or the URL; None for an array."""
        if isinstance(self.origin, str):
            return self.origin
        path = self.origin if isinstance(self.origin, Path) else getattr(self.origin, "filename", None)
        return os.path.abspath(path) if path else None


class _Names:
    """Gives each image of a prediction its own name for result files."""

    def __init__(self) -> None:
        self._used: set[str] = set()  # without case, as in some file systems
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """``name``, or with a number if another image has it."""
        number = self._next.get(name.casefold(), 1)
        while (candidate := name if number == 1 else f"{name}_{number}").casefold() in self._used:
            number += 1
        self._used.add(candidate.casefold())
        self._next[name.casefold()] = number + 1
        return candidate


def read_inputs(
    inputs: Input,
    *,
    network: Network,
    bands: Bands | None = None,
    written: WrittenFiles | None = None,
) -> Iterator[LoadedImage | BadInput]:
    """Yield the images of all inputs in the given order. Only one is in memory at a time.

    Files of a folder (with sub-folders) or a pattern are sorted by name. Drawings of earlier predictions,
    which ``written`` recognises, are left out there. Arrays are BGR, as from OpenCV, and taken as they are.
    bands: how files are read; the pages of a file are bands then. network: for URLs.
    """
    known = written if written is not None else WrittenFiles()
    names = _Names()
    for source in _expand(inputs, known):
        for page, image in _read(source, network, bands):
            name = names.unique(source.name if page is None else f"{source.name}_{page}")
            if isinstance(image, str):
                yield BadInput(image, source.input_path, page, name, source.place)
            else:
                yield LoadedImage(image, source.input_path, page, name, source.place)


def count_inputs(texts: Iterable[str]) -> int:
    """About how many images the paths, patterns and URLs name, from names of files only.

    A line of a list counts once, a file with pages too, and drawings count.
    """
    return sum(map(_count, texts))


def _count(text: str) -> int:
    if os.path.isdir(text):
        places = os.walk(text)
        return sum(_looks_like_image(Path(place, name)) for place, _, names in places for name in names)
    if os.path.isfile(text) and Path(text).suffix.lower() in LIST_SUFFIXES:
        try:
            return len(_lines_of(Path(text)))
        except DatasetError:
            return 1
    if os.path.exists(text) or scheme_of(text) is not None or not re.search(r"[*?\[]", text):
        return 1
    return len(glob(text, recursive=True))


def _expand(item: Input, written: WrittenFiles, depth: int = 0) -> Iterator[_Source]:
    if isinstance(item, np.ndarray):
        # A random name instead of a number, so that two calls do not overwrite each other's result files.
        yield _Source(item, f"array_{uuid4().hex[:8]}")
    elif isinstance(item, Image.Image):
        stem = Path(str(getattr(item, "filename", "") or "")).stem
        yield _Source(item, stem or f"image_{uuid4().hex[:8]}")
    elif isinstance(item, str | os.PathLike):
        text = os.fsdecode(item)
        try:
            yield from _expand_text(text, written, depth)
        except DatasetError as error:
            yield _Source(text, _stem(text), str(error))
    elif isinstance(item, Mapping) and "img" in item:
        yield from _expand(item["img"], written, depth + 1)
    elif hasattr(item, "shape"):  # a tensor, whose rows are no inputs
        yield _unusable(item, "convert it to a NumPy array first")
    elif isinstance(item, Iterable) and not isinstance(item, bytes | bytearray | Mapping):
        if depth >= _DEEPEST:
            yield _unusable(item, f"lists are nested more than {_DEEPEST} times")
            return
        for one in item:
            yield from _expand(one, written, depth + 1)
    elif isinstance(item, Mapping):
        keys = ", ".join(map(repr, list(item)[:5]))
        yield _unusable(item, f"its keys are {keys or 'none'}, expected 'img'")
    else:
        yield _unusable(item, "its type is not known")


def _unusable(item: object, reason: str) -> _Source:
    problem = (
        f"An input of type {type(item).__name__} cannot be used: {reason}. Give a file, folder, pattern, "
        'URL, array, PIL image, {"img": input}, or a list of these.'
    )
    return _Source(np.empty(0), "input", problem)


def _expand_text(text: str, written: WrittenFiles, depth: int) -> Iterator[_Source]:
    """The sources of a path, pattern or URL. Raises DatasetError if there is none."""
    scheme = scheme_of(text)
    if scheme in ("http", "https"):
        yield _Source(text, _stem(text))
        return
    if scheme is not None:
        text = os.fspath(_path_of(text, scheme))
    if not text:
        raise DatasetError("An input is an empty text. Give a file, folder, pattern or URL.")
    path = Path(text)
    if os.path.isdir(text):  # False for a path that no file can have; Path.is_dir() raises
        yield from _without_drawings(_images_below(path), text, written)
    elif os.path.isfile(text) and path.suffix.lower() in LIST_SUFFIXES:
        yield from _expand_list(path, written, depth)
    elif os.path.isfile(text) or not re.search(r"[*?\[]", text):
        if _is_drawing(path, written):
            raise DatasetError(
                f"{text}: this is one of the drawings of this toolkit. Name the image that it was drawn from."
            )
        yield _Source(path, path.stem)
    else:
        yield from _without_drawings(_images_matching(text), text, written)


def _expand_list(path: Path, written: WrittenFiles, depth: int) -> Iterator[_Source]:
    """The inputs in the lines of a text. Relative paths start at its folder, else at the current one."""
    if depth >= _DEEPEST:
        raise DatasetError(f"{path}: lists are nested more than {_DEEPEST} times.")
    inputs = _lines_of(path)
    if not inputs:
        raise DatasetError(f"{path}: the text has no line with a path. Write one path or URL per line.")
    for line in inputs:
        beside = os.path.join(path.parent, line)
        is_relative = scheme_of(line) is None and not os.path.isabs(line)
        is_here = is_relative and not os.path.exists(beside) and os.path.exists(line)
        text = beside if is_relative and not is_here else line
        for source in _expand(text, written, depth + 1):
            parts = PurePosixPath(Path(line).with_suffix("").as_posix()).parts
            keeps_folder = is_relative and ".." not in parts and source.origin == Path(text)
            yield _Source(source.origin, "/".join(parts), source.problem) if keeps_folder else source


def _lines_of(path: Path) -> list[str]:
    lines = [line.strip() for line in _read_text(path).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_LIST_BYTES:
            raise DatasetError(
                f"{path}: larger than {_MOST_LIST_BYTES // 10**6} MB, so no list of paths. Divide it."
            )
        return decode_text(path.read_bytes(), path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _stem(text: str) -> str:
    """A file name for the results of a path or URL."""
    if scheme_of(text) in ("http", "https"):
        return re.sub(r"[^\w.-]+", "_", PurePosixPath(file_name(text)).stem) or "image"
    return re.sub(r"[^\w.() -]+", "_", Path(text).stem)[:100] or "input"


def _path_of(url: str, scheme: str) -> Path:
    """The file or folder of a ``file:`` address."""
    try:
        if scheme == "file":
            return local_path(url)
        raise AddressError(unsupported(scheme))
    except AddressError as error:
        raise DatasetError(f"{url[:200]}: {error}") from error


def _is_drawing(path: Path, written: WrittenFiles) -> bool:
    return os.path.isfile(path) and written.wrote(path.resolve())  # a link to a drawing is one


def _without_drawings(sources: list[_Source], place: str, written: WrittenFiles) -> Iterator[_Source]:
    """Leave out drawings of earlier predictions. Raises DatasetError if there is nothing else."""
    example, left_out = "", 0
    for source in sources:
        if _is_drawing(Path(str(source.origin)), written):
            example, left_out = example or str(source.origin), left_out + 1
        else:
            yield source
    if left_out == len(sources):
        raise DatasetError(
            f"{place}: all images there ({left_out}) are drawings of this toolkit, such as {example}. Name "
            "the images that they were drawn from."
        )
    if left_out:
        _LOGGER.info(
            "%d image(s) left out because this toolkit drew them, such as %s", left_out, printable(example)
        )


def _images_below(folder: Path) -> list[_Source]:
    # Hidden files are not images of the user: they are macOS files, or files that are being written.
    found = (path for path in _files_below(folder) if not _is_hidden(path.relative_to(folder)))
    files = sorted(path for path in found if _looks_like_image(path))
    if not files:
        raise DatasetError(
            f"{folder}: no image in this folder or its sub-folders. "
            f"Known file extensions: {_known_endings()}."
        )
    return [_Source(path, path.relative_to(folder).with_suffix("").as_posix()) for path in files]


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, onerror=_warn_of_folder):
        yield from (Path(place, name) for name in names)


def _warn_of_folder(error: OSError) -> None:
    _LOGGER.warning("Folder skipped: %s cannot be searched (%s)", printable(error.filename), error.strerror)


def _images_matching(pattern: str) -> list[_Source]:
    files = sorted(path for path in map(Path, glob(pattern, recursive=True)) if _looks_like_image(path))
    if not files:
        raise DatasetError(
            f"{pattern}: no image matches this pattern. Known file extensions: {_known_endings()}."
        )
    # Results keep the sub-folders below the first part of the pattern with a wildcard.
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if re.search(r"[*?\[]", part))
    return [_Source(path, Path(*path.parts[fixed:]).with_suffix("").as_posix()) for path in files]


def _looks_like_image(path: Path) -> bool:
    # A broken link counts: reading it is then reported.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _known_endings() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))


_Read = tuple[int | None, NDArray[np.uint8] | str]
"""The page of a multi-page file, from 0, and its image, or what is wrong with it."""


def _read(source: _Source, network: Network, bands: Bands | None) -> Iterator[_Read]:
    if source.problem is not None:
        yield None, source.problem
        return
    try:
        if isinstance(source.origin, np.ndarray):
            yield None, _bgr_to_rgb(source.origin)
        elif isinstance(source.origin, Image.Image):
            yield None, pillow_to_rgb(source.origin)
        elif isinstance(source.origin, Path):
            yield from _read_file(source.origin, str(source.origin), bands)
        else:
            yield from _read_url(source.origin, network, bands)
    except DatasetError as error:
        yield None, str(error)


def _read_url(url: str, network: Network, bands: Bands | None) -> Iterator[_Read]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "download"
        _download(url, file, network)
        try:
            for page, image in _read_file(file, url, bands):
                yield page, _of_download(image, file, url) if isinstance(image, str) else image
        except DatasetError as error:
            yield None, _of_download(str(error), file, url)


def _of_download(problem: str, file: Path, url: str) -> str:
    return f"{url}: {problem.removeprefix(f'{file}: ').replace(str(file), 'the downloaded file')}"


def _bgr_to_rgb(array: NDArray) -> NDArray[np.uint8]:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes or array.dtype != np.uint8 or array.size == 0:
        raise DatasetError(
            f"An array of shape {array.shape} and type {array.dtype} is not an image; expected uint8 of "
            "shape (height, width, 3) in BGR order, or with one gray channel, or with four channels BGRA."
        )
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(array), codes[channels]), np.uint8)


def _read_file(path: Path, input_path: str, bands: Bands | None) -> Iterator[_Read]:
    if bands is not None or _count_pages(path, input_path) == 1:
        yield None, load_image(path, bands=bands)
        return
    for page, image in enumerate(load_pages(path)):
        yield page, str(image) if isinstance(image, DatasetError) else image


def _count_pages(path: Path, input_path: str) -> int:
    """The number of pages of a TIFF; 1 for any other file. An animation is named in the log.

    ``load_image`` reports unreadable files later.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return 1
        with Image.open(path) as image:
            if not is_animated(image):
                return 1
            num_frames = int(getattr(image, "n_frames", 1))
            if image.format == "TIFF":
                return num_frames
            _LOGGER.warning(
                "%s has %d frames; only the first one is used.", printable(input_path), num_frames
            )
            return 1
    except (*DECODER_ERRORS, Image.DecompressionBombError):
        return 1


def _download(url: str, file: Path, network: Network) -> None:
    """Download a URL to a file. Raises DatasetError on failure, or above the limits of size and time."""
    try:
        download(url, file, network=network, limits=DOWNLOAD_LIMITS, quiet=True)
    except LimitError as error:
        raise DatasetError(f"{url}: {error}. Download it with another program.") from error
    except DownloadError as error:
        raise DatasetError(f"{url}: the image could not be downloaded ({error}). Check the URL.") from error
