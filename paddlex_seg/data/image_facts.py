"""What is known about an image file, for the check of a data set: sizes, problems and traits."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from paddlex_seg.data.bands import BandFile, UnsupportedPixels, bands_in_file, is_tiff, needs_setting
from paddlex_seg.data.foreign_files import foreign_file, raw_image
from paddlex_seg.data.images import (
    DECODER_ERRORS,
    has_16_bits,
    header_size,
    is_absent,
    is_animated,
    load_image,
    not_there,
    open_bands,
    open_image,
    orientation_of,
    too_large,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands

Decode = Literal["header", "thumbnail", "full"]


THUMBNAIL_SIDE = 16


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known about an image file.

    If the image is unusable, ``problem`` is the code of the finding, ``message`` is its text, and sizes are
    None. ``traits`` are codes of findings about images that are used after a conversion, such as from CMYK.
    """

    problem: str | None = None
    message: str = ""
    stored_hw: tuple[int, int] | None = None  # size of the stored pixels
    shown_hw: tuple[int, int] | None = None  # size after the EXIF orientation is applied
    orientation: int = 1  # EXIF, 1 is upright
    traits: tuple[str, ...] = ()
    num_bytes: int = 0  # of the file
    thumbnail: bytes | None = None  # THUMBNAIL_SIDE squared gray values, without EXIF; None if not decoded
    hint: str | None = None  # what to do about the problem, if that is known better than from its code
    num_bands: int | None = None  # of an image of which bands are dropped
    values: tuple[int, int] | None = None  # smallest and largest, of a decoded image with 16 bits


def inspect_image(path: Path, decode: Decode, bands: Bands | None = None) -> ImageFacts:
    """Inspect an image file. Problems are returned, never raised.

    ``header`` reads the header and looks for the end mark of JPEG and PNG files. ``thumbnail`` decodes the
    image, JPEG at the smallest scale. ``full`` decodes every pixel, as training does. bands: as for
    `load_image`.
    """
    raw = raw_image(path)
    if raw is not None:
        return ImageFacts("image_unsupported", f"{path.name} is {raw.what}", hint=raw.hint)
    try:
        num_bytes = path.stat().st_size
        if num_bytes == 0 and path.is_file():
            return ImageFacts("image_empty_file", f"{path.name} has no bytes")
        opened = open_image(path, bands)
        if isinstance(opened, BandFile):
            return replace(_inspect_bands(opened, decode, bands), num_bytes=num_bytes)
        with opened as image:
            size = header_size(image)
            facts = ImageFacts(
                stored_hw=size.stored_hw,
                shown_hw=size.shown_hw,
                orientation=orientation_of(image),
                traits=_traits(image),
                num_bytes=num_bytes,
                num_bands=bands_in_file(image),
            )
            if image.mode == "F":
                raise needs_setting(path, "floating-point pixels")
            if decode == "header":
                _expect_end(image, path)
                return facts
            thumbnail = _thumbnail(image)
        if decode == "full" or thumbnail is None:
            load_image(path)
        if "image_16bit" in facts.traits:
            facts = replace(facts, values=_value_range(open_bands(path)))
        return replace(facts, thumbnail=thumbnail)
    except Image.DecompressionBombError as error:
        return ImageFacts("image_unsupported", f"{path.name}: {too_large(error).partition('. ')[0]}")
    except DatasetError as error:  # of load_image
        code = error.code if isinstance(error, UnsupportedPixels) else "image_corrupt"
        reason = str(error).removeprefix(f"{path}: ").partition(". ")[0]
        return ImageFacts(code, f"{path.name}: {reason}")
    except DECODER_ERRORS as error:
        if is_absent(error):
            return ImageFacts("image_missing", f"{path.name} {not_there(path)}")
        foreign = foreign_file(path)
        if foreign is not None:
            return ImageFacts("image_unsupported", f"{path.name} is {foreign.what}", hint=foreign.hint)
        code = "image_truncated" if _is_truncation(error) else "image_corrupt"
        return ImageFacts(code, f"{path.name} cannot be read ({error})".replace(str(path), path.name))


_FLAT = 8  # of 255: an image whose values differ less shows nothing


def _inspect_bands(file: BandFile, decode: Decode, bands: Bands | None) -> ImageFacts:
    """`inspect_image` of a file that is read band by band."""
    facts = ImageFacts(stored_hw=file.stored_hw, shown_hw=file.shown_hw, orientation=file.orientation)
    if bands is not None:
        file.require(bands)
    elif file.num_bands == 2 or file.num_bands > 3:
        facts = replace(facts, traits=("image_bands_dropped",), num_bands=file.num_bands)
    if bands is None and file.dtype.kind in "ui" and file.dtype.itemsize > 1:
        facts = replace(facts, traits=("image_16bit", *facts.traits))
    if decode == "header":
        if bands is None:
            file.require_plain()
        if not is_tiff(file.path):
            with Image.open(file.path) as image:
                _expect_end(image, file.path)
        return facts
    rgb = file.rgb(bands, upright=False)
    if bands is not None and int(rgb.max()) - int(rgb.min()) < _FLAT:
        facts = replace(facts, traits=("image_bands_flat",))
    gray = Image.fromarray(rgb).convert("L")
    if "image_16bit" in facts.traits:
        facts = replace(facts, values=_value_range(file))
    small = gray.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return replace(facts, thumbnail=small.tobytes())


def _value_range(file: BandFile) -> tuple[int, int] | None:
    """The smallest and the largest value of the bands that are used without a setting."""
    values = file.values((1, 2, 3) if file.num_bands > 2 else (1,))
    return (int(values.min()), int(values.max())) if values.size else None


def _traits(image: Image.Image) -> tuple[str, ...]:
    traits = []
    if image.mode.startswith("I") or has_16_bits(image):
        traits.append("image_16bit")
    if bands_in_file(image) is not None:
        traits.append("image_bands_dropped")
    if image.mode in ("CMYK", "YCCK"):
        traits.append("image_cmyk")
    if is_animated(image):
        traits.append("image_animated")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        traits.append("image_alpha")
    return tuple(traits)


def _thumbnail(image: Image.Image) -> bytes | None:
    """Mean gray values of THUMBNAIL_SIDE x THUMBNAIL_SIDE cells; None if values do not fit into 8 bits."""
    image.draft("L", (4 * THUMBNAIL_SIDE, 4 * THUMBNAIL_SIDE))
    if image.mode.startswith("I"):
        image.load()
        return None
    gray = image.convert("L")
    return gray.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX).tobytes()


_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}


def _expect_end(image: Image.Image, path: Path) -> None:
    mark = _END_MARKS.get(image.format or "")
    if mark is None:
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        if mark not in file.read():
            image.load()  # raises if the file is truncated; cameras may append data after the end mark


def _is_truncation(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("truncated", "incomplete", "unexpected end", "ended", "end of"))
