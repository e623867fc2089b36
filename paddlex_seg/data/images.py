"""Pictures in files: where they lie, what their headers say, and their pixels as the toolkit uses them."""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.errors import DatasetError

# Endings of files that are taken for images where a folder is searched; what is named is read whatever it is
# called. All are formats that Pillow reads. The first ones are the most usual.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"),
    *(".dib", ".pbm", ".pgm", ".pnm", ".ras", ".sr"),
)


def image_path(image_dir: Path, file_name: str) -> Path:
    """Where the picture ``file_name`` of an annotation file lies; back-slashes count as slashes.

    Raises DatasetError when the name is absolute or leads out of ``image_dir``.
    """
    name = file_name.replace("\\", "/")
    inside = PurePosixPath(os.path.normpath(name or "."))
    absolute = inside.is_absolute() or PureWindowsPath(name).drive
    if absolute or inside.parts[:1] in ((), ("..",)) or "\0" in name:
        raise DatasetError(
            f"file_name {file_name!r} does not name a picture inside {image_dir}. "
            "Give it relative to the folder of the pictures and move the picture there."
        )
    return image_dir / inside


def pictures_below(image_dir: Path) -> Iterator[str]:
    """The names of all picture files in a folder and below, relative to it, with forward slashes."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for folder, folders, names in os.walk(image_dir):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(folder, name).relative_to(image_dir).as_posix()


class UnsupportedPixels(DatasetError):
    """A sound picture whose pixels cannot be used."""


Decode = Literal["header", "thumbnail", "full"]
THUMBNAIL_SIDE = 16


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture's file says of itself.

    ``problem`` is the code of a finding that makes the picture unusable, ``message`` its text; sizes are then
    None. ``traits`` are codes of findings about kinds of pictures that are used, but not as they are.
    """

    problem: str | None = None
    message: str = ""
    stored_hw: tuple[int, int] | None = None  # as the pixels are stored
    shown_hw: tuple[int, int] | None = None  # as its EXIF orientation wants it shown
    orientation: int = 1  # EXIF, 1 is upright
    traits: tuple[str, ...] = ()
    num_bytes: int = 0  # of the file
    thumbnail: bytes | None = None  # THUMBNAIL_SIDE squared gray values, unturned; None if not decoded


def inspect_picture(path: Path, decode: Decode) -> PictureFacts:
    """What there is to know of a picture; nothing is raised.

    ``header`` reads the header and looks for the end mark of JPEG and PNG files; ``thumbnail`` decodes the
    picture, JPEG at the smallest scale; ``full`` makes every pixel as training would.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes == 0:
            return PictureFacts("image_empty_file", f"{path.name} has no bytes")
        with Image.open(path) as picture:
            size = header_size(picture)
            facts = PictureFacts(
                stored_hw=size.stored_hw,
                shown_hw=size.shown_hw,
                orientation=orientation_of(picture),
                traits=_traits(picture),
                num_bytes=num_bytes,
            )
            if picture.mode == "F":
                return PictureFacts("image_unsupported", f"{path.name} has pixels with fractions")
            if decode == "header":
                _expect_end(picture, path)
                return facts
            thumbnail = _thumbnail(picture)
        if decode == "full" or thumbnail is None:
            load_image(path)
        return replace(facts, thumbnail=thumbnail)
    except FileNotFoundError:
        return PictureFacts("image_missing", f"{path.name} does not exist{_other_case(path)}")
    except Image.DecompressionBombError:
        return PictureFacts("image_unsupported", f"{path.name} has too many pixels")
    except DatasetError as error:  # of load_image
        code = "image_unsupported" if isinstance(error, UnsupportedPixels) else "image_corrupt"
        reason = str(error).removeprefix(f"{path}: ").partition(". ")[0]
        return PictureFacts(code, f"{path.name}: {reason}")
    except DECODER_ERRORS as error:
        code = "image_truncated" if _is_truncation(error) else "image_corrupt"
        return PictureFacts(code, f"{path.name} cannot be read ({error})".replace(str(path), path.name))


@dataclass(frozen=True)
class PictureSize:
    """Height and width of a picture as its pixels are stored, and as its EXIF orientation wants it shown."""

    stored_hw: tuple[int, int]
    shown_hw: tuple[int, int]


def picture_size(path: Path) -> PictureSize:
    """The sizes in the header of a picture; pixels are not read. Raises DatasetError if it has no header."""
    with _naming(path), Image.open(path) as picture:
        return header_size(picture)


def header_size(picture: Image.Image) -> PictureSize:
    """The sizes of an open picture; pixels are not read."""
    width, height = picture.size
    lies_on_its_side = orientation_of(picture) in (5, 6, 7, 8)
    return PictureSize(
        stored_hw=(height, width), shown_hw=(width, height) if lies_on_its_side else (height, width)
    )


def turn_upright(picture: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation wants it shown."""
    transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation_of(picture))
    return picture if transpose is None else picture.transpose(transpose)


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or the metadata are damaged."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # getexif() would decode all pixels of a PNG to look for it behind them
    try:
        return picture.getexif().get(_EXIF_ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1


def load_image(path: Path, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], RGB, turned as its EXIF orientation says, as labelling tools show it.

    size_hw: the size that the annotations are made for. A picture that has this size only without turning
    stays unturned. Gray, palette and CMYK become RGB, alpha is dropped, 16-bit gray is divided by 257.
    Raises DatasetError when the file is missing, damaged, no picture, too large for Pillow's limit, or of
    another size than ``size_hw`` both ways.
    """
    with _naming(path), Image.open(path) as picture:
        size = header_size(picture)
        turn = size_hw is None or size.shown_hw == size_hw
        if not turn and size.stored_hw != size_hw:
            raise DatasetError(
                f"{path}: the picture is {size.shown_hw} (height, width), its annotations say {size_hw}. "
                "Correct the annotation file, or put back the picture that was annotated."
            )
        return _to_rgb(turn_upright(picture) if turn else picture, path)


# What turns a stored picture upright, by its EXIF orientation; 1 is upright already.
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

# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what Pillow raises on a bad picture into a DatasetError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: the picture does not exist. Copy it there or remove it from the list."
        ) from None
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: the picture is too large ({error}). Cut it into tiles.") from error
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: not a readable picture ({error}). Replace or remove it.") from error


def _to_rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    if picture.mode == "F" or picture.mode.startswith("I"):
        gray = np.asarray(picture)
        if picture.mode == "F" or gray.min() < 0 or gray.max() > 65535:
            raise UnsupportedPixels(
                f"{path}: pixels with fractions or outside 0..65535 are not supported. Scale them to 8 bits."
            )
        return np.repeat(np.rint(gray / 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def _traits(picture: Image.Image) -> tuple[str, ...]:
    traits = []
    if picture.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(picture, "tile", ())):
        traits.append("image_16bit")
    if picture.mode in ("CMYK", "YCCK"):
        traits.append("image_cmyk")
    # A phone's MPO holds a preview behind the photograph: nothing to choose from.
    if picture.format not in ("JPEG", "MPO", "BMP") and getattr(picture, "is_animated", False):
        traits.append("image_animated")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        traits.append("image_alpha")
    return tuple(traits)


def _thumbnail(picture: Image.Image) -> bytes | None:
    """Gray means of a grid of THUMBNAIL_SIDE squared fields; None where values do not fit into 8 bits."""
    picture.draft("L", (4 * THUMBNAIL_SIDE, 4 * THUMBNAIL_SIDE))
    if picture.mode.startswith("I"):
        picture.load()
        return None
    gray = picture.convert("L")
    return gray.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX).tobytes()


_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}


def _expect_end(picture: Image.Image, path: Path) -> None:
    mark = _END_MARKS.get(picture.format or "")
    if mark is None:
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        if mark not in file.read():
            picture.load()  # it raises if the end is missing; cameras may write more behind it


def _is_truncation(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("truncated", "incomplete", "unexpected end", "ended", "end of"))


def _other_case(path: Path) -> str:
    """Names are the same on Windows and macOS that differ on Linux: the usual reason of missing pictures."""
    try:
        others = [entry.name for entry in os.scandir(path.parent) if entry.name.lower() == path.name.lower()]
    except OSError:
        return ""
    return f", but {others[0]} does" if others else ""
