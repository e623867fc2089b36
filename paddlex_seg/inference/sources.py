"""Loads the images of user inputs: files, folders, patterns, URLs, arrays.

All inputs are expanded to files before the first image is read, so that an empty folder is reported at once.
A file that cannot be read is reported and skipped. If no input can be read, that is an error.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from itertools import chain
from pathlib import Path, PurePosixPath
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.images import DECODER_ERRORS, IMAGE_SUFFIXES, is_animated, load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.addresses import AddressError, file_name, local_path, scheme_of, unsupported
from paddlex_seg.files.download import DownloadError, LimitError, Limits, Network, download
from paddlex_seg.files.names import printable
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.structures import Bands

_LOGGER = logging.getLogger(__name__)
DOWNLOAD_LIMITS = Limits(num_bytes=200_000_000, seconds=60.0, redirects=5)

Input = str | os.PathLike[str] | NDArray[np.uint8]


class UnreadableInput(DatasetError):
    """An input that cannot be read. ``input`` is its path or URL; None for an array."""

    def __init__(self, message: str, input: str | None) -> None:
        super().__init__(message)
        self.input = input


@dataclass(frozen=True)
class Source:
    """One input: a file, a URL or an array.

    ``name`` is used for the names of result files. It has no file extension. For a file in a folder it
    includes the sub-folder.
    """

    origin: Path | str | NDArray[np.uint8]
    name: str

    @property
    def input_path(self) -> str | None:
        """The path or URL; None for an array."""
        return None if isinstance(self.origin, np.ndarray) else str(self.origin)


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory, uint8 [H, W, 3], RGB. A multi-page file gives one per page.

    ``save_name`` is the name of the source (and page). If another image of the run has it, a number is added.
    """

    image: NDArray[np.uint8]
    input_path: str | None
    page_index: int | None
    save_name: str


def expand_inputs(inputs: Input | Sequence[Input], written: WrittenFiles | None = None) -> list[Source]:
    """All sources, in the given order. Files of a folder (with sub-folders) or a pattern are sorted by name.

    Drawings of earlier predictions, which ``written`` recognises, are left out. Raises DatasetError for a
    folder without images, a pattern without match, a wrong type of input, and when nothing but drawings is
    found. It is not checked whether a single file exists; reading it fails later.
    """
    items: Sequence[Input] = inputs if isinstance(inputs, list | tuple) else [inputs]  # type: ignore[list-item]
    if not items:
        raise DatasetError("The list of inputs is empty. Give an image file, a folder, a pattern or a URL.")
    found = list(chain.from_iterable(map(_expand_one, items)))
    return _without_drawings(found, WrittenFiles() if written is None else written)


def _without_drawings(sources: Sequence[Source], written: WrittenFiles) -> list[Source]:
    drawings = {s.origin for s in sources if isinstance(s.origin, Path) and _is_drawing(s.origin, written)}
    if not drawings:
        return list(sources)
    example = min(drawings)
    if len(drawings) == len(sources):
        raise DatasetError(
            f"{example}: this image, and all others that were named ({len(drawings)}), are drawings of this "
            "toolkit. Name the images that they were drawn from."
        )
    _LOGGER.info(
        "%d image(s) left out because this toolkit drew them, such as %s",
        len(drawings),
        printable(str(example)),
    )
    return [one for one in sources if not isinstance(one.origin, Path) or one.origin not in drawings]


def _is_drawing(path: Path, written: WrittenFiles) -> bool:
    return written.wrote(path.resolve())  # a link to a drawing is one


def read_images(
    sources: Sequence[Source],
    on_unreadable: Callable[[UnreadableInput], None],
    network: Network,
    bands: Bands | None = None,
) -> Iterator[LoadedImage]:
    """Yield the images of all sources. Only one is in memory at a time. Arrays are BGR, as from OpenCV.

    ``bands``: how files are read; the pages of a file are bands then. Arrays are taken as they are.
    ``on_unreadable`` is called for each source that cannot be read. ``network`` is used to download URLs.
    Raises DatasetError with the names of the sources when none of them can be read.
    """
    problems: list[str] = []
    taken: set[str] = set()
    for source in sources:
        try:
            for image in _read_one(source, network, bands):
                yield replace(image, save_name=_unique_name(image.save_name, taken))
        except DatasetError as error:
            problems.append(str(error))
            on_unreadable(UnreadableInput(str(error), source.input_path))
    if problems and not taken:
        more = f" ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DatasetError("\n".join(problems[:10]) + more)


def _expand_one(item: Input) -> Iterator[Source]:
    if isinstance(item, np.ndarray):
        # A random name instead of a number, so that two calls do not overwrite each other's result files.
        yield Source(item, f"array_{uuid4().hex[:8]}")
        return
    if not isinstance(item, str | os.PathLike):
        raise DatasetError(
            f"An input is of type {type(item).__name__}; expected a file, folder, pattern, URL or array."
        )
    text = os.fspath(item)
    scheme = scheme_of(text)
    if scheme in ("http", "https"):
        stem = PurePosixPath(file_name(text)).stem
        yield Source(text, re.sub(r"[^\w.-]+", "_", stem) or "image")
        return
    if scheme is not None:
        text = os.fspath(_path_of(text, scheme))
    if os.path.isdir(text):  # False for a path that no file can have; Path.is_dir() raises
        yield from _images_below(Path(text))
    elif os.path.isfile(text) or not re.search(r"[*?\[]", text):
        yield Source(Path(text), Path(text).stem)
    else:
        yield from _images_matching(text)


def _path_of(url: str, scheme: str) -> Path:
    """The file or folder of a ``file:`` address."""
    try:
        if scheme == "file":
            return local_path(url)
        raise AddressError(unsupported(scheme))
    except AddressError as error:
        raise DatasetError(f"{url[:200]}: {error}") from error


def _images_below(folder: Path) -> Iterator[Source]:
    # Hidden files are not images of the user: they are macOS files, or files that are being written.
    found = (path for path in _files_below(folder) if not _is_hidden(path.relative_to(folder)))
    files = sorted(path for path in found if _looks_like_image(path))
    if not files:
        raise DatasetError(
            f"{folder}: no image in this folder or its sub-folders. "
            f"Known file extensions: {_known_endings()}."
        )
    for path in files:
        yield Source(path, path.relative_to(folder).with_suffix("").as_posix())


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, onerror=_warn_of_folder):
        yield from (Path(place, name) for name in names)


def _warn_of_folder(error: OSError) -> None:
    _LOGGER.warning("Folder skipped: %s cannot be searched (%s)", printable(error.filename), error.strerror)


def _images_matching(pattern: str) -> Iterator[Source]:
    files = sorted(path for path in map(Path, glob(pattern, recursive=True)) if _looks_like_image(path))
    if not files:
        raise DatasetError(
            f"{pattern}: no image matches this pattern. Known file extensions: {_known_endings()}."
        )
    for path in files:
        yield Source(path, path.stem)


def _looks_like_image(path: Path) -> bool:
    # A broken link counts: reading it is then reported.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _known_endings() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))


def _unique_name(name: str, taken: set[str]) -> str:
    """``name``, with a number added if it is taken. Case is ignored, as in some file systems."""
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate.casefold())
    return candidate


def _read_one(source: Source, network: Network, bands: Bands | None) -> Iterator[LoadedImage]:
    if isinstance(source.origin, np.ndarray):
        yield LoadedImage(_bgr_to_rgb(source.origin), None, None, source.name)
    elif isinstance(source.origin, Path):
        yield from _read_file(source.origin, str(source.origin), source.name, bands)
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "download"
            _download(source.origin, file, network)
            try:
                yield from _read_file(file, source.origin, source.name, bands)
            except DatasetError as error:
                raise DatasetError(
                    f"{source.origin}: the downloaded file is not a readable image."
                ) from error


def _bgr_to_rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes or array.dtype != np.uint8 or array.size == 0:
        raise DatasetError(
            f"An array of shape {array.shape} and type {array.dtype} is not an image; expected uint8 of "
            "shape (height, width, 3) in BGR order, or with one gray channel, or with four channels BGRA."
        )
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(array), codes[channels]), np.uint8)


def _read_file(path: Path, input_path: str, name: str, bands: Bands | None) -> Iterator[LoadedImage]:
    num_pages = 1 if bands is not None else _count_pages(path, input_path)
    if num_pages == 1:
        yield LoadedImage(load_image(path, bands=bands), input_path, None, name)
        return
    for page in range(num_pages):
        yield LoadedImage(load_image(path, page=page), input_path, page, f"{name}_{page}")


def _count_pages(path: Path, input_path: str) -> int:
    """The number of pages of a TIFF; 1 for any other file. An animation is named in the log.

    ``load_image`` reports unreadable files later.
    """
    try:
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
