"""Loading the images of inputs: files, folders, patterns, URLs, arrays."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_images import write_image

from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.download import Limits, Network
from paddlex_seg.inference import sources
from paddlex_seg.inference.sources import LoadedImage, UnreadableInput, expand_inputs, read_images

NETWORK = Network(cache_dir=Path("never used"), proxies={})


def save_image(path: Path, colour: tuple[int, int, int] = (200, 0, 0), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), colour).save(path, **options)
    return path


def read_all(inputs) -> list[LoadedImage]:
    """All images. An unreadable image among readable ones fails the test."""
    problems: list[UnreadableInput] = []
    found = list(read_images(expand_inputs(inputs), problems.append, NETWORK))
    assert problems == []
    return found


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
    assert [p.save_name for p in read_all(f"{tmp_path}/**/*.jpg")] == ["1", "2", "4"]


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
    with pytest.raises(DatasetError, match="not an image"):
        read_all(array)


@pytest.mark.parametrize("name", ["empty", "empty/*.jpg"])
def test_a_folder_or_pattern_without_images_is_an_error_at_once(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match="empty"):
        expand_inputs([str(save_image(tmp_path / "good.png")), str(tmp_path / name)])


@pytest.mark.parametrize("inputs", [[], None, 3, {"img": "a.jpg"}, [None]])
def test_inputs_of_a_wrong_type_are_refused(inputs):
    with pytest.raises(DatasetError, match="empty|expected a file"):
        expand_inputs(inputs)


def test_unreadable_files_are_reported_and_left_out(tmp_path: Path):
    good = [save_image(tmp_path / f"{i}.png") for i in range(2)]
    (tmp_path / "broken.jpg").write_bytes(good[0].read_bytes()[:60])
    inputs = [good[0], tmp_path / "broken.jpg", tmp_path / "missing.png", good[1]]
    problems: list[UnreadableInput] = []
    found = list(read_images(expand_inputs(inputs), problems.append, NETWORK))
    assert [image.save_name for image in found] == ["0", "1"]
    assert [error.input for error in problems] == [str(path) for path in inputs[1:3]]
    assert all(Path(str(error.input)).name in str(error) for error in problems)


def test_nothing_readable_at_all_is_an_error_that_names_the_files(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="broken.jpg"):
        read_all(tmp_path / "broken.jpg")
    with pytest.raises(DatasetError, match=r"(?s)broken.jpg.*missing.jpg"):
        list(
            read_images(
                expand_inputs([tmp_path / "broken.jpg", tmp_path / "missing.jpg"]),
                lambda error: None,
                NETWORK,
            )
        )


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
    with pytest.raises(DatasetError, match="missing.png.*404"):
        read_all(f"{server}/missing.png")
    with pytest.raises(DatasetError, match="page.png.*not a readable image"):
        read_all(f"{server}/page.png")
    with pytest.raises(DatasetError, match="could not be downloaded"):
        read_all("http://127.0.0.1:1/x.png")
    monkeypatch.setattr(sources, "DOWNLOAD_LIMITS", Limits(num_bytes=10))
    with pytest.raises(DatasetError, match="large.png: larger than 0 MB. Download it with another program"):
        read_all(f"{server}/large.png")
    monkeypatch.setattr(sources, "DOWNLOAD_LIMITS", Limits(seconds=1e-9))
    with pytest.raises(
        DatasetError, match="large.png: not complete after 0 s. Download it with another program"
    ):
        read_all(f"{server}/large.png")
