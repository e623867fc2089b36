"""Images with more than 8 bits or 3 bands: the right pixels of every layout of a file, in every use."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from json import dumps, loads
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.bands import bands_from_json
from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import image_size, limit_pixels, load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands

TRUE_COLOUR = Bands(4, 3, 2, range=((0, 3000),) * 3)
H, W = 20, 30


def values(num_bands: int, dtype: type = np.uint16, high: float = 4000) -> NDArray[Any]:
    """Random values of [H, W, num_bands]."""
    return (np.random.default_rng(num_bands).random((H, W, num_bands)) * high).astype(dtype)


def expected(stored: NDArray[Any], bands: Bands = TRUE_COLOUR) -> NDArray[np.uint8]:
    """What fixed ranges mean, computed in the plainest way."""
    assert bands.range is not None
    channels = [
        np.clip((stored[..., number - 1].astype(np.float64) - low) * 255 / (high - low), 0, 255)
        for number, (low, high) in zip(bands.numbers, bands.range, strict=True)
    ]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)


def write_tiff(path: Path, stored: NDArray[Any], layout: str = "chunky", **options: Any) -> None:
    """A TIFF of [H, W, C] values; ``layout``: chunky, planar or pages."""
    options = {"photometric": "minisblack", **options}
    planes = np.moveaxis(stored, 2, 0)
    if stored.shape[2] == 1:
        tifffile.imwrite(path, stored[..., 0], **options)
    elif layout == "chunky":
        tifffile.imwrite(path, stored, planarconfig="contig", **options)
    elif layout == "planar":
        tifffile.imwrite(path, planes, planarconfig="separate", **options)
    else:
        tifffile.imwrite(path, planes, **options)


WAYS: dict[str, dict[str, Any]] = {
    "chunky": {},
    "planar": {"layout": "planar"},
    "pages": {"layout": "pages"},
    "imagej": {"layout": "pages", "imagej": True},
    "big_endian": {"byteorder": ">"},
    "planar_big_endian": {"layout": "planar", "byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "deflate_with_predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 16), "compression": "zlib"},
    "planar_tiles": {"layout": "planar", "tile": (16, 16)},
    "many_strips": {"rowsperstrip": 3},
}


TYPES = (np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64)
# ImageJ has three types only. The predictor of floats is read with the extra `rasters` only.
TYPES_OF_WAY = {"imagej": (np.uint8, np.uint16, np.float32), "deflate_with_predictor": TYPES[:4]}


@pytest.mark.parametrize(
    ("way", "dtype"), [(way, dtype) for way in WAYS for dtype in TYPES_OF_WAY.get(way, TYPES)]
)
def test_every_layout_and_type_of_a_tiff_gives_the_same_pixels(tmp_path: Path, way: str, dtype: type) -> None:
    bands = TRUE_COLOUR if dtype != np.uint8 else replace(TRUE_COLOUR, range=((10, 200),) * 3)
    stored = values(6, dtype, high=255 if dtype == np.uint8 else 4000)
    write_tiff(tmp_path / "a.tif", stored, **WAYS[way])
    image = load_image(tmp_path / "a.tif", (H, W), bands=bands)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - expected(stored, bands)).max() <= (dtype == np.float32)
    for decode in ("header", "thumbnail", "full"):
        facts = inspect_image(tmp_path / "a.tif", decode, bands)
        assert (facts.problem, facts.traits, facts.shown_hw) == (None, (), (H, W))


@pytest.mark.parametrize("num_bands", [1, 3, 4])
@pytest.mark.parametrize("ending", ["png", "tif", "lzw"])
def test_16_bits_of_usual_files_are_kept(tmp_path: Path, ending: str, num_bands: int) -> None:
    stored = values(num_bands)
    path = tmp_path / ("a.png" if ending == "png" else "a.tif")
    order = [0] if num_bands == 1 else [2, 1, 0, 3][:num_bands]  # OpenCV writes BGR
    compression = [] if ending == "png" else [cv2.IMWRITE_TIFF_COMPRESSION, 5 if ending == "lzw" else 1]
    assert cv2.imwrite(str(path), stored[..., order], compression)
    bands = Bands(num_bands, 1, min(num_bands, 2), range=((100, 3000), (0, 2000), (50, 4000)))
    assert (load_image(path, bands=bands) == expected(stored, bands)).all()


def test_pages_with_lzw_are_bands(tmp_path: Path) -> None:
    stored = values(5)
    pages = [Image.fromarray(np.ascontiguousarray(stored[..., band])) for band in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert (load_image(tmp_path / "a.tif", bands=TRUE_COLOUR) == expected(stored)).all()


@pytest.mark.parametrize(
    ("mode", "num_bands"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("P", 3), ("CMYK", 3), ("1", 1)]
)
def test_the_setting_holds_for_8_bits_too(tmp_path: Path, mode: str, num_bands: int) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    noise = Image.fromarray(values(3, np.uint8, 255))
    noise.convert(mode).save(path)
    bands = Bands(num_bands, 1, 1, range=((50, 150),) * 3)
    with Image.open(path) as image:
        stored = np.asarray(image.convert({"P": "RGB", "CMYK": "RGB", "1": "L"}.get(mode, mode)))
    assert (load_image(path, bands=bands) == expected(stored.reshape(H, W, -1), bands)).all()
    assert (
        inspect_image(path, "thumbnail", replace(bands, red=num_bands + 1)).problem == "image_bands_missing"
    )


def test_percentiles_are_measured_in_each_band_without_nodata(tmp_path: Path) -> None:
    stored = np.zeros((H, W, 3), np.uint16)  # 0 is nodata
    stored[5:15, 5:25, 0] = np.arange(1000, 1200).reshape(10, 20)
    stored[5:15, 5:25, 1] = np.arange(200)[::-1].reshape(10, 20) * 50 + 1
    stored[..., 2] = 700
    write_tiff(tmp_path / "a.tif", stored)
    bands = Bands(1, 2, 3, stretch=(10, 90), nodata=0)
    image = load_image(tmp_path / "a.tif", bands=bands)
    inside = image[5:15, 5:25, 0].reshape(-1).astype(int)
    assert (image[:5][..., :2] == 0).all()
    assert ((inside == 0).sum(), (inside == 255).sum()) == (21, 21)  # 20, and one that is rounded
    assert (np.diff(inside) >= 0).all()
    assert (image[..., 1][5:15, 5:25].reshape(-1)[::-1] == inside).all()  # another unit, the same picture
    assert (image[..., 2] == 0).all()  # constant


def test_bright_spots_on_an_empty_background_are_seen(tmp_path: Path) -> None:
    stored = np.full((H, W, 1), 120, np.uint16)
    stored[3, 4], stored[7, 8] = 4095, 2000  # 12 bits
    write_tiff(tmp_path / "a.tif", stored[..., [0]])
    image = load_image(tmp_path / "a.tif", bands=Bands(1, 1, 1, stretch=(2, 98)))
    assert (image[3, 4].tolist(), image[0, 0].tolist()) == ([255] * 3, [0] * 3)
    assert 115 < image[7, 8, 0] < 125


@pytest.mark.parametrize("stretch", [(0, 100), (2, 98), (0.37, 51.3), (49.9, 50.1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_percentiles_are_those_of_numpy(tmp_path: Path, dtype: type, stretch: tuple[float, float]) -> None:
    stored = values(1, dtype, 250)
    write_tiff(tmp_path / "a.tif", stored)
    low, high = np.percentile(stored.astype(np.float64), stretch)
    fixed = Bands(1, 1, 1, range=((low, high),) * 3)
    image = load_image(tmp_path / "a.tif", bands=Bands(1, 1, 1, stretch=stretch))
    assert (image == load_image(tmp_path / "a.tif", bands=fixed)).all()
    assert image.min() == 0 and image.max() == 255


@pytest.mark.parametrize("bands", [TRUE_COLOUR, Bands(4, 3, 2, stretch=(2, 98))])
@pytest.mark.parametrize("hole", [np.nan, np.inf, -9999.0, -3.4028234663852886e38])
def test_pixels_without_data_are_black(tmp_path: Path, bands: Bands, hole: float) -> None:
    stored = values(4, np.float32)
    stored[2:8, 3:9] = hole
    write_tiff(tmp_path / "a.tif", stored)
    setting = replace(bands, nodata=hole) if np.isfinite(hole) else bands
    image = load_image(tmp_path / "a.tif", bands=setting)
    assert (image[2:8, 3:9] == 0).all()
    whole = values(4, np.float32)
    whole[2:8, 3:9] = np.nan
    write_tiff(tmp_path / "b.tif", whole)
    assert (image == load_image(tmp_path / "b.tif", bands=bands)).all()
    stored[:] = hole
    write_tiff(tmp_path / "a.tif", stored)
    assert (load_image(tmp_path / "a.tif", bands=setting) == 0).all()


def test_the_nodata_of_a_geotiff_is_used_unless_the_setting_has_one(tmp_path: Path) -> None:
    stored = values(4) + 1
    stored[:5], stored[5:8] = 65535, 60000
    write_tiff(tmp_path / "a.tif", stored, extratags=[(42113, "s", 0, "65535", True)])
    image = load_image(tmp_path / "a.tif", bands=TRUE_COLOUR)
    assert (image[:5] == 0).all() and (image[5:8] == 255).all()
    image = load_image(tmp_path / "a.tif", bands=replace(TRUE_COLOUR, nodata=60000))
    assert (image[:5] == 255).all() and (image[5:8] == 0).all()


def test_previews_and_masks_in_a_tiff_are_no_bands(tmp_path: Path) -> None:
    stored = values(1)[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(stored, photometric="minisblack")
        file.write(stored[::2, ::2], photometric="minisblack", subfiletype=1)
        file.write(stored, photometric="minisblack", subfiletype=1)
    facts = inspect_image(tmp_path / "a.tif", "header", Bands(1, 1, 2, stretch=(2, 98)))
    assert facts.problem == "image_bands_missing"
    assert facts.message == "a.tif: the image has 1 band, but blue is band 2 in Global.bands or bands.yaml"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_with_bands_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = values(5)
    write_tiff(tmp_path / "a.tif", stored, extratags=[(274, "H", 1, orientation, True)])
    plain = expected(stored)
    turned = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.swapaxes(0, 1),
        6: np.rot90(plain, -1),
        7: plain.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(plain),
    }[orientation]
    assert (load_image(tmp_path / "a.tif", bands=TRUE_COLOUR) == turned).all()
    assert (load_image(tmp_path / "a.tif", turned.shape[:2], bands=TRUE_COLOUR) == turned).all()
    assert image_size(tmp_path / "a.tif").shown_hw == turned.shape[:2]
    if orientation >= 5:  # annotated on the stored pixels
        assert (load_image(tmp_path / "a.tif", (H, W), bands=TRUE_COLOUR) == plain).all()
    with pytest.raises(DatasetError, match="the annotation file says"):
        load_image(tmp_path / "a.tif", (H, W + 1), bands=TRUE_COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("num_bands", [1, 3])
def test_a_tiff_of_8_bits_is_turned_once(tmp_path: Path, num_bands: int, orientation: int) -> None:
    stored, path = values(num_bands, np.uint8, 255), tmp_path / "a.tif"
    photometric = "rgb" if num_bands == 3 else "minisblack"
    write_tiff(path, stored, photometric=photometric, extratags=[(274, "H", 1, orientation, True)])
    bands = Bands(1, min(2, num_bands), num_bands, range=((0, 255),) * 3)
    image = load_image(path)
    assert (image == load_image(path, bands=bands)).all()
    assert image.shape[:2] == ((W, H) if orientation >= 5 else (H, W)) == image_size(path).shown_hw
    assert (load_image(path, image.shape[:2]) == image).all()


def test_the_limit_of_pixels_holds_for_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiff(tmp_path / "a.tif", values(5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back after the test
    limit_pixels(H * W - 1)
    for bands in (TRUE_COLOUR, None):
        facts = inspect_image(tmp_path / "a.tif", "header", bands)
        assert (facts.problem, "600 pixels" in facts.message) == ("image_unsupported", True)
        with pytest.raises(DatasetError, match="max_image_pixels"):
            load_image(tmp_path / "a.tif", bands=bands)


@pytest.mark.parametrize("damage", ["half", "head", "ifd", "pixels"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_damaged_tiff_with_bands_is_a_finding(
    tmp_path: Path, compression: str | None, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, values(5), compression=compression, rowsperstrip=4)
    content = bytearray(path.read_bytes())
    if damage == "half":
        content = content[: len(content) // 2]
    elif damage == "head":
        content = content[:60]
    elif damage == "ifd":
        content[8:200] = bytes(192)
    else:
        content[-300:-200] = b"\xff" * 100
    path.write_bytes(content)
    for bands in (TRUE_COLOUR, None):
        facts = inspect_image(path, "full", bands)
        if damage == "pixels" and compression is None:
            assert facts.problem is None  # nothing in the file tells
        else:
            assert facts.problem in ("image_corrupt", "image_truncated")
            with pytest.raises(DatasetError, match="a.tif"):
                load_image(path, bands=bands)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_without_a_setting_the_first_three_bands_are_used_and_the_check_says_so(tmp_path: Path) -> None:
    for num_bands, dtype in ((8, np.uint16), (12, np.uint8), (5, np.uint16), (2, np.uint16)):
        stored = values(num_bands, dtype, 255)
        write_tiff(tmp_path / "a.tif", stored, layout="planar")
        first = [0, 1, 2] if num_bands > 2 else [0, 0, 0]
        scaled = stored[..., first] if dtype == np.uint8 else np.rint(stored[..., first] / 257)
        assert (load_image(tmp_path / "a.tif") == scaled).all()
        facts = inspect_image(tmp_path / "a.tif", "thumbnail")
        assert (facts.problem, facts.num_bands, facts.shown_hw) == (None, num_bands, (H, W))
        assert facts.traits == (("image_16bit",) if dtype == np.uint16 else ()) + ("image_bands_dropped",)
        if dtype == np.uint16:
            assert facts.values == (stored[..., first].min(), stored[..., first].max())


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_planar_16_bit_colours_have_the_right_pixels_without_a_setting(
    tmp_path: Path, byteorder: str
) -> None:
    stored = values(3, high=60000)
    write_tiff(tmp_path / "a.tif", stored, layout="planar", photometric="rgb", byteorder=byteorder)
    assert (load_image(tmp_path / "a.tif") == np.rint(stored / 257)).all()
    assert inspect_image(tmp_path / "a.tif", "header").traits == ("image_16bit",)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_tiff(path, values(1, np.float32)),
        lambda path: write_tiff(path, values(4, np.float32)),
        lambda path: write_tiff(path, values(1, np.float64)),
        lambda path: write_tiff(path, values(3, np.float16)),
        lambda path: write_tiff(path, values(5, np.int16) - 100),
        lambda path: write_tiff(path, values(5, np.complex64)),
    ],
)
def test_pixels_that_need_a_setting_are_unsupported_without_one(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "a.tif")
    facts = inspect_image(tmp_path / "a.tif", "full")
    assert facts.problem == "image_unsupported" and "Global.bands" in facts.message
    with pytest.raises(DatasetError, match="Global.bands"):
        load_image(tmp_path / "a.tif")


def test_a_compression_without_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiff(tmp_path / "a.tif", values(5), compression="zlib")
    error = ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr(tifffile.TiffPage, "asarray", fail)
    facts = inspect_image(tmp_path / "a.tif", "full", TRUE_COLOUR)
    assert facts.problem == "image_unsupported"
    with pytest.raises(DatasetError, match=r"pip install paddlex_seg\[rasters\]"):
        load_image(tmp_path / "a.tif", bands=TRUE_COLOUR)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpeg"])
def test_other_compressions_are_read_with_the_extra(tmp_path: Path, compression: str) -> None:
    pytest.importorskip("imagecodecs", reason="the extra rasters is not installed")
    dtype = np.uint8 if compression == "jpeg" else np.uint16
    bands = replace(TRUE_COLOUR, range=((0, 255),) * 3) if compression == "jpeg" else TRUE_COLOUR
    stored = np.full((H, W, 5), 90, dtype) if compression == "jpeg" else values(5)
    write_tiff(tmp_path / "a.tif", stored, layout="planar", compression=compression)
    image = load_image(tmp_path / "a.tif", bands=bands)
    assert np.abs(image.astype(int) - expected(stored, bands)).max() <= 2 * (compression == "jpeg")


@pytest.mark.parametrize(
    "bands",
    [TRUE_COLOUR, Bands(1, 1, 1, stretch=(0.5, 99.5), nodata=-9999.0), replace(TRUE_COLOUR, nodata=0.0)],
)
def test_a_setting_survives_json(bands: Bands) -> None:
    assert bands_from_json(loads(dumps(asdict(bands)))) == bands


@pytest.mark.parametrize(
    "changes",
    [
        {"red": 0},
        {"range": None},
        {"stretch": (2, 98)},
        {"range": ((0, 0),) * 3},
        {"range": ((0, 1), (0, 1))},
        {"range": None, "stretch": (98, 2)},
        {"range": None, "stretch": (2, 101)},
        {"range": ((0, float("nan")),) * 3},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected|counted"):
        replace(TRUE_COLOUR, **changes)
