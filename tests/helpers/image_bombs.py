"""Image files that are small and cost a careless reader much time or memory.

As a program: decodes each file of a folder in a process of its own, and prints what came of it.
"""

import io
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 50_000_000
BODY = 30_000_000  # bytes of a request


@cache
def zeros() -> bytes:
    """225 MB of zeros, in 220 kB."""
    return zlib.compress(bytes(15_000 * 15_001), 9)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int, height: int, before: bytes = b"", pixels: bytes | None = None, after: bytes = b""
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = zlib.compress(bytes(height * (width + 1))) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments: bytes, **options: object) -> bytes:
    data = saved(Image.new("L", (64, 64)), "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def sized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def progressive(side: int, num_bytes: int) -> bytes:
    """Scans that go over all pixels and have almost no bytes, up to a number of bytes."""
    data = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:last] + scan * ((num_bytes - last) // len(scan)) + data[-2:]


def tiff(entries: list[tuple[int, int, int, int]], after: bytes = b"") -> bytes:
    """One directory of (tag, type, count, value or offset); ``after`` begins where it ends."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + after


def plain_tiff(width: int, height: int, **other: int) -> list[tuple[int, int, int, int]]:
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 64}
    values |= {int(tag.lstrip("t")): value for tag, value in other.items()}
    return [(tag, 4, 1, value) for tag, value in sorted(values.items())]


def tiff_of_pages(number: int) -> bytes:
    pages = b"".join(
        struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<I", 8 + 18 * (page + 1))
        for page in range(number)
    )
    return b"II*\0" + struct.pack("<I", 8) + pages + bytes(4)


def overlapping_pages() -> bytes:
    """Directories of 65,535 tags each, of which each begins 12 bytes after the one before."""
    size = 2 + 12 * 65_535
    data = bytearray(b"\xff" * (size + 12 * 1_500 + 8))
    data[:8] = b"II*\0" + struct.pack("<I", 8)
    for page in range(1_400):
        struct.pack_into("<I", data, 8 + 12 * page + size, 8 + 12 * (page + 1))
    return bytes(data)


def inflating_bands() -> bytes:
    """A TIFF of five bands whose one strip has a thousand times the pixels that it should have."""
    entries = dict((entry[0], entry) for entry in plain_tiff(64, 64, t259=8, t277=5, t284=1))
    entries[258] = (258, 3, 5, 8 + 2 + 12 * 11 + 4)
    start = entries[258][3] + 10
    coded = zeros()
    entries[273], entries[279] = (273, 4, 1, start), (279, 4, 1, len(coded))
    entries[338] = (338, 3, 2, 0)
    return tiff(sorted(entries.values()), struct.pack("<5H", 8, 8, 8, 8, 8) + coded)


def exif_in_tiff() -> bytes:
    """Five bands, and an EXIF directory of 65,535 tags whose values are all the same 60 kB."""
    entries = dict((entry[0], entry) for entry in plain_tiff(8, 8, t277=5, t284=1, t279=320))
    start = 8 + 2 + 12 * 12 + 4
    entries[258] = (258, 3, 5, start)
    entries[273] = (273, 4, 1, start + 10)
    entries[338] = (338, 3, 2, 0)
    entries[34665] = (34665, 4, 1, start + 330)
    exif = struct.pack("<H", 65_535) + b"".join(
        struct.pack("<HHII", number, 7, 60_000, 0) for number in range(65_535)
    )
    return tiff(sorted(entries.values()), struct.pack("<5H", 8, 8, 8, 8, 8) + bytes(320) + exif)


def webp(chunk_name: bytes, content: bytes) -> bytes:
    body = b"WEBP" + chunk_name + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def large_webp() -> bytes:
    """A canvas of 16,384 x 16,384 pixels."""
    side = struct.pack("<I", 16_383)[:3]
    return webp(b"VP8X", bytes(4) + side + side) + saved(Image.new("L", (8, 8)), "WEBP")[12:]


def frames(kind: str, number: int) -> bytes:
    images = [Image.new("L", (40, 40), shade % 256) for shade in range(number)]
    return saved(images[0], kind, save_all=True, append_images=images[1:], duration=20)


def bmp(width: int, height: int, compression: int = 0, pixels: bytes = bytes(64)) -> bytes:
    bits = {0: 24, 1: 8, 2: 4}[compression]
    palette = bytes(1024 if compression else 0)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + header + palette + pixels


OVERLAPPING_TAGS = [(number, 7, 60_000, 0) for number in range(40_000, 40_900)]
ENTITIES = b'<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + place, b"&%c;" % (97 + place) * 10) for place in range(9)
)

BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 15,000 x 15,000": lambda: png(15_000, 15_000, pixels=zeros()),
    "PNG of 34,000 x 34,000": lambda: png(34_000, 34_000, pixels=zeros()),
    "PNG of 50,000 x 50,000": lambda: png(50_000, 50_000, pixels=zeros()),
    "PNG of 2^31 x 2^31": lambda: png(2**31 - 1, 2**31 - 1, pixels=zeros()),
    "PNG with a profile of 225 MB": lambda: png(8, 8, chunk(b"iCCP", b"a\0\0" + zeros())),
    "PNG with a text of 225 MB": lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zeros())),
    "PNG with an international text of 225 MB": lambda: png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + zeros())),
    "PNG with many texts": lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))) * 200),
    "PNG with 2 million chunks": lambda: png(8, 8, chunk(b"tEXt", b"") * (BODY // 12 - 50)),
    "PNG with 2 million chunks after the pixels": lambda: png(
        8, 8, after=chunk(b"tEXt", b"") * (BODY // 12 - 50)
    ),
    "PNG with an EXIF bomb": lambda: png(8, 8, chunk(b"eXIf", tiff(OVERLAPPING_TAGS, bytes(60_000)))),
    "JPEG of 65,500 x 65,500": lambda: sized_jpeg(65_500, 65_500),
    "JPEG with 7 million segments": lambda: jpeg(segment(0xFE, b"") * (BODY // 4 - 500)),
    "JPEG with 30 MB of junk": lambda: jpeg(segment(0xFE, b"") + bytes(BODY - 2_000)),
    "JPEG with 30 MB of fill bytes": lambda: jpeg(b"\xff" * (BODY - 2_000)),
    "JPEG with an EXIF bomb": lambda: jpeg(
        segment(0xE1, b"Exif\0\0" + tiff(OVERLAPPING_TAGS, bytes(50_000)))
    ),
    "JPEG with EXIF of 30 MB": lambda: jpeg(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 460),
    "JPEG with an MPF bomb": lambda: jpeg(segment(0xE2, b"MPF\0" + tiff(OVERLAPPING_TAGS, bytes(50_000)))),
    "JPEG with 2 million Photoshop records": lambda: jpeg(
        segment(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5_400) * 450
    ),
    "JPEG with thousands of scans": lambda: progressive(7_000, BODY),
    "TIFF with 10,000 pages": lambda: tiff_of_pages(10_000),
    "TIFF with 1.6 million pages": lambda: tiff_of_pages(BODY // 18),
    "TIFF with overlapping directories": overlapping_pages,
    "TIFF with overlapping tags": lambda: tiff(OVERLAPPING_TAGS, bytes(60_000)),
    "TIFF of 100,000 x 100,000": lambda: tiff(plain_tiff(100_000, 100_000, t259=8), zeros()),
    "TIFF with strips of 4 GB": lambda: tiff(plain_tiff(7_000, 7_000, t279=2**32 - 1), bytes(1000)),
    "TIFF with 7 million strips": lambda: tiff(
        [entry for entry in plain_tiff(7_000, 7_000) if entry[0] not in (273, 279)]
        + [(273, 4, 7_000_000, 200), (279, 4, 7_000_000, 200)],
        bytes(BODY - 1_000),
    ),
    "TIFF with tiles of 900 million pixels": lambda: tiff(
        plain_tiff(100, 100, t322=30_000, t323=30_000, t324=8, t325=64), bytes(200)
    ),
    "TIFF whose bands inflate": inflating_bands,
    "TIFF whose EXIF directory is large": lambda: exif_in_tiff(),
    "WebP of 16,384 x 16,384": large_webp,
    "WebP without loss of 16,384 x 16,384": lambda: webp(b"VP8L", b"\x2f" + b"\xff" * 4 + bytes(100)),
    "WebP with 1,000 frames": lambda: frames("WEBP", 1_000),
    "GIF with 1,000 frames": lambda: frames("GIF", 1_000),
    "PNG with 300 frames": lambda: frames("PNG", 300),
    "BMP of 2^31 x 2^31": lambda: bmp(2**31 - 1, -(2**31) + 1),
    "BMP of 7,000 x 7,000 without pixels": lambda: bmp(7_000, 7_000),
    "BMP of 7,000 x 7,000 in runs": lambda: bmp(7_000, 7_000, 2, b"\xff\x11" * 200_000),
    "SVG with entities": lambda: ENTITIES + b"]><svg>&j;</svg>",
    "HTML": lambda: b"<!doctype html><html>" + b"<b>" * 1_000_000,
    "nothing": lambda: b"",
    "ZIP in ZIP": lambda: b"PK\x03\x04" + zeros(),
    "GZIP": lambda: b"\x1f\x8b\x08" + zeros(),
    "noise": lambda: b"BM" + np.random.default_rng(0).bytes(1_000_000),
}
# Files that are within the limits, beside them for comparison.
LARGEST: dict[str, Callable[[], bytes]] = {
    "PNG of 7,000 x 7,000": lambda: png(7_000, 7_000),
    "PNG with pixels of 225 MB behind 8 x 8": lambda: png(8, 8, pixels=zeros()),
    "JPEG of 7,000 x 7,000 with the pixels of 64 x 64": lambda: sized_jpeg(7_000, 7_000),
    "progressive JPEG of 7,000 x 7,000": lambda: saved(
        Image.new("RGB", (7_000, 7_000)), "JPEG", progressive=True
    ),
}


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def decoded(path: Path) -> dict[str, object]:
    """What came of a file: status and message of the problem, or the shape; seconds and megabytes needed."""
    from resource import RUSAGE_SELF, getrusage

    from paddlex_seg.serving.images import decode_image
    from paddlex_seg.serving.problems import RequestProblem

    data = path.read_bytes()
    before, start = resident_mb(), time.perf_counter()
    try:
        outcome: dict[str, object] = {"shape": decode_image(data, max_pixels=MAX_PIXELS, bands=None).shape}
    except RequestProblem as problem:
        outcome = {"status": problem.status, "message": problem.message}
    outcome["seconds"] = round(time.perf_counter() - start, 3)
    outcome["growth_mb"] = round(getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before, 1)
    return outcome


def main() -> None:
    """Print a line of JSON per file of the folder ``argv[1]``."""
    import tifffile  # noqa: F401 - loaded before, as in a service that has run for a while

    import paddlex_seg.serving.images  # noqa: F401

    for path in sorted(Path(sys.argv[1]).iterdir()):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print(json.dumps({"file": path.name, **decoded(path)}), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"file": path.name, "crash": status}), flush=True)


if __name__ == "__main__":
    main()
