"""Looks at the parts of an image file before a decoder does, and refuses what would keep one busy.

Decoders check sizes of images, but not all of them check the numbers of their parts: segments, chunks, tags,
pages, scans. A file within the limit of bytes can have millions of them. What is refused here occurs in no
file that an ordinary program writes. All else that is wrong is left to the decoder.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from paddlex_seg.serving.problems import RequestProblem

_JPEG_SEGMENTS = 4_000
_JPEG_JUNK = 100_000  # bytes between segments
_EXIF_SEGMENTS = 64
_JPEG_SCANNED = 1_500_000_000  # pixels x scans: a progressive image has about 10 scans
_PNG_CHUNKS = 32_768  # 30 MB in the chunks of 8 kB that libpng writes are 3,700
_PNG_PACKED = 20  # chunks of compressed text, of which each may become 8 MB
_TIFF_PAGES = 1_100  # previews included
_TIFF_TAGS = 1_000  # of one page
_TIFF_ALL_TAGS = 100_000
_TIFF_NUMBERS = 262_144  # values of one tag, such as offsets of strips or tiles
_TIFF_TILE = 1 << 24  # pixels
_BMP_PACKED = 4_000_000  # pixels: Pillow decodes run lengths in Python
_PAGE_IS_NO_IMAGE = 5  # bits of NewSubfileType: a preview, a mask


def check_parts(kind: str, data: bytes, max_pixels: int) -> None:
    """Raise RequestProblem if a file of this kind has more parts than are useful.

    max_pixels: limit of the pixels of an image. Unusual parts may need memory of 16 bytes for each.
    """
    if kind == "JPEG":
        _check_jpeg(data)
    elif kind == "PNG":
        _check_png(data)
    elif kind == "TIFF":
        _check_tiff(data, max_pixels)
    elif kind == "BMP":
        _check_bmp(data)


def count_pages(data: bytes) -> int:
    """The number of pages of a TIFF that passed `check_parts`, without previews and masks."""
    return sum(number == 0 or not page.is_no_image for number, page in enumerate(_pages(data)))


def check_exif(exif: bytes) -> None:
    """Raise RequestProblem if EXIF data have more tags than are useful, or tags that overlap."""
    for _ in _pages(exif.removeprefix(b"Exif\0\0"), most=1, where="its EXIF data have"):
        pass


def _refusal(what: str) -> RequestProblem:
    return RequestProblem(
        400, f"the image file is damaged, or made to keep a reader busy: {what}. Save it with another program"
    )


# JPEG

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0, *range(0xD0, 0xDA)))
_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def _check_jpeg(data: bytes) -> None:
    """Segments before the pixels, tags in them, and how often the pixels are coded."""
    place, junk, segments = 2, 0, 0
    exif: list[bytes] = []
    frame = b""
    while segments <= _JPEG_SEGMENTS and junk <= _JPEG_JUNK:
        found = data.find(b"\xff", place)
        if found < 0 or found + 4 > len(data):
            break
        junk += found - place
        marker = data[found + 1]
        if marker == 0xFF:  # a fill byte
            place, junk = found + 1, junk + 1
            continue
        segments += 1
        if marker in _WITHOUT_LENGTH:
            place = found + 2
            continue
        (length,) = struct.unpack_from(">H", data, found + 2)
        content = data[found + 4 : found + 2 + length]
        place = found + 2 + max(length, 2)
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            check_exif(content[4:])
        elif marker in _FRAMES:
            frame = content
        elif marker == 0xDA:
            _check_scans(data, place, frame)
            break
    else:
        raise _refusal("it has too many segments")
    if len(exif) > _EXIF_SEGMENTS or data.count(b"8BIM", 0, place) > _JPEG_SEGMENTS:
        raise _refusal("it has too much metadata")
    check_exif(b"".join(exif))


def _check_scans(data: bytes, place: int, frame: bytes) -> None:
    """Each scan goes over all pixels, however few bytes it has. ``place``: where the first one begins."""
    if len(frame) < 5:
        return
    height, width = struct.unpack_from(">HH", frame, 1)
    most = max(_JPEG_SCANNED // max(height * width, 1), 20)
    if data.count(b"\xff\xda", place) < most:  # also counts what is in metadata and after the image
        return
    scans = 1
    for _ in range(4 * most + 1_000):
        found = _NEXT_MARKER.search(data, place)
        if found is None or found[0] == b"\xff\xd9" or found.end() + 2 > len(data):
            return
        scans += found[0] == b"\xff\xda"
        if scans > most:
            break
        place = found.end() + max(struct.unpack_from(">H", data, found.end())[0], 2)
    raise _refusal(f"it has more than {most} scans")


# PNG


def _check_png(data: bytes) -> None:
    place, packed = 8, 0
    for _ in range(_PNG_CHUNKS):
        if place + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IEND":
            return
        if length > len(data):  # OpenCV, which reads 16 bits, would allocate so much
            raise RequestProblem(
                400, "the PNG image is damaged or cut off (a chunk is longer than the file). Send it again"
            )
        packed += name in (b"zTXt", b"iTXt", b"iCCP")
        if packed > _PNG_PACKED:
            raise _refusal("it has too many texts")
        place += 12 + length
    raise _refusal("it has too many chunks")


# TIFF, and the tags of EXIF, which have its form


@dataclass(frozen=True)
class _Page:
    values: dict[int, list[int]]  # numbers of the tags below

    def first(self, tag: int, default: int) -> int:
        return (self.values.get(tag) or [default])[0]

    @property
    def is_no_image(self) -> bool:
        return bool(self.first(_SUBFILE_TYPE, 0) & _PAGE_IS_NO_IMAGE)


_SUBFILE_TYPE, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH, _TILE_DEPTH = 254, 277, 322, 323, 32998
_BYTE_COUNTS = (279, 325)  # of strips and tiles
_READ_TAGS = frozenset((_SUBFILE_TYPE, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH, _TILE_DEPTH, *_BYTE_COUNTS))
# TIFF type -> bytes of a value. Types 1, 2, 6 and 7 are bytes and text.
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _check_tiff(data: bytes, max_pixels: int) -> None:
    coded = 0
    for page in _pages(data):
        tile = page.first(_TILE_WIDTH, 0) * page.first(_TILE_LENGTH, 0)
        if (
            page.first(_TILE_DEPTH, 1) > 1
            or tile > _TIFF_TILE
            or tile * page.first(_SAMPLES, 1) > 2 * max_pixels
        ):
            raise _refusal("its tiles are too large")
        coded += sum(sum(page.values.get(tag, ())) for tag in _BYTE_COUNTS)
        if coded > len(data):
            raise _refusal("its strips or tiles are larger than the file")


def _pages(data: bytes, most: int = _TIFF_PAGES, where: str = "it has") -> Iterator[_Page]:
    """The directories of tags, one after the other, up to ``most``. Ends where the chain is damaged.

    Raises RequestProblem if there are too many or their values overlap.
    """
    order, big = {b"II": "<", b"MM": ">"}.get(data[:2], ""), data[2:4] in (b"+\0", b"\0+")
    if not order:
        return
    count_form, offset_form, tag_form = ("Q", "Q", "HHQ8s") if big else ("H", "I", "HHI4s")
    tag_bytes, inline = (20, 8) if big else (12, 4)
    place = 8 if big else 4
    seen: set[int] = set()
    num_tags = num_bytes = 0
    while True:
        try:
            (offset,) = struct.unpack_from(order + offset_form, data, place)
            if not offset or offset in seen:
                return
            (count,) = struct.unpack_from(order + count_form, data, offset)
        except (struct.error, OverflowError):
            return
        if len(seen) == most:
            if most > 1:
                raise _refusal(f"{where} more than {most:,} pages")
            return
        seen.add(offset)
        num_tags += count
        if count > _TIFF_TAGS or num_tags > _TIFF_ALL_TAGS:
            raise _refusal(f"{where} too many tags")
        start = offset + struct.calcsize(order + count_form)
        place = start + count * tag_bytes
        entries = data[start:place]
        values = {}
        whole = len(entries) - len(entries) % tag_bytes
        for tag, kind, number, content in struct.iter_unpack(order + tag_form, entries[:whole]):
            size = number * _TYPE_BYTES.get(kind, 0)
            num_bytes += size if size > inline else 0
            if num_bytes > len(data) or (number > _TIFF_NUMBERS and kind not in (1, 2, 6, 7)):
                raise _refusal(f"{where} tags that are larger than the file")
            if tag in _READ_TAGS and kind in _TYPE_CODES:
                values[tag] = _numbers(
                    data, order, kind, number, content, offset_form if size > inline else ""
                )
        yield _Page(values)


def _numbers(data: bytes, order: str, kind: int, number: int, content: bytes, offset_form: str) -> list[int]:
    """The values of a tag, which stand in ``content`` or, with ``offset_form``, where it points to."""
    form = f"{order}{number}{_TYPE_CODES[kind]}"
    try:
        if not offset_form:
            return list(struct.unpack_from(form, content))
        (offset,) = struct.unpack(order + offset_form, content)
        return list(struct.unpack_from(form, data, offset))
    except (struct.error, OverflowError):
        return []


# BMP


def _check_bmp(data: bytes) -> None:
    if len(data) < 34 or struct.unpack_from("<I", data, 14)[0] < 40:
        return
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (1, 2) and abs(width * height) > _BMP_PACKED:
        raise RequestProblem(
            413,
            f"a BMP image with run lengths may have {_BMP_PACKED:,} pixels. Send the image as PNG",
        )
