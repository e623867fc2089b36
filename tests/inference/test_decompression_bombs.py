"""Small files that claim or unpack to a lot are errors in their places, and take little memory."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import tifffile
from PIL import Image

UNPACKED = 300_000_000  # bytes of what small files unpack to
SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from paddlex_seg.files.download import Network
from paddlex_seg.inference.sources import LoadedImage, read_inputs

network = Network(cache_dir=Path("unused"), proxies={})
Image.init()
list(read_inputs(np.zeros((4, 4, 3), np.uint8), network=network))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for item in read_inputs(sys.argv[1], network=network):
    told = "image" if isinstance(item, LoadedImage) else item.problem.splitlines()[0]
    print(Path(item.input_path).name, item.page_index, told, sep="|")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def png(
    width: int, height: int, depth: int, colours: int, pixels: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def saved(size: tuple[int, int], format: str) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format)
    return bytearray(buffer.getvalue())


def write_bombs(folder: Path) -> None:
    many = zlib.compress(bytes(UNPACKED), 9)
    small = zlib.compress(bytes(64 * 193))
    jpeg, gif = saved((64, 64), "JPEG"), saved((64, 64), "GIF")
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = b"BM" + struct.pack("<IHHI", 154, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    tga = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65000, 65000, 24, 0)
    files = {
        # 196 million pixels of one bit: 25 kB that become 588 MB of RGB
        "bits.png": png(14000, 14000, 1, 0, zlib.compress(bytes(14000 * 1751), 9)),
        "pixels.png": png(64, 64, 8, 2, many),
        "text.png": png(64, 64, 8, 2, small, (b"zTXt", b"Comment\0\0" + many)),
        "profile.png": png(64, 64, 8, 2, small, (b"iCCP", b"p\0\0" + many)),
        "words.png": png(64, 64, 8, 2, small, (b"iTXt", b"Comment\0\1\0\0\0" + many)),
        "plain.ppm": b"P6 60000 60000 255\n" + bytes(100),
        "windows.bmp": bmp + bytes(100),
        "old.tga": tga + bytes(100),
        "new.qoi": b"qoif" + struct.pack(">IIBB", 60000, 60000, 3, 0) + bytes(100),
        "photo.jpg": bytes(jpeg),
        "screen.gif": bytes(gif),
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
        "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "nothing.png": b"",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with tifffile.TiffWriter(folder / "pages.tif") as file:
        for side in (8, 14000, 8):
            rows = (bytes(side) for _ in range(side))
            file.write(rows, shape=(side, side), dtype="u1", rowsperstrip=1, compression=None, metadata=None)


def test_bombs_are_refused_and_take_little_memory(tmp_path: Path) -> None:
    write_bombs(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    *lines, growth = ended.stdout.splitlines()
    told = {(name, page): text for name, page, text in (line.split("|", 2) for line in lines)}
    pages = [told.pop(("pages.tif", str(page))) for page in range(3)]
    assert pages[0] == pages[2] == "image" and "196,000,000 pixels" in pages[1]
    assert told.pop(("pixels.png", "None")) == "image"  # decoding ends when all pixels are there
    assert {page for _, page in told} == {"None"} and "image" not in told.values()
    by_name = {name: text for (name, _), text in told.items()}
    assert set(by_name) == {path.name for path in tmp_path.iterdir()} - {"pages.tif", "pixels.png"}
    for name in ("bits.png", "plain.ppm", "windows.bmp", "old.tga", "new.qoi", "photo.jpg", "screen.gif"):
        assert "pixels, the limit is 178,956,970" in by_name[name]
    assert "PostScript" in by_name["script.png"] and "SVG" in by_name["drawing.png"]
    assert "empty" in by_name["nothing.png"]
    assert int(growth) <= 200  # MB
