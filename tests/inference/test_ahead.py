"""Reading the next image while the network runs."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_model import image_with

from paddlex_seg.inference.ahead import are_files, one_ahead
from paddlex_seg.inference.predictor import open_predictor


def test_items_come_in_order_and_exactly_one_is_made_ahead() -> None:
    made = []
    started = {number: threading.Event() for number in range(6)}

    def items():
        for number in range(5):
            started[number].set()
            made.append(number)
            yield number

    for number in (ahead := one_ahead(items())):
        if number < 4:
            assert started[number + 1].wait(5)
        assert max(made) <= number + 1
        if number == 2:
            break
    ahead.close()
    assert made == [0, 1, 2, 3]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items():
        yield from range(3)
        raise ValueError("the fourth")

    found = []
    with pytest.raises(ValueError, match="the fourth"):
        for item in one_ahead(items()):
            found.append(item)
    assert found == [0, 1, 2]


def test_closing_waits_until_nothing_is_made_any_more() -> None:
    go, ended = threading.Event(), threading.Event()

    def items():
        yield 0
        go.wait(5)
        ended.set()
        yield 1

    ahead = one_ahead(items())
    assert next(ahead) == 0
    threading.Timer(0.1, go.set).start()
    ahead.close()
    assert ended.is_set()


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("a.jpg", True),
        (Path("photos"), True),
        (["a.jpg", Path("b*.png")], True),
        ("https://example.org/a.jpg", False),
        ("images.txt", False),
        (np.zeros((2, 2, 3), np.uint8), False),
        (["a.jpg", np.zeros((2, 2, 3), np.uint8)], False),
        (iter(["a.jpg"]), False),
        ({"img": "a.jpg"}, False),
    ],
    ids=["file", "folder", "list", "address", "text", "array", "list with an array", "iterator", "mapping"],
)
def test_only_files_of_this_machine_are_read_ahead(inputs, expected: bool) -> None:
    assert are_files(inputs) is expected


def test_results_are_those_without_reading_ahead(small_dir: Path, tmp_path: Path) -> None:
    for number in range(5):
        pixels = image_with((96 + number, 128), red=np.s_[20:60, 20 : 60 + number])
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    files = sorted(str(path) for path in tmp_path.iterdir())
    predictor = open_predictor(small_dir, threshold=0.1)
    ahead = list(predictor.predict(files, batch_size=2))
    alone = list(predictor.predict(iter(files), batch_size=2))
    assert [one.input_path for one in ahead] == [one.input_path for one in alone] == files
    for one, other in zip(ahead, alone, strict=True):
        assert (one.error is None) == (other.error is None) == ("2.png" not in one.input_path)
        assert one.error == other.error
        assert one.error is not None or one.instances.masks == other.instances.masks
