"""From what a user names (files, folders, patterns, URLs, arrays) to images, one after the other.

Everything is expanded before the first image is read, so that an empty folder is reported at once. A file
that cannot be read is reported and left out, unless nothing else is there to read.
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

URL_PATTERN = re.compile(r"https?://", re.IGNORECASE)
DOWNLOAD_LIMITS = Limits(num_bytes=200_000_000, seconds=60.0, redirects=5)

Input = str | os.PathLike[str] | NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """One thing to read: a file, a URL or an array.

    ``name`` stands for it in the names of result files: without ending, and with the sub-folder for a file
    that was found in one.
    """

    origin: Path | str | NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory, uint8 [H, W, 3], RGB; several for a file of several pages.

    ``save_name`` is the name of its source (and page), with a number where another image of the run has it.
    """

    image: NDArray[np.uint8]
    input_path: str | None
    page_index: int | None
    save_name: str


def expand_inputs(inputs: Input | Sequence[Input]) -> list[Source]:
    """All sources, in the given order; files of a folder (with sub-folders) or of a pattern sorted by name.

    Raises DatasetError for a folder without images, a pattern without match and a wrong type of input.
    Whether a named file exists shows when it is read.
    """
    items: Sequence[Input] = inputs if isinstance(inputs, list | tuple) else [inputs]  # type: ignore[list-item]
    if not items:
        raise DatasetError("The list of inputs is empty; name an image, a folder, a pattern or a URL.")
    return [source for item in items for source in _expand_one(item)]


def read_images(
    sources: Sequence[Source], on_unreadable: Callable[[DatasetError], None], network: Network
) -> Iterator[LoadedImage]:
    """The images of all sources, one in memory at a time; arrays are taken as BGR, as OpenCV reads them.

    ``on_unreadable`` is told of each source that cannot be read; ``network`` is what URLs are downloaded
    with. Raises DatasetError, naming them, when no source at all can be read.
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
        # Not numbered: two calls with arrays must not overwrite each other's results.
        yield Source(item, f"array_{uuid4().hex[:8]}")
        return
    if not isinstance(item, str | os.PathLike):
        raise DatasetError(
            f"An input is a {type(item).__name__}; expected a file, a folder, a pattern, a URL or an array."
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
    # Hidden ones are no images of the user: files of macOS, or what is being written here right now.
    files = sorted(path for path in found if not _is_hidden(path.relative_to(folder)))
    if not files:
        raise DatasetError(
            f"{folder}: no image in this folder or below it. Known endings are {_known_endings()}."
        )
    for path in files:
        yield Source(path, path.relative_to(folder).with_suffix("").as_posix())


def _images_matching(pattern: str) -> Iterator[Source]:
    files = sorted(path for path in map(Path, glob(pattern, recursive=True)) if _looks_like_image(path))
    if not files:
        raise DatasetError(f"{pattern}: no image matches this pattern. Known endings are {_known_endings()}.")
    for path in files:
        yield Source(path, path.stem)


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _known_endings() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))


def _unique_name(name: str, taken: set[str]) -> str:
    """``name``, or with a number where another source has it; some file systems do not tell A from a."""
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
                    f"{source.origin}: what was downloaded is not a readable image."
                ) from error


def _bgr_to_rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes or array.dtype != np.uint8 or array.size == 0:
        raise DatasetError(
            f"An array of shape {array.shape} and type {array.dtype} is not an image; expected uint8, "
            "height x width x 3 channels, blue, green, red (or one gray channel, or four with alpha)."
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
    """1 for whatever is no TIFF, readable or not: ``load_image`` finds the words for what is wrong."""
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1


def _load_page(path: Path, page: int) -> NDArray[np.uint8]:
    """One page of a TIFF, by way of a file of its own: ``load_image`` knows all kinds of pixels."""
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "page.tiff"
        try:
            with Image.open(path) as image:
                image.seek(page)
                image.save(single, format="TIFF")
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DatasetError(f"{path}, page {page}: cannot be read ({error}).") from error
        return load_image(single)


def _download(url: str, file: Path, network: Network) -> None:
    """Raises DatasetError when the address does not answer, or with too much, or for too long."""
    try:
        download(url, file, network=network, limits=DOWNLOAD_LIMITS, quiet=True)
    except LimitError as error:
        raise DatasetError(f"{url}: {error}. Download it by other means.") from error
    except DownloadError as error:
        raise DatasetError(
            f"{url}: the image could not be downloaded ({error}). Check the address."
        ) from error
