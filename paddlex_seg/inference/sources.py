"""Loads the images of user inputs: files, folders, patterns, URLs, arrays.

All inputs are expanded to files before the first image is read, so that an empty folder is reported at once.
A file that cannot be read is reported and skipped. If no input can be read, that is an error.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.images import IMAGE_SUFFIXES, load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.download import DownloadError, LimitError, Limits, Network, download
from paddlex_seg.files.images import encode_image

URL_PATTERN = re.compile(r"https?://", re.IGNORECASE)
DOWNLOAD_LIMITS = Limits(num_bytes=200_000_000, seconds=60.0, redirects=5)

Input = str | os.PathLike[str] | NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """One input: a file, a URL or an array.

    ``name`` is used for the names of result files. It has no file extension. For a file in a folder it
    includes the sub-folder.
    """

    origin: Path | str | NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory, uint8 [H, W, 3], RGB. A multi-page file gives one per page.

    ``save_name`` is the name of the source (and page). If another image of the run has it, a number is added.
    """

    image: NDArray[np.uint8]
    input_path: str | None
    page_index: int | None
    save_name: str


def expand_inputs(inputs: Input | Sequence[Input]) -> list[Source]:
    """All sources, in the given order. Files of a folder (with sub-folders) or a pattern are sorted by name.

    Raises DatasetError for a folder without images, a pattern without match and a wrong type of input. It is
    not checked whether a single file exists; reading it fails later.
    """
    items: Sequence[Input] = inputs if isinstance(inputs, list | tuple) else [inputs]  # type: ignore[list-item]
    if not items:
        raise DatasetError("The list of inputs is empty. Give an image file, a folder, a pattern or a URL.")
    return [source for item in items for source in _expand_one(item)]


def read_images(
    sources: Sequence[Source], on_unreadable: Callable[[DatasetError], None], network: Network
) -> Iterator[LoadedImage]:
    """Yield the images of all sources. Only one is in memory at a time. Arrays are BGR, as from OpenCV.

    ``on_unreadable`` is called for each source that cannot be read. ``network`` is used to download URLs.
    Raises DatasetError with the names of the sources when none of them can be read.
    """
    problems: list[str] = []
    taken: set[str] = set()
    for source in sources:
        try:
            for image in _read_one(source, network):
                yield replace(image, save_name=_unique_name(image.save_name, taken))
        except DatasetError as error:
            problems.append(str(error))
            if len(problems) == len(sources):
                more = f" ... and {len(problems) - 10} more" if len(problems) > 10 else ""
                raise DatasetError("\n".join(problems[:10]) + more) from error
            on_unreadable(error)


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
    if URL_PATTERN.match(text):
        stem = PurePosixPath(unquote(urlsplit(text).path)).stem
        yield Source(text, re.sub(r"[^\w.-]+", "_", stem) or "image")
    elif Path(text).is_dir():
        yield from _images_below(Path(text))
    elif Path(text).is_file() or not re.search(r"[*?\[]", text):
        yield Source(Path(text), Path(text).stem)
    else:
        yield from _images_matching(text)


def _images_below(folder: Path) -> Iterator[Source]:
    found = [path for path in folder.rglob("*") if _looks_like_image(path)]
    # Hidden files are not images of the user: they are macOS files, or files that are being written.
    files = sorted(path for path in found if not _is_hidden(path.relative_to(folder)))
    if not files:
        raise DatasetError(
            f"{folder}: no image in this folder or its sub-folders. "
            f"Known file extensions: {_known_endings()}."
        )
    for path in files:
        yield Source(path, path.relative_to(folder).with_suffix("").as_posix())


def _images_matching(pattern: str) -> Iterator[Source]:
    files = sorted(path for path in map(Path, glob(pattern, recursive=True)) if _looks_like_image(path))
    if not files:
        raise DatasetError(
            f"{pattern}: no image matches this pattern. Known file extensions: {_known_endings()}."
        )
    for path in files:
        yield Source(path, path.stem)


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


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


def _read_one(source: Source, network: Network) -> Iterator[LoadedImage]:
    if isinstance(source.origin, np.ndarray):
        yield LoadedImage(_bgr_to_rgb(source.origin), None, None, source.name)
    elif isinstance(source.origin, Path):
        yield from _read_file(source.origin, str(source.origin), source.name)
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "download"
            _download(source.origin, file, network)
            try:
                yield from _read_file(file, source.origin, source.name)
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


def _read_file(path: Path, input_path: str, name: str) -> Iterator[LoadedImage]:
    num_pages = _count_tiff_pages(path)
    if num_pages == 1:
        yield LoadedImage(load_image(path), input_path, None, name)
        return
    for page in range(num_pages):
        yield LoadedImage(_load_page(path, page), input_path, page, f"{name}_{page}")


def _count_tiff_pages(path: Path) -> int:
    """The number of pages; 1 for any other file. ``load_image`` reports unreadable files later."""
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1


def _load_page(path: Path, page: int) -> NDArray[np.uint8]:
    """One page of a TIFF, through a temporary file, because ``load_image`` supports all pixel types."""
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "page.tiff"
        try:
            with Image.open(path) as image:
                image.seek(page)
                single.write_bytes(encode_image(image, ".tiff"))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DatasetError(f"{path}, page {page}: cannot be read ({error}).") from error
        return load_image(single)


def _download(url: str, file: Path, network: Network) -> None:
    """Download a URL to a file. Raises DatasetError on failure, or above the limits of size and time."""
    try:
        download(url, file, network=network, limits=DOWNLOAD_LIMITS, quiet=True)
    except LimitError as error:
        raise DatasetError(f"{url}: {error}. Download it with another program.") from error
    except DownloadError as error:
        raise DatasetError(f"{url}: the image could not be downloaded ({error}). Check the URL.") from error
