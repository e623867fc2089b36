"""Which font writes a text, how a line fits, and what is said when no font has the characters."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_fonts import make_collection, make_font, only_fonts
from PIL import Image, features
from small_runs import annotation_file, change_split, copy_dataset

from paddlex_seg import fonts
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.fonts import is_writable, line_mask, unwritable_notice

SIZE = 40.0
HAN, DEVANAGARI = "螺母", "पेंच"

needs_raqm = pytest.mark.skipif(not features.check("raqm"), reason="FriBiDi is not installed")


def drawn(*parts: str, size: float = SIZE, max_width: int = 10_000) -> np.ndarray:
    mask = line_mask(parts, size, max_width)
    assert mask is not None
    return np.asarray(mask)


def heights(mask: np.ndarray) -> list[int]:
    """Heights of the blocks of a made font in a line, from left to right."""
    columns = (mask > 128).sum(axis=0)
    return [int(columns[start + 5]) for start in range(0, len(columns) - 5, int(0.6 * SIZE))]


@pytest.mark.parametrize("kind", ["ttf", "second of a collection"])
def test_a_name_is_written_in_a_font_of_the_system_that_has_its_characters(tmp_path: Path, kind: str) -> None:
    unfit = make_font(tmp_path / "A.ttf", "甲乙")
    fit = make_font(tmp_path / "B.ttf", HAN)
    if kind != "ttf":
        unfit = fit = make_collection(tmp_path / "C.ttc", "甲乙", HAN)
    with only_fonts(unfit, fit):
        assert heights(drawn("螺螺母")) == [32, 32, 16]
        assert heights(drawn("甲")) == [32]
        assert is_writable(HAN) and not is_writable("丙")


def test_fonts_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    damaged, empty, cut = tmp_path / "A.ttf", tmp_path / "B.ttc", tmp_path / "C.ttf"
    damaged.write_bytes(b"no font")
    empty.write_bytes(b"")
    cut.write_bytes(make_font(tmp_path / "whole.ttf", HAN).read_bytes()[:700])
    with only_fonts(damaged, empty, cut, tmp_path / "gone.ttf", make_font(tmp_path / "Z.ttf", HAN)):
        assert heights(drawn(HAN)) == [32, 16]


@needs_raqm
def test_a_name_in_several_scripts_is_written_with_several_fonts(tmp_path: Path) -> None:
    han, devanagari = make_font(tmp_path / "A.ttf", HAN), make_font(tmp_path / "B.ttf", DEVANAGARI)
    with only_fonts(han, devanagari):
        mixed = drawn(f"{HAN}च")
        assert heights(mixed) == [32, 16, 8]
        assert is_writable(f"M8 {HAN} {DEVANAGARI} ß")
    with only_fonts(han):
        assert is_writable(f"M8 {HAN} ß")
        assert not is_writable(f"{HAN}च")


@needs_raqm
def test_arabic_is_joined_and_written_from_right_to_left(tmp_path: Path) -> None:
    alone = [drawn(letter) for letter in "بب"]
    assert drawn("بب").shape[1] < sum(mask.shape[1] for mask in alone)
    columns = (drawn("اب") > 128).sum(axis=0)
    assert columns.argmax() > len(columns) / 2  # alef, an upright line, comes first
    with only_fonts(make_font(tmp_path / "A.ttf", HAN)):
        right_to_left = drawn("اا母")  # the bundled font has no Chinese: two runs, ordered as well
        assert heights(right_to_left)[0] == 16


def test_scripts_that_need_shaping_are_not_written_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    with only_fonts():
        assert not is_writable("برغي") and is_writable("Schraube ß")
        notice = unwritable_notice(["bolt", "برغي"])
    assert notice is not None and "برغي (class 1)" in notice and "libfribidi0" in notice


@pytest.mark.parametrize(
    ("name", "package"),
    [
        *((name, "fonts-noto-cjk") for name in (HAN, "ねじ", "ナット", "너트", "ﾅｯﾄ")),
        *((name, "fonts-noto-core") for name in (DEVANAGARI, "สกรู", "திருகு")),
        ("\U0001f529", "fonts-symbola"),
    ],
)
def test_a_name_without_a_font_is_told_with_the_package_to_install(name: str, package: str) -> None:
    with only_fonts():
        assert not is_writable(name)
        notice = unwritable_notice(["bolt", f"M8 {name}"])
    assert notice is not None
    assert f"M8 {name} (class 1)" in notice and f"install {package} (" in notice and "bolt" not in notice


def test_a_notice_names_few_of_many_classes_and_is_none_if_all_can_be_written(tmp_path: Path) -> None:
    with only_fonts():
        notice = unwritable_notice([f"{HAN}{i}" for i in range(80)])
        assert notice is not None and "and 75 more class names" in notice and len(notice) < 500
        assert unwritable_notice(["bolt", "Schraube ß", "гайка", ""]) is None
    with only_fonts(make_font(tmp_path / "A.ttf", HAN)):
        assert unwritable_notice(["bolt", HAN]) is None


@pytest.mark.parametrize("name", ["a long class name", "M" * 5000, "ёж" * 40, "e\u0301" * 50], ids=len)
@pytest.mark.parametrize("max_width", [60, 75, 100])
def test_a_line_that_is_too_wide_loses_the_end_of_the_name_and_keeps_the_score(
    name: str, max_width: int
) -> None:
    whole = line_mask([name, "0.87"], 12.0, max_width)
    assert whole is not None and max_width - 20 <= whole.width <= max_width
    score = drawn("0.87", size=12.0)
    end = np.asarray(whole)[:, -score.shape[1] :]
    assert abs(end.astype(float).sum() / score.astype(float).sum() - 1) < 0.1


def test_a_line_without_room_for_any_letter_is_none() -> None:
    assert line_mask(["nut", "0.87"], 12.0, max_width=20) is None
    assert line_mask(["nut"], 12.0, max_width=3) is None


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("a\nb", "a b"),
        ("\ta \r\n  b ", "a b"),
        ("a\u2028b", "a b"),
        ("\u202ea b\u202c\u200f", "a b"),
        ("a\x07b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\u2764\ufe0f", "\u2764"),
    ],
    ids=ascii,
)
def test_control_characters_neither_break_the_line_nor_turn_it(name: str, same_as: str) -> None:
    assert np.array_equal(drawn(name, "0.87"), drawn(same_as, "0.87"))


@pytest.mark.parametrize("name", ["", " \n\t", "\u202e"], ids=ascii)
def test_a_blank_name_is_not_written(name: str) -> None:
    assert not is_writable(name)


# Through the command line

PRIVATE = "\U000f1234"  # of the private use area, so that no font has it


def test_check_dataset_names_a_class_without_a_font_and_draws_it_once_there_is_one(
    dataset: Path, tmp_path: Path
) -> None:
    """The font is installed between two runs, without a change of the data set."""
    folder = copy_dataset(dataset, tmp_path / "data")
    with_objects = set()
    for split in ("train", "val"):
        coco = read_coco(annotation_file(folder, split))
        ids = {annotation.image_id for annotation in coco.annotations}
        with_objects |= {Path(image.file_name).name for image in coco.images if image.id in ids}
        renamed = tuple(replace(one, name=f"M8 {PRIVATE} {i}") for i, one in enumerate(coco.categories))
        change_split(folder, split, categories=renamed)
    printed = check(folder, tmp_path)
    assert printed.count(f"M8 {PRIVATE} 0 (class 0)") == 1 and "install fonts-noto-core" in printed
    drawings = tmp_path / "output" / "check_dataset"
    files = [drawings / "histogram.png", *(drawings / "demo_img" / name for name in with_objects)]
    before = [np.asarray(Image.open(file)) for file in files]
    (tmp_path / "share" / "fonts").mkdir(parents=True)
    make_font(tmp_path / "share" / "fonts" / "Made.ttf", PRIVATE)
    assert PRIVATE not in check(folder, tmp_path)
    for file, old in zip(files, before, strict=True):
        assert (np.asarray(Image.open(file)) != old).any(), file


def check(folder: Path, tmp_path: Path) -> str:
    """What mode check_dataset prints, with ``tmp_path`` / share / fonts as a folder of fonts."""
    options = {
        "Global.mode": "check_dataset",
        "Global.dataset_dir": folder,
        "Global.output": tmp_path / "output",
    }
    command = [sys.executable, "-m", "paddlex_seg", "-c", "PP-YOLOE_seg-S"]
    for key, value in options.items():
        command += ["-o", f"{key}={value}"]
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path / "share"), "PYTHONIOENCODING": "utf-8"}
    outcome = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout
