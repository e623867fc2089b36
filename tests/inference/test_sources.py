"""Loading the images of inputs: files, folders, patterns, URLs, arrays, PIL images, texts, lists."""

import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from written_images import write_image

from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.files.download import Limits, Network
from paddlex_seg.inference import sources
from paddlex_seg.inference.sources import BadInput, LoadedImage, read_inputs

NETWORK = Network(cache_dir=Path("never used"), proxies={})


def save_image(path: Path, colour: tuple[int, int, int] = (200, 0, 0), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), colour).save(path, **options)
    return path


def read(inputs) -> list[LoadedImage | BadInput]:
    return list(read_inputs(inputs, network=NETWORK))


def read_all(inputs) -> list[LoadedImage]:
    """All images. A bad input fails the test."""
    found = read(inputs)
    assert [one.problem for one in found if isinstance(one, BadInput)] == []
    return found


def problem(inputs) -> str:
    """What is wrong with the only input."""
    (found,) = read(inputs)
    assert isinstance(found, BadInput)
    return found.problem


def test_a_file_with_spaces_and_foreign_letters_is_read_as_rgb(tmp_path: Path):
    path = save_image(tmp_path / "été 花 [1].png")
    (image,) = read_all(str(path))
    assert image.image.shape == (16, 24, 3)
    assert image.image[0, 0].tolist() == [200, 0, 0]
    assert (image.input_path, image.page_index, image.save_name) == (str(path), None, "été 花 [1]")


def test_a_folder_is_walked_in_order_and_keeps_its_sub_folders(tmp_path: Path):
    for name in ("b/x.jpg", "a/x.PNG", "c.webp", "a/notes.txt", "a/deep/x.jpeg"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save_image(tmp_path / name)
    assert [image.save_name for image in read_all(tmp_path)] == ["a/deep/x", "a/x", "b/x", "c"]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_folder_is_searched_for_all_kinds_of_images(tmp_path: Path, suffix: str):
    write_image(tmp_path / f"x{suffix.upper()}")
    ((image,), (by_pattern,)) = read_all(tmp_path), read_all(f"{tmp_path}/x*")
    assert image.image.shape == by_pattern.image.shape == (16, 24, 3)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path):
    for name in ("a.png", "._a.png", ".a.new-1-2-00000000.png", ".trash/b.png", "c/.d/e.png"):
        save_image(tmp_path / name)
    assert [image.save_name for image in read_all(tmp_path)] == ["a"]
    hidden = tmp_path / ".trash"
    assert [image.save_name for image in read_all([hidden, hidden / "b.png"])] == ["b", "b_2"]


def test_a_pattern_finds_its_files_in_order(tmp_path: Path):
    for name in ("2.jpg", "1.jpg", "3.png", "sub/4.jpg"):
        save_image(tmp_path / name)
    assert [p.save_name for p in read_all(f"{tmp_path}/*.jpg")] == ["1", "2"]
    assert [p.save_name for p in read_all(f"{tmp_path}/**/*.jpg")] == ["1", "2", "sub/4"]
    assert [p.save_name for p in read_all(f"{tmp_path}/s*/4.jpg")] == ["sub/4"]


def test_equal_names_get_numbers_also_where_letters_differ_in_case_only(tmp_path: Path):
    files = [save_image(tmp_path / name) for name in ("p/a.jpg", "q/a.jpg", "q/A.png", "q/a_2.jpg")]
    names = [image.save_name for image in read_all(files)]
    assert names == ["a", "a_2", "A_3", "a_2_2"]


def test_each_page_of_a_tiff_is_an_image(tmp_path: Path):
    pages = [Image.new("RGB", (24, 16), (40 * i, 0, 255)) for i in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    save_image(tmp_path / "scan_1.png")
    found = read_all([tmp_path / "scan.tif", tmp_path / "scan_1.png"])
    assert [image.page_index for image in found] == [0, 1, 2, None]
    assert [image.save_name for image in found] == ["scan_0", "scan_1", "scan_2", "scan_1_2"]
    assert [image.image[3, 3].tolist() for image in found[:3]] == [
        [0, 0, 255],
        [40, 0, 255],
        [80, 0, 255],
    ]


def test_pages_of_16_bit_gray_are_scaled_as_single_images_are(tmp_path: Path):
    page = Image.fromarray(np.full((8, 8), 257 * 99, np.uint16))
    page.save(tmp_path / "deep.tif", save_all=True, append_images=[page])
    assert [image.image[0, 0].tolist() for image in read_all(tmp_path / "deep.tif")] == [[99] * 3] * 2


@pytest.mark.parametrize(("planar", "orientation"), [("separate", 1), ("contig", 1), ("contig", 6)])
def test_pages_that_pillow_reads_wrongly_are_read(tmp_path: Path, planar: str, orientation: int):
    """Planar pages with 16 bits, and gray ones that are to be turned."""
    shape = (3, 8, 12) if planar == "separate" else (8, 12)
    with tifffile.TiffWriter(tmp_path / "deep.tif") as file:
        for value in (10, 20, 30):
            file.write(
                np.full(shape, 257 * value, np.uint16),
                photometric="rgb" if len(shape) == 3 else "minisblack",
                planarconfig=planar if len(shape) == 3 else None,
                extratags=[(274, 3, 1, orientation, True)],
                metadata=None,
            )
    found = read_all(tmp_path / "deep.tif")
    assert [image.image[0, 0].tolist() for image in found] == [[10] * 3, [20] * 3, [30] * 3]
    assert {image.image.shape for image in found} == {(12, 8, 3) if orientation == 6 else (8, 12, 3)}


def test_a_file_with_many_pages_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tifffile.TiffWriter(tmp_path / "many.tif") as file:
        for value in range(400):
            file.write(np.full((4, 4), value % 251, np.uint8), metadata=None)
    opened: list[object] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(args) or real(*args, **options))
    found = read_all(tmp_path / "many.tif")
    assert [image.image[0, 0, 0] for image in found] == [value % 251 for value in range(400)]
    assert len(opened) <= 2  # to count the pages, and to read them


def test_arrays_are_bgr_and_gray_and_alpha_are_understood():
    colour = np.zeros((4, 5, 3), np.uint8)
    colour[..., 0] = 255
    alpha = np.dstack([colour, np.full((4, 5), 7, np.uint8)])
    gray = np.full((4, 5), 9, np.uint8)
    found = read_all([colour, alpha, gray, gray[..., None]])
    assert [image.image[0, 0].tolist() for image in found] == [[0, 0, 255], [0, 0, 255], [9] * 3, [9] * 3]
    assert [image.input_path for image in found] == [None] * 4
    assert len({image.save_name for image in found}) == 4


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros(3, "u1"),
    ],
    ids=["floats", "two channels", "empty", "one axis"],
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray):
    assert "not an image" in problem(array)


@pytest.mark.parametrize("name", ["empty", "empty/*.jpg", "missing.jpg", "empty/notes.txt"])
def test_what_has_no_image_is_a_bad_input_in_its_place(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("# nothing yet\n\n")
    good = str(save_image(tmp_path / "good.png"))
    first, bad, last = read([good, str(tmp_path / name), good])
    assert isinstance(first, LoadedImage) and isinstance(last, LoadedImage)
    assert str(tmp_path / name) in bad.problem and bad.input_path == str(tmp_path / name)
    assert len({first.save_name, bad.save_name, last.save_name}) == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "NoneType"),
        (3, "type int"),
        (b"\xff\xd8", "type bytes"),
        (memoryview(np.zeros((4, 5, 3), np.uint8)), "convert it to a NumPy array"),
        ({"image": "a.jpg"}, "its keys are 'image', expected 'img'"),
        ({}, "its keys are none"),
        ("", "empty text"),
        ("a\0b.jpg", "a\0b.jpg"),
        ("ftp://host/a.jpg", "ftp"),
    ],
)
def test_what_is_no_input_is_a_bad_one_in_its_place(tmp_path: Path, value, words: str):
    good = save_image(tmp_path / "good.png")
    for inputs in (value, [value], {"img": value}):
        assert words in problem(inputs)
    first, bad, last = read([good, value, good])
    assert words in bad.problem
    assert isinstance(first, LoadedImage) and isinstance(last, LoadedImage)


def test_a_list_in_itself_ends():
    endless: list = []
    endless.append(endless)
    assert "nested" in problem(endless)


def test_all_kinds_of_collections_are_read_lazily(tmp_path: Path):
    files = [save_image(tmp_path / f"{i}.png") for i in range(4)]
    taken = []

    def generate():
        for file in files:
            taken.append(file)
            yield file

    found = read_inputs(generate(), network=NETWORK)
    assert next(found).save_name == "0" and len(taken) == 1
    assert [image.save_name for image in found] == ["1", "2", "3"]
    nested = ({"img": [files[0], (files[1],)]}, [tmp_path / "2.png"], np.zeros((4, 5, 3), np.uint8))
    assert [image.save_name for image in read_all(nested)][:3] == ["0", "1", "2"]
    assert read([]) == []


def test_a_text_has_one_input_per_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("in/花 1.png", "in/sub/b.png", "in/sub/c.png", "elsewhere/d.png", "here/e.png"):
        save_image(tmp_path / name)
    lines = [
        "花 1.png",
        "",
        "# comment",
        "sub",
        "sub/c.png  ",
        str(tmp_path / "elsewhere/d.png"),
        "here/e.png",
    ]
    lines += ["nothing.png", "../elsewhere/*.png"]
    monkeypatch.chdir(tmp_path)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gb18030"):
        (tmp_path / "in" / "list.txt").write_bytes("\r\n".join(lines).encode(encoding))
        found = read(tmp_path / "in" / "list.txt")
        assert [one.save_name for one in found[:3]] == ["花 1", "b", "c"]
        assert [one.save_name for one in found[3:6]] == ["sub/c", "d", "here/e"]
        assert isinstance(found[6], BadInput) and str(tmp_path / "in" / "nothing.png") in found[6].problem
        assert isinstance(found[7], LoadedImage) and found[7].save_name == "d_2"


def test_a_text_that_names_itself_ends(tmp_path: Path):
    (tmp_path / "list.txt").write_text("list.txt\n")
    assert "nested" in problem(tmp_path / "list.txt")


def test_pil_images_are_as_their_files(tmp_path: Path):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12] = (250, 0, 0)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(pixels).save(path, exif=exif)
        with Image.open(path) as image:
            by_path, by_pil, again = read_all([path, image, image])
        assert np.array_equal(by_path.image, by_pil.image) and np.array_equal(by_pil.image, again.image)
        assert by_pil.input_path is None and by_pil.save_name.startswith(f"{orientation}")
        assert by_path.image.shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    modes = [Image.new(mode, (24, 16)) for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16", "LA", "YCbCr")]
    assert [image.image.shape for image in read_all(modes)] == [(16, 24, 3)] * len(modes)
    assert "floating-point" in problem(Image.new("F", (24, 16)))


def test_a_pil_image_that_cannot_be_decoded_or_is_too_large_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.effect_noise((99, 99), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    with Image.open(tmp_path / "cut.png") as image:
        assert "cut.png: not a readable image" in problem(image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "384 pixels, the limit is 200" in problem(Image.new("RGB", (24, 16)))


def test_the_size_of_every_page_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small, large = Image.new("RGB", (4, 4)), Image.new("RGB", (40, 40))
    small.save(tmp_path / "scan.tif", save_all=True, append_images=[large, small])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    first, second, third = read(tmp_path / "scan.tif")
    assert isinstance(first, LoadedImage) and isinstance(third, LoadedImage)
    assert isinstance(second, BadInput) and second.page_index == 1 and "1,600 pixels" in second.problem


def test_ten_thousand_images_of_one_name_get_their_own() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    pages = Image.fromarray(image)
    pages.filename = "frame.png"
    names = [one.save_name for one in read_inputs((pages for _ in range(10_000)), network=NETWORK)]
    assert len(set(names)) == 10_000 and names[0] == "frame" and names[-1] == "frame_10000"


def test_images_are_told_apart_by_their_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save_image(tmp_path / "p" / "a.png")
    monkeypatch.chdir(tmp_path)
    with Image.open(path) as image:
        found = read_all([path, "p/a.png", image, np.zeros((4, 5, 3), np.uint8)])
    assert [one.place for one in found] == [str(path)] * 3 + [None]


def test_bad_files_are_named_in_their_place(tmp_path: Path):
    good = [save_image(tmp_path / f"{i}.png") for i in range(2)]
    (tmp_path / "broken.jpg").write_bytes(good[0].read_bytes()[:60])
    inputs = [good[0], tmp_path / "broken.jpg", tmp_path / "missing.png", good[1]]
    found = read(inputs)
    assert [one.save_name for one in found] == ["0", "broken", "missing", "1"]
    assert [isinstance(one, BadInput) for one in found] == [False, True, True, False]
    assert [one.input_path for one in found] == [str(path) for path in inputs]
    assert all(Path(str(one.input_path)).name in one.problem for one in found[1:3])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args) -> None:
            super().__init__(*args, directory=os.fspath(tmp_path))

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_url_is_downloaded(tmp_path: Path, server: str):
    save_image(tmp_path / "a b.png")
    (image,) = read_all(f"{server}/a%20b.png?size=big")
    assert image.image[0, 0].tolist() == [200, 0, 0]
    assert image.input_path == f"{server}/a%20b.png?size=big"
    assert image.save_name == "a_b"


def test_a_url_that_fails_is_named(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "page.png").write_text("<html>")
    save_image(tmp_path / "large.png")
    assert re.search("missing.png.*404", problem(f"{server}/missing.png"))
    assert re.search(r"page.png: the file is an HTML page\.", problem(f"{server}/page.png"))
    assert "could not be downloaded" in problem("http://127.0.0.1:1/x.png")
    monkeypatch.setattr(sources, "DOWNLOAD_LIMITS", Limits(num_bytes=10))
    expected = "large.png: larger than 0 MB. Download it with another program"
    assert expected in problem(f"{server}/large.png")
    monkeypatch.setattr(sources, "DOWNLOAD_LIMITS", Limits(seconds=1e-9))
    expected = "large.png: not complete after 0 s. Download it with another program"
    assert expected in problem(f"{server}/large.png")
