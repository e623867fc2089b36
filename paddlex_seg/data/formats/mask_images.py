"""Reads masks stored as image files: one file with object ids, or one file per object."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.images import DECODER_ERRORS, too_large
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import runs_to_rle
from paddlex_seg.structures import Rle

IdMap = NDArray[np.integer[Any]]  # [H, W]
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg")
VOID = 255  # value of unlabelled regions and of the borders of objects in Pascal VOC


@dataclass(frozen=True)
class MaskPixels:
    """The pixels of a mask file.

    ``values`` are the numbers in the file; for a colour image they are red + 256 x green + 65536 x blue.
    ``palette`` has the colour of each number, in the same code, for a palette image.
    """

    values: IdMap
    is_colour: bool = False
    palette: NDArray[np.int64] | None = None
    is_jpeg: bool = False

    def colours(self) -> IdMap:
        """The colour of each pixel, as red + 256 x green + 65536 x blue. Gray v is the colour (v, v, v)."""
        if self.is_colour:
            return self.values
        if self.palette is not None:
            return self.palette[self.values]
        return np.minimum(self.values, 255).astype(np.int64) * 0x010101


def read_mask_pixels(path: Path) -> MaskPixels:
    """The pixels of a mask file: an image of any kind, or an array of whole numbers in ``.npy``.

    Negative numbers of an array become 255. Raises DatasetError if the file is unreadable, or has fractions.
    """
    if path.suffix == ".npy":
        return MaskPixels(_read_array(path))
    values, palette, is_jpeg = _read_pixels(path)
    if values.dtype.kind == "f":
        raise DatasetError(
            f"{path}: the pixels are floating-point numbers; expected whole numbers of 8, 16 or 32 bits"
        )
    if values.ndim == 2:
        values = values.astype(np.uint8) if values.dtype == bool else values
        return MaskPixels(values, palette=palette, is_jpeg=is_jpeg)
    if values.shape[2] in (2, 4) and (values[..., :-1] == 0).all():  # only alpha shows the object
        return MaskPixels((values[..., -1] > 0).astype(np.uint8))
    if values.shape[2] in (1, 2):  # gray and alpha
        return MaskPixels(values[..., 0], is_jpeg=is_jpeg)
    if (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all():
        return MaskPixels(values[..., 0], is_jpeg=is_jpeg)
    wide = values[..., :3].astype(np.int64)
    codes = wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]
    return MaskPixels(codes, is_colour=True, is_jpeg=is_jpeg)


def colour_text(code: int) -> str:
    """``128,0,0`` for the code of that colour."""
    return f"{code & 255},{code >> 8 & 255},{code >> 16}"


def read_binary_mask(path: Path) -> tuple[NDArray[np.bool_], bool]:
    """True [H, W] where a pixel is not black, and whether the mask has soft edges.

    Soft edges: several gray values up to white, or a JPEG. Then a pixel counts from 128 on. Alpha is ignored
    unless only alpha differs. Raises DatasetError if unreadable.
    """
    values, _, is_jpeg = _read_pixels(path)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        colours, alpha = values[..., :-1], values[..., -1]
        values = alpha if (colours == colours[:1, :1]).all() and alpha.min() != alpha.max() else colours
    if values.ndim == 3:
        if not is_jpeg and (values != values[..., :1]).any():
            return (values != 0).any(axis=2), False
        values = values.max(axis=2)
    if values.dtype == np.uint8 and values.max(initial=0) >= (128 if is_jpeg else 255):
        soft = values[(values > 0) & (values < 255)]
        if soft.size and (is_jpeg or (soft != soft[0]).any()):  # one more gray value is no smoothing
            return values >= 128, True
    return values != 0, False


def id_map_to_rles(ids: IdMap) -> dict[int, Rle]:
    """The mask of each object number except 0, in ascending order, in one pass over the pixels."""
    flat = ids.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    numbers = flat[starts]
    by_number = np.argsort(numbers, kind="stable")
    unique, first = np.unique(numbers[by_number], return_index=True)
    masks = {}
    for number, runs in zip(unique.tolist(), np.split(by_number, first[1:]), strict=True):
        if number:
            borders = np.stack([starts[runs], ends[runs]], axis=1).ravel()
            counts = np.diff(np.concatenate([[0], borders, [flat.size]]))
            counts = counts[:-1] if counts[-1] == 0 else counts
            masks[number] = runs_to_rle(counts.tolist(), (ids.shape[0], ids.shape[1]))
    return masks


def renumbered(values: IdMap, numbers: dict[int, int]) -> IdMap:
    """``values`` [H, W], each replaced by its number. Values without a number become 0."""
    flat = values.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    unique, index = np.unique(flat[starts], return_inverse=True)
    table = np.array([numbers.get(value, 0) for value in unique.tolist()], np.int64)
    return np.repeat(table[index], np.diff(np.append(starts, flat.size))).reshape(values.shape)


def distinct(values: IdMap) -> list[int]:
    """The values that occur, in ascending order."""
    flat = values.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.unique(flat[starts]).tolist()


def _read_array(path: Path) -> IdMap:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: not a readable array ({error})") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "bui":
        raise DatasetError(f"{path}: expected an array [height, width] of whole numbers")
    return np.where(values < 0, VOID, values.astype(np.int64))


def _read_pixels(path: Path) -> tuple[NDArray[Any], NDArray[np.int64] | None, bool]:
    """The pixels, the colour codes of a palette, and whether the file is a JPEG."""
    try:
        with Image.open(path) as image:
            palette = None
            if image.mode == "P":
                colours = np.zeros((256, 3), np.int64)
                given = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
                colours[: len(given)] = given
                palette = colours @ np.array([1, 256, 65536])
            elif image.mode not in ("1", "L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
                return np.asarray(image.convert("RGB")), None, image.format in ("JPEG", "MPO")  # such as CMYK
            return np.asarray(image), palette, image.format in ("JPEG", "MPO")
    except FileNotFoundError:
        raise DatasetError(f"{path}: the file does not exist") from None
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: not a readable image ({error})") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: {too_large(error)}") from error
