"""Ten thousand images through one generator, and images of every kind that people have."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_model import image_with

from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.inference.predictor import open_predictor

NUM_IMAGES, EVERY_BROKEN = 10_000, 250
# Prints the memory of the process in MB after 2,000 and after all images, and what is out of order.
SCRIPT = """
    import sys
    from pathlib import Path
    from paddlex_seg import create_model

    def megabytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    model = create_model(model_dir=sys.argv[1], device="cpu", batch_size=4)
    wrong, errors, early = [], 0, 0.0
    for number, result in enumerate(model.predict(sys.argv[2])):
        if result.save_name != f"{number // 100:02d}/{number:05d}":
            wrong.append(result.save_name)
        if (result.error is not None) != (number % int(sys.argv[3]) == 7):
            wrong.append(result.save_name)
        errors += result.error is not None
        if result.error is None and len(result.boxes) != number % 2:
            wrong.append(result.save_name)
        if number == 2000:
            early = megabytes()
    print(number + 1, errors, len(wrong), round(megabytes() - early))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_ten_thousand_images_take_no_more_memory_than_two_thousand(small_dir: Path, tmp_path: Path) -> None:
    Image.fromarray(image_with((128, 192))).save(tmp_path / "0.png")
    Image.fromarray(image_with((128, 192), red=np.s_[40:90, 40:120])).save(tmp_path / "1.png")
    contents = [(tmp_path / f"{number}.png").read_bytes() for number in range(2)]
    for number in range(NUM_IMAGES):
        path = tmp_path / "in" / f"{number // 100:02d}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = contents[number % 2]
        path.write_bytes(content[:50] if number % EVERY_BROKEN == 7 else content)
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SCRIPT),
            str(small_dir),
            str(tmp_path / "in"),
            str(EVERY_BROKEN),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    num_results, num_errors, num_wrong, growth = map(int, ended.stdout.split())
    assert (num_results, num_errors, num_wrong) == (NUM_IMAGES, 40, 0)
    assert ended.stderr.count("Image skipped") == 40
    assert growth < 30  # MB; all images together have 740 MB


SIZES = {  # height, width as shown, where the file is turned or has several bands or pages
    "exif_orientation/Landscape_1.jpg": (1200, 1800),
    "exif_orientation/Landscape_6.jpg": (1200, 1800),
    "exif_orientation/Portrait_3.jpg": (1800, 1200),
    "exif_orientation/Portrait_8.jpg": (1800, 1200),
    "pillow/hopper_orientation_6.jpg": (128, 128),
    "pillow/tRNS_null_1x1.png": (1, 1),
    "derived/panorama_2048x100.jpg": (100, 2048),
}
UNREADABLE = {"derived/truncated_photo_90pct.jpg", "pillow/truncated_image.png", "pillow/truncated_jpeg.jpg"}
NEEDS_SETTING = "icevision/test_1_bands_int16.tif"  # half of its values are negative
TURNED = {"exif_orientation/Landscape_6.jpg": "exif_orientation/Landscape_1.jpg"}


def test_images_of_every_kind_give_a_result_or_an_error(
    small_dir: Path, shared_dir: Path, tmp_path: Path
) -> None:
    folder = shared_dir / "data" / "pictures"
    names = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    results = {
        Path(str(result.input_path)).relative_to(folder).as_posix(): result
        for result in open_predictor(small_dir, batch_size=4).predict(folder)
    }
    assert set(results) == set(names) and len(names) > 35
    errors = {name: result.error for name, result in results.items() if result.error is not None}
    assert set(errors) == UNREADABLE | {NEEDS_SETTING}
    assert "Global.bands" in errors[NEEDS_SETTING]
    for name in UNREADABLE:
        assert Path(name).name in errors[name] and "truncated" in errors[name]
    for name, size_hw in SIZES.items():
        assert results[name].image.shape[:2] == size_hw
    for turned, upright in TURNED.items():
        images = [Image.fromarray(results[name].image).resize((90, 60)) for name in (turned, upright)]
        difference = np.abs(np.asarray(images[0], float) - np.asarray(images[1], float)).mean()
        assert difference < 12  # of 255; upside down it is above 50
    for result in results.values():
        result.save_all(tmp_path)
    assert len(list(tmp_path.rglob("*_res.json"))) == len(names)
