"""Image files: their paths, sizes and pixels."""

import errno
import os
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from paddlex_seg.data.bands import (
    BandFile,
    is_tiff,
    needs_setting,
    open_tiff,
    read_by_opencv,
    reads_wrongly,
)
from paddlex_seg.data.folders import files_in, is_dead_link
from paddlex_seg.data.foreign_files import foreign_file
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands

# Suffixes of image files when a folder is searched. A file that is named explicitly may have any suffix.
# Pillow reads all these formats. The most common ones come first.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"),
    *(".dib", ".pbm", ".pgm", ".pnm", ".ras", ".sr"),
    *(".jpe", ".mpo", ".apng", ".avif", ".tga", ".pcx", ".qoi", ".sgi", ".rgb"),
    *(".jp2", ".jpx", ".jpf", ".j2k", ".j2c", ".jpc"),
)


def limit_pixels(num_pixels: float) -> None:
    """Refuse images with more pixels than this in the whole process. `pixel_limit` is the initial limit.

    Pillow keeps the number, so that it also holds where another library opens an image.
    """
    Image.MAX_IMAGE_PIXELS = num_pixels / 2  # type: ignore[assignment]  # Pillow refuses twice this number
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def pixel_limit() -> int:
    """The largest number of pixels of an image, height x width."""
    return int(2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize))


def too_large(error: Image.DecompressionBombError) -> str:
    """What is wrong with an image that has more pixels than the limit, and what to do."""
    found = re.search(r"\d+", str(error))
    return (
        f"the image has {f'{int(found[0]):,}' if found else 'too many'} pixels, the limit is "
        f"{pixel_limit():,}. Raise Global.max_image_pixels, or cut the image into tiles"
    )


def image_path(image_dir: Path, file_name: str) -> Path:
    """The path of the image ``file_name`` of an annotation file. Backslashes count as slashes.

    Raises DatasetError when the name is absolute or leads out of ``image_dir``.
    """
    name = file_name.replace("\\", "/")
    inside = PurePosixPath(os.path.normpath(name or "."))
    absolute = inside.is_absolute() or PureWindowsPath(name).drive
    if absolute or inside.parts[:1] in ((), ("..",)) or "\0" in name:
        raise DatasetError(
            f"file_name {file_name!r} does not name an image inside {image_dir}. "
            "Move the image into this folder, and write file_name relative to it."
        )
    return image_dir / inside


def images_below(image_dir: Path) -> Iterator[str]:
    """All image files in a folder, as names relative to it with forward slashes; see `files_in`."""
    for name in files_in(image_dir):
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
            yield name


def is_animated(image: Image.Image) -> bool:
    """Whether an open image file has several frames, of which only the first is used.

    The pages of a TIFF count as frames. MPO files of phones contain the photo and a preview: no animation.
    """
    return image.format not in ("JPEG", "MPO", "BMP") and getattr(image, "is_animated", False)


@dataclass(frozen=True)
class ImageSize:
    """Height and width of the stored pixels, and after the EXIF orientation is applied."""

    stored_hw: tuple[int, int]
    shown_hw: tuple[int, int]


def image_size(path: Path) -> ImageSize:
    """The sizes in the header of an image file; pixels are not read.

    Raises DatasetError if the file has no valid header.
    """
    with _naming(path):
        opened = open_image(path, bands=None)
        if isinstance(opened, BandFile):
            return ImageSize(opened.stored_hw, opened.shown_hw)
        with opened as image:
            return header_size(image)


def header_size(image: Image.Image) -> ImageSize:
    """The sizes of an open image; pixels are not read."""
    width, height = image.size
    swaps_sides = orientation_of(image) in (5, 6, 7, 8)
    return ImageSize(stored_hw=(height, width), shown_hw=(width, height) if swaps_sides else (height, width))


def turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation to the image."""
    transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation_of(image))
    return image if transpose is None else image.transpose(transpose)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or the metadata are damaged."""
    if image.format == "TIFF":
        return 1  # Pillow turns a TIFF itself when it decodes it, and gives the turned size before
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # getexif() would decode the whole PNG to look for EXIF data after the pixels
    try:
        return image.getexif().get(_EXIF_ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1


def load_image(
    path: Path, size_hw: tuple[int, int] | None = None, bands: Bands | None = None
) -> NDArray[np.uint8]:
    """The image as uint8 [H, W, 3], RGB, with its EXIF orientation applied, as labelling tools show it.

    size_hw: the size in the annotation file. If only the stored pixels have this size, the EXIF orientation
    is not applied. Gray, palette and CMYK become RGB, alpha is dropped, 16-bit gray is divided by 257.
    Of several pages or frames, the first. bands: which bands become red, green and blue, and how; see
    `data.bands`. Pages are bands then.
    Raises DatasetError when the file is missing, damaged, not an image, or has more pixels than
    `pixel_limit`, and when the size differs from ``size_hw`` both with and without the EXIF orientation.
    """
    with _naming(path):
        opened = open_image(path, bands)
        if isinstance(opened, BandFile):
            size = ImageSize(opened.stored_hw, opened.shown_hw)
            return opened.rgb(bands, upright=_is_upright(size, size_hw, path))
        with opened as image:
            turn = _is_upright(header_size(image), size_hw, path)
            return _to_rgb(turn_upright(image) if turn else image, path)


def load_pages(path: Path) -> Iterator[NDArray[np.uint8] | DatasetError]:
    """The pages of a TIFF, each as `load_image` gives it, or what is wrong with it. Reads the file once."""
    try:
        with _naming(path), Image.open(path) as image:
            num_pages = int(getattr(image, "n_frames", 1))
            for page in range(num_pages):
                try:
                    with _naming(path):
                        image.seek(page)
                        _require_pixels(image)  # Pillow compares only the first page with the limit
                        wrong = reads_wrongly(image)
                        yield (
                            open_bands(path, page).rgb(None) if wrong else _to_rgb(turn_upright(image), path)
                        )
                except DatasetError as error:
                    yield error
    except DatasetError as error:
        yield error


def pillow_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An open PIL image as `load_image` gives files: uint8 [H, W, 3], RGB, upright. It is not changed.

    Raises DatasetError when its pixels cannot be decoded or used, or are more than `pixel_limit`.
    """
    path = Path(str(getattr(image, "filename", "") or "The PIL image"))
    with _naming(path):
        _require_pixels(image)
        return _to_rgb(turn_upright(image), path)


def _require_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > pixel_limit():
        raise Image.DecompressionBombError(f"{width * height} pixels")
    if not width * height:
        raise ValueError("it has no pixels")


def _is_upright(size: ImageSize, listed_hw: tuple[int, int] | None, path: Path) -> bool:
    """Whether an image with this listed size is used with its EXIF orientation applied."""
    if listed_hw is None or size.shown_hw == listed_hw:
        return True
    if size.stored_hw != listed_hw:
        raise DatasetError(
            f"{path}: the image file is {size.shown_hw} (height, width), the annotation file says "
            f"{listed_hw}. Correct the annotation file, or put back the image file that was annotated."
        )
    return False


@dataclass(frozen=True)
class GrayFrame:
    """An image in gray, made smaller. ``scale_xy``: its size divided by that of the image."""

    pixels: NDArray[np.uint8]  # [h, w]
    scale_xy: tuple[float, float]


def gray_both_ways(path: Path, side: int = 512) -> tuple[GrayFrame, GrayFrame]:
    """The image as stored and upright, in gray, with sides of at most ``side`` pixels.

    Raises DatasetError when the file is missing, damaged or not an image that Pillow reads.
    """
    with _naming(path), Image.open(path) as image:
        width, height = image.size
        orientation = orientation_of(image)
        transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation)
        image.draft("L", (side, side))
        small = image.convert("L")
        small.thumbnail((side, side), Image.Resampling.BOX)
        upright = small if transpose is None else small.transpose(transpose)
        across, down = small.width / width, small.height / height
        return (
            GrayFrame(np.asarray(small), (across, down)),
            GrayFrame(np.asarray(upright), (down, across) if orientation in (5, 6, 7, 8) else (across, down)),
        )


# EXIF orientation -> the operation that makes the stored image upright. 1 is upright already.
_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION_TAG = 0x0112

# Exceptions that Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Converts Pillow's exceptions about a bad image file into a DatasetError that names the file."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: {too_large(error)}.") from error
    except DECODER_ERRORS as error:
        if is_absent(error):
            raise DatasetError(
                f"{path}: the image file {not_there(path)}. Copy it there, or leave it out of your data."
            ) from None
        foreign = foreign_file(path)
        if foreign is not None:
            raise DatasetError(f"{path}: the file is {foreign.what}. {foreign.hint}") from error
        raise DatasetError(
            f"{path}: not a readable image ({error}). Replace the file, or leave it out of your data."
        ) from error


def open_image(path: Path, bands: Bands | None) -> Image.Image | BandFile:
    """An image file, to be read band by band with a setting, and where Pillow cannot read it."""
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise OSError("it is a folder or a device, not a file")
    if bands is not None:
        return open_bands(path)
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
        return open_bands(path)
    if not reads_wrongly(image):
        return image
    image.close()
    return open_bands(path)


def open_bands(path: Path, page: int | None = None) -> BandFile:
    """The header of an image file, or of one page of a TIFF, as bands.

    Raises any of `DECODER_ERRORS`, and for too many pixels.
    """
    file = open_tiff(path, page) if is_tiff(path) else None
    if file is None:
        return _open_by_pillow(path)
    num_pixels = file.stored_hw[0] * file.stored_hw[1]
    if num_pixels > pixel_limit() or num_pixels * file.num_bands > 16 * pixel_limit():
        raise Image.DecompressionBombError(str(num_pixels))
    return file


def _open_by_pillow(path: Path) -> BandFile:
    """Palettes, CMYK and the like are colours: they become RGB first."""
    with Image.open(path) as image:
        is_deep = image.mode in ("RGB", "RGBA", "LA") and has_16_bits(image)
        mode = image.mode
        if mode not in ("L", "LA", "RGB", "RGBA", "F") and not mode.startswith("I"):
            mode = "RGBA" if "transparency" in image.info else "L" if mode == "1" else "RGB"
        (height, width), orientation = image.size[::-1], orientation_of(image)

    def read(places: Sequence[int]) -> NDArray[Any]:
        if is_deep:  # Pillow drops the low byte
            found = read_by_opencv(path)
            if found is None:
                raise ValueError("its 16-bit pixels cannot be decoded")
            found = found[..., [0, -1]] if mode == "LA" else found
        else:
            with Image.open(path) as image:
                found = np.asarray(image if image.mode == mode else image.convert(mode))
        found = found[..., None] if found.ndim == 2 else found
        return np.moveaxis(found[..., places], 2, 0)

    deep = is_deep or mode.startswith("I;16")
    dtype = np.dtype(np.uint16 if deep else {"F": np.float32, "I": np.int32}.get(mode, np.uint8))
    return BandFile(path, (height, width), orientation, Image.getmodebands(mode), dtype, None, read)


def _to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode == "F" or image.mode.startswith("I"):
        gray = np.asarray(image)
        if image.mode == "F" or gray.min() < 0 or gray.max() > 65535:
            kind = "floating-point pixels" if image.mode == "F" else "values outside 0..65,535"
            raise needs_setting(path, kind)
        return np.repeat(np.rint(gray / 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    # A large image is not copied in vain.
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def has_16_bits(image: Image.Image) -> bool:
    """Whether an open file has more than 8 bits that Pillow may drop."""
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def is_absent(error: Exception) -> bool:
    """Whether there is no such file: also for a link to itself, and for a name as long as a URL."""
    absent = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
    return isinstance(error, OSError) and error.errno in absent


def not_there(path: Path) -> str:
    """What to say about an image file that is absent."""
    if is_dead_link(path):
        return f"is a link to {os.readlink(path)}, which does not exist"
    return "does not exist"
