"""Images in requests are those that the toolkit reads from files; everything else has its reason."""

import base64
import io
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from paddlex_seg.data.images import load_image
from paddlex_seg.serving import images
from paddlex_seg.serving.images import decode_base64, decode_image
from paddlex_seg.serving.problems import RequestProblem
from paddlex_seg.structures import Bands

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (13, 20, 3), np.uint8)
SMOOTH = cv2.resize(NOISE[:4, :5], (200, 130))
MOST = 1_000_000


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(SMOOTH), kind, exif=exif)


def tiff(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def with_preview() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(NOISE, photometric="rgb")
        writer.write(NOISE[::2, ::2], photometric="rgb", subfiletype=1)
    return file.getvalue()


PALETTE = Image.fromarray(NOISE).quantize(7)
DEEP = RNG.integers(0, 65536, (13, 20), np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (13, 20, 3), np.uint16)
FILES: dict[str, bytes] = {
    **{kind: saved(Image.fromarray(SMOOTH), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")},
    "gray JPEG": saved(Image.fromarray(SMOOTH).convert("L"), "JPEG"),
    "CMYK JPEG": saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "progressive JPEG": saved(Image.fromarray(SMOOTH), "JPEG", progressive=True),
    "JPEG of a phone with a preview": saved(
        Image.fromarray(SMOOTH), "MPO", save_all=True, append_images=[Image.fromarray(NOISE)]
    ),
    "gray PNG": saved(Image.fromarray(NOISE[..., 0]), "PNG"),
    "PNG of one bit": saved(Image.fromarray(NOISE[..., 0]).convert("1"), "PNG"),
    "PNG with alpha": saved(Image.fromarray(np.dstack([NOISE, NOISE[..., :1]])), "PNG"),
    "gray PNG with alpha": saved(Image.fromarray(NOISE).convert("LA"), "PNG"),
    "PNG with a palette": saved(PALETTE, "PNG"),
    "PNG with a transparent palette": saved(PALETTE, "PNG", transparency=bytes(range(0, 210, 30))),
    "gray PNG of 16 bits": saved(Image.fromarray(DEEP), "PNG"),
    "PNG of 16 bits": cv2.imencode(".png", DEEP_RGB)[1].tobytes(),
    "WebP without loss": saved(Image.fromarray(NOISE), "WEBP", lossless=True),
    "WebP with alpha": saved(Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., :1]])), "WEBP"),
    "BMP with a palette": saved(PALETTE, "BMP"),
    "TIFF in CMYK": saved(Image.fromarray(SMOOTH).convert("CMYK"), "TIFF"),
    "TIFF with LZW": saved(Image.fromarray(SMOOTH), "TIFF", compression="tiff_lzw"),
    "TIFF of JPEG": saved(Image.fromarray(SMOOTH), "TIFF", compression="jpeg"),
    "TIFF of 16 bits": tiff(DEEP),
    "planar TIFF of 16 bits": tiff(np.moveaxis(DEEP_RGB, 2, 0), photometric="rgb", planarconfig="separate"),
    "TIFF with five bands": tiff(
        np.dstack([NOISE, NOISE[..., :2]]), photometric="minisblack", planarconfig="contig"
    ),
    "tiled TIFF with Deflate": tiff(
        np.dstack([DEEP_RGB, DEEP_RGB[..., :2]]),
        photometric="minisblack",
        planarconfig="contig",
        compression="zlib",
        tile=(16, 16),
    ),
    "BigTIFF": tiff(NOISE, bigtiff=True, photometric="rgb"),
    "TIFF in the other byte order": tiff(DEEP, byteorder=">"),
    "TIFF with a preview": with_preview(),
    **{f"JPEG turned {number}": turned("JPEG", number) for number in range(1, 9)},
    "PNG turned 6": turned("PNG", 6),
    "WebP turned 5": turned("WEBP", 5),
    "TIFF turned 8": turned("TIFF", 8),
}


def as_file(data: bytes, folder: Path, bands: Bands | None = None) -> np.ndarray:
    path = folder / "image"
    path.write_bytes(data)
    return load_image(path, bands=bands)


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    found = decode_image(FILES[name], max_pixels=MOST, bands=None)
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, as_file(FILES[name], tmp_path))


BANDS = Bands(red=3, green=1, blue=2, stretch=(2, 98))
PAGES = tiff(RNG.integers(0, 4000, (4, 13, 20), np.uint16), photometric="minisblack")


@pytest.mark.parametrize(
    "data",
    [
        FILES["TIFF with five bands"],
        FILES["tiled TIFF with Deflate"],
        FILES["PNG of 16 bits"],
        FILES["JPEG"],
        PAGES,
    ],
    ids=["five bands", "deflate", "png", "jpeg", "pages"],
)
def test_bands_of_the_model_are_chosen(data: bytes, tmp_path: Path) -> None:
    found = decode_image(data, max_pixels=MOST, bands=BANDS)
    np.testing.assert_array_equal(found, as_file(data, tmp_path, BANDS))


def problem(data: bytes, bands: Bands | None = None, max_pixels: int = MOST) -> RequestProblem:
    with pytest.raises(RequestProblem) as caught:
        decode_image(data, max_pixels=max_pixels, bands=bands)
    message = caught.value.message
    assert not re.search(rf"{re.escape(tempfile.gettempdir())}|0x[0-9a-f]|\n|PIL image", message), message
    assert len(message) < 600
    return caught.value


def frames(kind: str) -> bytes:
    return saved(
        Image.fromarray(NOISE), kind, save_all=True, append_images=[Image.fromarray(NOISE[::-1])], duration=50
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "unknown kind, it begins with b'hello'"),
        (b"<!doctype html><html></html>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.7 ", "a PDF"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (b'{"image": "..."}', "a JSON text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (saved(Image.fromarray(NOISE), "GIF"), "a GIF image"),
        (saved(Image.fromarray(NOISE), "PPM"), "unknown kind"),
        (saved(Image.fromarray(NOISE), "JPEG2000"), "unknown kind"),
        (frames("WEBP"), "an animation"),
        (frames("PNG"), "an animation"),
        (frames("GIF"), "a GIF image"),
        (PAGES, "4 pages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_single_image_is_refused(data: bytes, words: str) -> None:
    found = problem(data)
    assert found.status == 415 and words in found.message


@pytest.mark.parametrize(
    ("data", "bands", "words"),
    [
        (tiff(np.zeros((5, 5), np.float32)), None, "floating-point pixels"),
        (tiff(np.full((5, 5), 70_000, np.uint32)), None, "values outside 0..65,535"),
        (FILES["gray PNG"], BANDS, "has 1 band, but red is band 3"),
        (
            tiff(
                np.zeros((9, 9, 5), np.uint8),
                photometric="minisblack",
                planarconfig="contig",
                compression="lzma",
            ),
            None,
            "LZMA",
        ),
    ],
    ids=["float", "large values", "missing band", "lzma"],
)
def test_pixels_that_the_model_cannot_use_are_refused(data: bytes, bands: Bands | None, words: str) -> None:
    found = problem(data, bands)
    assert found.status == 422 and words in found.message


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "TIFF with five bands"])
@pytest.mark.parametrize("bands", [None, BANDS], ids=["plain", "bands"])
def test_the_limit_of_pixels_is_exact(name: str, bands: Bands | None) -> None:
    num_pixels = 13 * 20 if "five" in name else 130 * 200
    decode_image(FILES[name], max_pixels=num_pixels, bands=bands)
    found = problem(FILES[name], bands, max_pixels=num_pixels - 1)
    assert found.status == 413 and f"{num_pixels:,} pixels" in found.message


def test_a_limit_of_the_whole_process_is_the_same_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name in ("JPEG", "TIFF"):
        found = problem(FILES[name])
        assert found.status == 413 and "it has 26,000 pixels; the limit is 2,000." in found.message


def test_a_very_long_side_is_refused() -> None:
    assert problem(saved(Image.new("L", (30_001, 1)), "PNG")).status == 413
    assert decode_image(saved(Image.new("L", (30_000, 1)), "PNG"), max_pixels=MOST, bands=None).shape == (
        1,
        30_000,
        3,
    )


@pytest.mark.parametrize(
    "name", ["JPEG", "progressive JPEG", "PNG", "WEBP", "BMP", "TIFF", "TIFF with five bands"]
)
def test_a_file_that_ends_too_early_is_an_error_or_has_all_pixels(name: str, tmp_path: Path) -> None:
    data = FILES[name]
    refused = 0
    for end in np.linspace(0, len(data) - 1, 64).astype(int):
        try:
            found = decode_image(data[:end], max_pixels=MOST, bands=None)
        except RequestProblem as error:
            assert error.status in (400, 415, 422), (end, error)
            assert tempfile.gettempdir() not in error.message and "0x" not in error.message
            refused += 1
        else:
            np.testing.assert_array_equal(found, as_file(data[:end], tmp_path))
    assert refused >= 60


def test_a_damaged_image_says_so() -> None:
    found = problem(FILES["PNG"][:-200])
    assert found.status == 400 and "the PNG image is damaged or cut off" in found.message


def test_a_full_disk_is_no_mistake_of_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    found = problem(FILES["TIFF"])
    assert found.status == 503 and found.retry_after


# Base64

CODED = base64.b64encode(FILES["PNG"]).decode()


@pytest.mark.parametrize(
    "text",
    [
        CODED,
        f"data:image/png;base64,{CODED}",
        f"data:;base64,{CODED}",
        f"DATA:image/png;name=a.png;BASE64,{CODED}",
        "\n".join(re.findall(".{1,76}", CODED)),
        f" \r\n{CODED}\t\n",
        base64.urlsafe_b64encode(FILES["PNG"]).decode(),
    ],
    ids=["plain", "data", "no type", "upper case", "lines", "spaces", "for URLs"],
)
def test_base64_is_decoded(text: str) -> None:
    assert decode_base64(text) == FILES["PNG"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("data:image/png;base64,", "it is empty"),
        ("data:image/png,abcd", "not in base64"),
        ("data:image/svg+xml;utf8,<svg/>", "not in base64"),
        ("/home/me/image.jpg", "character 15 is '.'"),
        ("QUJD*UJD", "character 5 is '*'"),
        ("QUJDé", "character 5 is 'é'"),
        ("\ud800", "character 1"),
        ("QUJ", "padding"),
        ("Q", "padding"),
        ("QQ==QQ==", "padding"),
        ("QUJD====", "padding"),
        ("QUJD=", "padding"),
        ("QUJD==", "padding"),
        ("=QUJD", "padding"),
        ("data:image/png;base64", "character 5 is ':'"),
    ],
)
def test_what_is_not_base64_is_an_error(text: str, words: str) -> None:
    with pytest.raises(RequestProblem) as caught:
        decode_base64(text)
    assert caught.value.status == 400 and words in caught.value.message


# Files with more parts than are useful


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def tags(entries: list[tuple[int, int, int, int]], next_offset: int = 0) -> bytes:
    """A TIFF of one directory of (tag, type, count, value or offset)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", next_offset)


def in_jpeg(*segments: bytes) -> bytes:
    return FILES["JPEG"][:2] + b"".join(segments) + FILES["JPEG"][2:]


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = saved(Image.new("L", (512, 512)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


OVERLAPPING = tags([(number, 7, 2_000, 0) for number in range(50_000, 50_100)]) + bytes(3000)
NUMBERS = tags([(50_000, 4, 300_000, 122)]) + bytes(1_300_000)
TILED = {254: 0, 256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 322: 30_000, 323: 30_000, 324: 8, 325: 64}
HUGE_TILES = tags([(tag, 4, 1, value) for tag, value in TILED.items()]) + bytes(64)
DEEP_TILES = tags([(32998, 4, 1, 2)])
STRIPS = tags([(256, 4, 1, 8), (257, 4, 1, 8), (279, 4, 3, 50)]) + struct.pack("<3I", 50, 50, 50)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (in_jpeg(*[segment(0xFE, b"")] * 5_000), "too many segments"),
        (in_jpeg(segment(0xFE, b""), bytes(200_000)), "too many segments"),
        (in_jpeg(b"\xff" * 200_000), "too many segments"),
        (in_jpeg(b"\xff\xd0" * 5_000), "too many segments"),
        (
            in_jpeg(*[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\0\0\0\0\0\0\0" * 5_000)]),
            "too much metadata",
        ),
        (in_jpeg(*[segment(0xE1, b"Exif\0\0")] * 100), "too much metadata"),
        (in_jpeg(segment(0xE1, b"Exif\0\0" + OVERLAPPING)), "its EXIF data have"),
        (in_jpeg(segment(0xE2, b"MPF\0" + OVERLAPPING)), "its EXIF data have"),
        (saved(Image.fromarray(NOISE), "PNG", exif=OVERLAPPING), "its EXIF data have"),
        (saved(Image.fromarray(NOISE), "WEBP", exif=b"Exif\0\0" + OVERLAPPING), "its EXIF data have"),
        (many_scans(8_000), "scans"),
        (FILES["PNG"][:33] + png_chunk(b"tEXt", b"a\0b") * 40_000 + FILES["PNG"][33:], "too many chunks"),
        (FILES["PNG"][:-12] + png_chunk(b"tEXt", b"a\0b") * 40_000 + FILES["PNG"][-12:], "too many chunks"),
        (FILES["PNG"][:-12] + png_chunk(b"zTXt", b"a\0\0") * 21 + FILES["PNG"][-12:], "too many texts"),
        (tags([(50_000, 1, 1, 0)] * 1_500), "too many tags"),
        (OVERLAPPING, "tags that are larger than the file"),
        (NUMBERS, "tags that are larger than the file"),
        (HUGE_TILES, "its tiles are too large"),
        (DEEP_TILES, "its tiles are too large"),
        (STRIPS, "its strips or tiles are larger than the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_with_too_many_parts_are_refused_before_they_are_read(
    data: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words != "its EXIF data have" or data.startswith(b"\xff\xd8"):  # others tell them when they are open
        monkeypatch.setattr(images, "_open", None)
    found = problem(data)
    assert found.status == 400 and words in found.message and "another program" in found.message


def test_a_large_image_does_not_allow_larger_tiles() -> None:
    entries = {**TILED, 322: 5_000, 323: 5_000}
    data = tags([(tag, 4, 1, value) for tag, value in entries.items()]) + bytes(64)
    assert "its tiles are too large" in problem(data, max_pixels=50_000_000).message


def test_pages_are_counted_up_to_a_limit() -> None:
    pages = b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(2_000))
    assert "more than 1,100 pages" in problem(b"II*\0" + struct.pack("<I", 8) + pages, BANDS).message


def test_an_offset_beyond_all_memory_ends_the_chain() -> None:
    assert problem(b"II+\0\x08\0\0\0" + b"\xff" * 8).status == 400


def test_a_chain_of_pages_that_comes_back_ends(tmp_path: Path) -> None:
    data = bytearray(FILES["TIFF"])
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    found = decode_image(bytes(data), max_pixels=MOST, bands=None)
    np.testing.assert_array_equal(found, as_file(bytes(data), tmp_path))


def test_a_chunk_larger_than_the_file_is_refused() -> None:
    data = bytearray(FILES["PNG of 16 bits"])
    struct.pack_into(">I", data, 33, 2**31 - 1)
    assert "a chunk is longer than the file" in problem(bytes(data), BANDS).message


def test_overlapping_directories_count_each_time() -> None:
    content = b"II*\0" + struct.pack("<I", 8)
    count = struct.pack("<H", 900)
    body = bytearray(count * 50_000)
    for number in range(500):  # each begins two bytes after the one before
        body[2 * number + 2 + 900 * 12 :][:4] = b""
        struct.pack_into("<I", body, 2 * number + 2 + 900 * 12, 8 + 2 * number + 2)
    found = problem(content + bytes(body))
    assert found.status == 400


@pytest.mark.parametrize(
    "change",
    [
        lambda data: in_jpeg(segment(0xFE, b"x" * 60_000), *[segment(0xE9, b"y" * 100)] * 500),
        lambda data: data + b"\xff\xda" * 100_000,
        lambda data: in_jpeg(b"\xff" * 5_000),
        lambda data: saved(Image.fromarray(SMOOTH), "JPEG", progressive=True) + b"\xff\xda\0\2" * 100_000,
    ],
    ids=["many segments", "appended", "fill bytes", "appended to a progressive one"],
)
def test_unusual_files_that_are_no_burden_are_read(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = change(FILES["JPEG"])
    found = decode_image(data, max_pixels=MOST, bands=None)
    np.testing.assert_array_equal(found, as_file(data, tmp_path))


def test_a_run_length_bmp_may_be_small_only() -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 3_000, 3_000, 1, 8, 1, 0, 0, 0, 0, 0)
    found = problem(b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024), max_pixels=10**8)
    assert found.status == 413 and "run lengths" in found.message


def test_bands_that_fill_the_memory_are_refused() -> None:
    found = problem(
        tiff(np.zeros((50, 50, 17), np.uint8), photometric="minisblack", planarconfig="contig"),
        BANDS,
        max_pixels=2_500,
    )
    assert found.status == 413 and "17 bands of uint8" in found.message


def test_a_strip_that_inflates_beyond_its_size_is_refused() -> None:
    data = bytearray(
        tiff(
            np.zeros((64, 64, 5), np.uint8),
            photometric="minisblack",
            planarconfig="contig",
            compression="zlib",
        )
    )
    coded = zlib.compress(bytes(30_000_000), 9)
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        page = file.pages.first
        offset_tag, count_tag = page.tags[273], page.tags[279]
    struct.pack_into("<I", data, offset_tag.valueoffset, len(data))
    struct.pack_into("<I", data, count_tag.valueoffset, len(coded))
    found = problem(bytes(data) + coded)
    assert found.status == 400 and "more pixels than it should" in found.message
