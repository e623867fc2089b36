"""Images with more than 8 bits or more than 3 bands, as remote sensing and microscopy have them.

One setting, `structures.Bands`, says which bands are red, green and blue, which values become 0..255, and
which value means no data. It comes from ``Global.bands`` or from ``bands.yaml`` in the data set, is part of
`structures.PreprocessSpec`, and so reaches check, training, evaluation and prediction. Weights and exported
models carry it: they are used with the setting that they were trained with.

- The setting holds for every image of a set, of any format and depth. There is one rule, without exceptions.
- ``range`` has fixed values: the same reflectance gets the same colour in every image. It is to be preferred.
  ``stretch`` measures percentiles in each image: for images of unknown exposure. Equal percentiles, as of a
  few bright spots on an empty background, are replaced by the smallest and the largest value.
- Pixels without data become 0 and are left out of the percentiles.
- Bands are the samples of a TIFF, chunky or planar. If it has one sample and more pages of the same size and
  type, the pages are the bands (microscopy). One file is one image.
- Readers: tifffile for TIFF, OpenCV for 16-bit colours in PNG (Pillow drops their low byte), Pillow for the
  rest. OpenCV also reads TIFFs of up to four bands whose compression tifffile does not know.
- Without the setting, the first three bands (of two bands, the first one) are used, and the check says what
  is dropped. Values must then be whole numbers of 0..65535; they are divided by 257.
"""

import logging
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands

SETTING = "Global.bands or bands.yaml"
WITHOUT_SETTING = Bands(red=1, green=2, blue=3, range=((0.0, 65535.0),) * 3)
_EIGHT_BITS = ((0.0, 255.0),) * 3
_GDAL_NODATA = 42113  # TIFF tag
_PIECE = 1 << 18  # bytes
_MOST_BANDS = 1024  # bands; a header that says more is damaged, or made to exhaust the memory

# Both libraries log what they then raise, and tifffile also what it can repair.
for _name in ("tifffile", "PIL.TiffImagePlugin"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class UnsupportedPixels(DatasetError):
    """A readable image whose pixels are not supported, or which lacks a band. ``code``: of the finding."""

    def __init__(self, message: str, code: str = "image_unsupported") -> None:
        super().__init__(message)
        self.code = code


def describe_bands(bands: Bands | None) -> str:
    """How images are read, for a message."""
    return "images as they are, without Global.bands" if bands is None else f"the bands {bands}"


def bands_from_json(values: Mapping[str, Any] | None) -> Bands | None:
    """The setting from JSON of `dataclasses.asdict`. Raises ValueError or TypeError for other values."""
    if values is None:
        return None
    given = dict(values)
    if given.get("range") is not None:
        given["range"] = tuple((float(low), float(high)) for low, high in given["range"])
    if given.get("stretch") is not None:
        low, high = given["stretch"]
        given["stretch"] = (float(low), float(high))
    if not all(type(given.get(colour)) is int for colour in ("red", "green", "blue")):
        raise ValueError("expected the numbers of the bands red, green and blue")
    return Bands(**given)


@dataclass(frozen=True)
class BandFile:
    """An image file with bands of any number and type, of which only the header is read so far."""

    path: Path
    stored_hw: tuple[int, int]
    orientation: int  # EXIF, 1 is upright
    num_bands: int
    dtype: np.dtype[Any]
    nodata: float | None  # as the file states
    read: Callable[[Sequence[int]], NDArray[Any]]  # positions of bands -> [n, H, W]

    @property
    def shown_hw(self) -> tuple[int, int]:
        """The size after the EXIF orientation is applied."""
        return self.stored_hw[::-1] if self.orientation in (5, 6, 7, 8) else self.stored_hw

    def require(self, bands: Bands) -> None:
        """Raise UnsupportedPixels if the file lacks a band that the setting names."""
        for colour, number in zip(("red", "green", "blue"), bands.numbers, strict=True):
            if number > self.num_bands:
                raise UnsupportedPixels(
                    f"{self.path}: the image has {self.num_bands} band{'s' * (self.num_bands > 1)}, but "
                    f"{colour} is band {number} in {SETTING}. Name bands that all images have, or leave the "
                    "image out of your data.",
                    code="image_bands_missing",
                )

    def require_plain(self) -> None:
        """Raise UnsupportedPixels unless the file has whole numbers, which need no setting."""
        if self.dtype.kind not in "bui":
            kind = "floating-point" if self.dtype.kind == "f" else str(self.dtype)
            raise needs_setting(self.path, f"{kind} pixels")

    def values(self, numbers: Sequence[int]) -> NDArray[Any]:
        """The bands ``numbers``, counted from 1, as stored: [n, H, W]."""
        places = sorted({number - 1 for number in numbers})
        found = self.read(places)
        found = found.astype(np.uint8) if found.dtype == np.bool_ else found  # of one bit
        return found[[places.index(number - 1) for number in numbers]]

    def rgb(self, bands: Bands | None, *, upright: bool = True) -> NDArray[np.uint8]:
        """The image as uint8 [H, W, 3]. upright: with its EXIF orientation applied.

        Raises UnsupportedPixels, and any of `images.DECODER_ERRORS`.
        """
        if bands is None:
            values, bands = self._plain_values()
        else:
            self.require(bands)
            values = self.values(bands.numbers)
        if values.dtype.kind not in "buif":
            raise UnsupportedPixels(f"{self.path}: pixels of type {values.dtype} are not supported.")
        nodata = self.nodata if bands.nodata is None else bands.nodata
        image = np.stack(
            [_to_8_bits(values[place], bands, place, nodata) for place in range(3)],
            axis=2,
        )
        return _turned(image, self.orientation) if upright else image

    def _plain_values(self) -> tuple[NDArray[Any], Bands]:
        """The bands that are used without a setting, and the setting that this means."""
        self.require_plain()
        values = self.values((1, 2, 3) if self.num_bands > 2 else (1, 1, 1))
        if self.dtype.itemsize == 1:
            return values, Bands(red=1, green=2, blue=3, range=_EIGHT_BITS)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise needs_setting(self.path, f"values {values.min():,}..{values.max():,}, not 0..65,535,")
        return values, WITHOUT_SETTING


def needs_setting(path: Path, what: str) -> UnsupportedPixels:
    """The error for pixels that are not used without a setting."""
    return UnsupportedPixels(
        f"{path}: {what} need the setting {SETTING}. Say with it how they become 0..255."
    )


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def reads_wrongly(image: Image.Image) -> bool:
    """Whether Pillow reads an open file without an error, but takes wrong pixels from it.

    It does so with planar 16 bits, and where it maps a file with one band that is to be turned by a quarter.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return False
    if tags.get(274) in (5, 6, 7, 8) and any(tile[0] == "raw" for tile in getattr(image, "tile", ())):
        return True
    bits = tags.get(258, (1,))
    is_deep = max(bits if isinstance(bits, tuple) else (bits,)) > 8
    return is_deep and tags.get(284) == 2 and tags.get(277, 1) > 1


def bands_in_file(image: Image.Image) -> int | None:
    """The number of bands of an open file of which Pillow does not give all; None if it gives all."""
    found = int(tags.get(277, 1)) if (tags := getattr(image, "tag_v2", None)) is not None else 1
    return found if found > len(image.getbands()) else None


def open_tiff(path: Path, number: int | None = None) -> BandFile | None:
    """The header of a TIFF; None for a palette, CMYK and the like, which are colours instead of bands.

    number: read only this page, counted from 0. None: pages like the first one are bands.

    Raises any of `images.DECODER_ERRORS`.
    """
    import tifffile  # here, because importing it takes as long as reading a hundred headers

    with _readable(), tifffile.TiffFile(path, is_ome=False) as tiff:
        page: Any = tiff.pages.first if number is None else tiff.pages[number]
        if page.photometric not in (0, 1, 2):  # two kinds of gray, RGB
            return None
        height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
        if page.dtype is None or page.imagedepth != 1:
            raise ValueError("unknown type of pixels")
        pages = [number or 0] if samples > 1 or number is not None else _like_the_first(tiff)
        num_bands = max(samples, len(pages))
        if samples > _MOST_BANDS:
            raise ValueError(f"{samples} bands")
        ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > tiff.filehandle.size:
            raise OSError("image file is truncated")
        tag = page.tags.get(274)
        orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
        nodata = _stated_nodata(page.tags.get(_GDAL_NODATA))
        dtype = np.dtype(page.dtype)

    def read(places: Sequence[int]) -> NDArray[Any]:
        with tifffile.TiffFile(path, is_ome=False) as tiff:
            if len(pages) > 1:
                return np.stack([_pixels(tiff.pages[pages[place]], path) for place in places])[..., 0]
            return np.moveaxis(_pixels(tiff.pages[pages[0]], path)[..., places], 2, 0)

    return BandFile(path, (height, width), orientation, num_bands, dtype, nodata, read)


def _like_the_first(tiff: Any) -> list[int]:
    """The pages with size and type of the first one. Previews and masks have another size or kind."""
    first = tiff.pages.first
    alike = [0]
    for number in range(1, min(len(tiff.pages), _MOST_BANDS)):
        page = tiff.pages[number]
        if (page.shape, page.dtype, page.samplesperpixel) == (first.shape, first.dtype, 1) and not (
            page.subfiletype & 5  # 1: a preview, 4: a mask
        ):
            alike.append(number)
    return alike


def _stated_nodata(tag: Any) -> float | None:
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _pixels(page: Any, path: Path) -> NDArray[Any]:
    """The pixels of a page, [H, W, samples]."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    try:
        with _readable():
            found = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        found = read_by_opencv(path, page.index) if samples in (1, 3, 4) else None
        if found is None or found.shape[:2] != (height, width) or found.dtype != page.dtype:
            compression = getattr(page.compression, "name", page.compression)  # a number if it is unknown
            raise UnsupportedPixels(
                f"{path}: its compression ({compression}, predictor {page.predictor}) needs a "
                "package that is not installed. Run pip install paddlex_seg[rasters], or save the image "
                "without compression."
            ) from error
        return found
    if page.axes == "SYX":
        found = np.moveaxis(found, 0, 2)
    return found.reshape(height, width, samples)


def require_bounded_parts(path: Path) -> None:
    """Refuse a TIFF whose strips or tiles decompress to more than their size; other files pass.

    The decoders that tifffile has itself know no limit. Raises any of `images.DECODER_ERRORS`, and
    UnsupportedPixels where the size cannot be told without decompressing all at once.
    """
    if not is_tiff(path):
        return
    import tifffile

    with _readable(), tifffile.TiffFile(path, is_ome=False) as tiff:
        for number in _like_the_first(tiff):
            page: Any = tiff.pages[number]
            if page.compression in (tifffile.COMPRESSION.PACKBITS, tifffile.COMPRESSION.LZMA):
                raise UnsupportedPixels(
                    f"{path}: the compression {page.compression.name} is not accepted for bands. Save the "
                    "image with Deflate or without compression."
                )
            if page.compression not in (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE):
                continue
            most = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
            for offset, num_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
                tiff.filehandle.seek(offset)
                if _inflates_beyond(tiff.filehandle.read(num_bytes), most):
                    raise ValueError("a strip or tile has more pixels than it should")


def _inflates_beyond(data: bytes, most: int) -> bool:
    """Whether Deflate data become more than ``most`` bytes. Little memory is used."""
    stream, total = zlib.decompressobj(), 0
    for start in range(0, len(data), _PIECE):
        rest = data[start : start + _PIECE]
        while rest and not stream.eof:
            total += len(stream.decompress(rest, _PIECE))
            if total > most:
                return True
            rest = stream.unconsumed_tail
    return False


def read_by_opencv(path: Path, page: int = 0) -> NDArray[Any] | None:
    """All bands, [H, W, C] in the order of the file; None if OpenCV cannot read it."""
    encoded = np.fromfile(path, np.uint8)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else it prints doubts about a TIFF
    try:
        if page == 0:
            found = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        else:
            pages = cv2.imdecodemulti(encoded, cv2.IMREAD_UNCHANGED, range=(page, page + 1))[1]
            found = pages[0] if pages else None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if found is None:
        return None
    found = found[..., None] if found.ndim == 2 else found
    order = [2, 1, 0, *range(3, found.shape[2])] if found.shape[2] >= 3 else [0]
    return found[..., order]


@contextmanager
def _readable() -> Iterator[None]:
    """Damaged TIFFs make tifffile raise more kinds of errors than Pillow; they become ValueError."""
    try:
        yield
    except (
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ZeroDivisionError,
        struct.error,
        zlib.error,
    ) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _to_8_bits(values: NDArray[Any], bands: Bands, place: int, nodata: float | None) -> NDArray[np.uint8]:
    """One band [H, W] as 0..255. Pixels without data become 0."""
    has_data = _has_data(values, nodata)
    if bands.range is not None:
        low, high = bands.range[place]
    else:
        low, high = _percentiles(values if has_data is None else values[has_data], bands.stretch or (0, 100))
    scaled = np.subtract(values, low, dtype=np.float64 if values.dtype.itemsize > 2 else np.float32)
    if has_data is not None:
        scaled[~has_data] = 0
    scaled *= 255 if high > low else 0
    scaled /= high - low if high > low else 1
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _has_data(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where a band has data; None if everywhere."""
    found = np.isfinite(values) if values.dtype.kind == "f" else None
    if nodata is not None and np.isfinite(nodata):
        # A float file stores the nearest float32 of -3.4e38 and the like.
        wanted = values.dtype.type(nodata) if values.dtype.kind == "f" else nodata
        other = values != wanted
        found = other if found is None else found & other
    return found


def _percentiles(values: NDArray[Any], wanted: tuple[float, float]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        low, high = _percentiles_of_counts(np.bincount(values.reshape(-1)), wanted)
    else:
        low, high = np.percentile(values.astype(np.float64), wanted).tolist()
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _percentiles_of_counts(counts: NDArray[np.intp], wanted: tuple[float, float]) -> tuple[float, float]:
    """`np.percentile` of whole numbers, of which ``counts[i]`` are i. Faster than sorting."""
    up_to = np.cumsum(counts)
    places = np.array(wanted) / 100 * (up_to[-1] - 1)
    below, above = (np.searchsorted(up_to, ends(places), side="right") for ends in (np.floor, np.ceil))
    low, high = (below + (above - below) * (places % 1)).tolist()
    return low, high


def _turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The stored pixels with their EXIF orientation applied."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
