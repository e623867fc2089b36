"""A data set with five bands of 16 bits, through the command line: check, train, evaluate, export, predict.

Also the 16-bit and float files of the kinds of images that people have.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from cases import check_dataset, copy_case
from command_line import Outcome, read_result
from numpy.typing import NDArray
from PIL import Image
from small_runs import last_checkpoint, run_slim, train_options

from paddlex_seg.checkpoints.info import read_info
from paddlex_seg.config.read import find_bands, load_config
from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import load_image
from paddlex_seg.data.samples import tasks
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference import sources
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.predictor import open_predictor
from paddlex_seg.structures import Bands

BANDS = Bands(4, 3, 2, range=((0, 3000),) * 3, nodata=0)
SETTING = "{red: 4, green: 3, blue: 2, range: [0, 3000], nodata: 0}"


def write_rasters(root: Path, num_images: int = 4) -> Path:
    """A data set of rasters with 5 bands of 16 bits, values 1 to 3000, and one object each."""
    rng = np.random.default_rng(7)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    files: dict[str, dict[str, list[Any]]] = {
        split: {"images": [], "annotations": [], "categories": [{"id": 1, "name": "field"}]}
        for split in ("train", "val")
    }
    for number in range(1, num_images + 1):
        bands = rng.integers(1, 1200, (64, 64, 5)).astype(np.uint16)
        bands[10:40, 20:50] += 1800
        bands[:3] = 0
        planes = np.moveaxis(bands, 2, 0) if number % 2 else bands
        tifffile.imwrite(
            root / "images" / f"{number}.tif",
            planes,
            photometric="minisblack",
            planarconfig="separate" if number % 2 else "contig",
        )
        content = files["val" if number == num_images else "train"]
        image = {"id": number, "file_name": f"{number}.tif", "width": 64, "height": 64}
        content["images"].append(image)
        box = [20, 10, 30, 30]
        corners = [20, 10, 50, 10, 50, 40, 20, 40]
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "segmentation": [corners], "bbox": box}
            | {"area": 900, "iscrowd": 0}
        )
    for split, content in files.items():
        (root / "annotations" / f"instance_{split}.json").write_text(json.dumps(content))
    return root


def write_setting(root: Path, setting: str = SETTING) -> Path:
    (root / "bands.yaml").write_text(yaml.safe_dump(yaml.safe_load(setting)))
    return root


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_setting(write_rasters(tmp_path_factory.mktemp("rasters") / "data"))


@pytest.fixture(scope="module")
def run(rasters: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A training of one step, with its export."""
    output = tmp_path_factory.mktemp("run") / "output"
    return output, run_slim("train", output, **train_options(rasters, Train__epochs_iters=1))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """The pixels of every image file that training, evaluation and prediction read, by file name."""
    found: dict[str, NDArray[np.uint8]] = {}

    def load(path: Path, *args: Any, **options: Any) -> NDArray[np.uint8]:
        found[path.name] = load_image(path, *args, **options)
        return found[path.name]

    for module in (tasks, sources):
        monkeypatch.setattr(module, "load_image", load)
    yield found


def test_rasters_with_a_setting_are_checked_without_findings(rasters: Path, tmp_path: Path) -> None:
    desk = check_dataset(rasters, tmp_path / "a")
    assert (desk.exit_code, desk.codes) == (0, {})
    drawn = np.asarray(Image.open(tmp_path / "a" / "check_dataset" / "demo_img" / "1.tif"))
    plain = load_image(rasters / "images" / "1.tif", bands=BANDS)
    outside = np.s_[52:, :]
    assert (drawn[outside] == plain[outside]).all() and plain[outside].std() > 10
    plain_set = write_rasters(tmp_path / "plain")
    desk = check_dataset(plain_set, tmp_path / "b", Global__bands=SETTING, CheckDataset__decode="full")
    assert (desk.exit_code, desk.codes) == (0, {})
    desk = check_dataset(
        plain_set,
        tmp_path / "c",
        **{"Global__bands.red": 4, "Global__bands.green": 3, "Global__bands.blue": 2}
        | {"Global__bands.stretch": "[2, 98]"},
    )
    assert (desk.exit_code, desk.codes) == (0, {})


FLOATS = "{red: 3, green: 2, blue: 1, range: [0, 0.5]}"


def write_floats(root: Path) -> Path:
    """Six rasters of 4 bands of floats, each pair with the same pixels, and one object each."""
    write_rasters(root, num_images=6)
    for number in range(6):
        values = np.random.default_rng(number // 2).random((8, 8, 4), np.float32)
        tifffile.imwrite(
            root / "images" / f"{number + 1}.tif",
            np.kron(values, np.ones((8, 8, 1), np.float32)),
            photometric="minisblack",
            planarconfig="contig",
        )
    return root


@pytest.mark.parametrize("place", ["file", "option"])
def test_groups_of_almost_identical_images_are_found_with_the_setting(tmp_path: Path, place: str) -> None:
    data = write_floats(tmp_path / "data")
    options: dict[str, Any] = {"Global__bands": FLOATS} if place == "option" else {}
    if place == "file":
        write_setting(data, FLOATS)
    split = {"enable": True, "train_percent": 67, "val_percent": 33, "group_by": "duplicates"}
    options |= {f"CheckDataset__split__{key}": value for key, value in split.items()}
    desk = check_dataset(data, tmp_path / "output", **options)
    # The images are not almost one colour, and no pair is torn apart.
    assert (desk.exit_code, desk.codes.get("leak_near_duplicate", 0)) == (0, 0), desk.text
    document = json.loads((data / "annotations" / "instance_val.json").read_text())
    numbers = sorted(image["id"] for image in document["images"])
    assert numbers in ([1, 2], [3, 4], [5, 6])


def test_the_repair_reads_images_with_the_setting(tmp_path: Path) -> None:
    data = write_setting(write_floats(tmp_path / "data"), FLOATS)
    path = data / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    del document["images"][0]["width"]
    document["images"][1]["file_name"] = "2.TIF"
    path.write_text(json.dumps(document))
    desk = check_dataset(data, tmp_path / "output", CheckDataset__fix__enable=True)
    assert desk.exit_code == 0, desk.text
    images = json.loads((tmp_path / "data_fixed/annotations/instance_train.json").read_text())["images"]
    assert (images[0]["width"], images[1]["file_name"]) == (64, "2.tif")


@pytest.mark.parametrize(
    "setting",
    ["range: [0, 1]", "range: [9000, 10000]", "stretch: [2, 98], nodata: 7", "stretch: [2, 98]"],
    ids=["of_reflectance", "too_high", "no_data", "constant"],
)
def test_an_image_of_which_nothing_is_left_is_a_finding(tmp_path: Path, setting: str) -> None:
    data = write_rasters(tmp_path / "data")
    with tifffile.TiffFile(data / "images" / "2.tif") as file:
        values = file.asarray()
    content = np.full_like(values, 7) if setting.startswith("stretch") else np.maximum(values, 1)
    tifffile.imwrite(data / "images" / "2.tif", content, photometric="minisblack", planarconfig="contig")
    desk = check_dataset(data, tmp_path / "output", Global__bands=f"{{red: 4, green: 3, blue: 2, {setting}}}")
    assert desk.exit_code == 0
    assert "2.tif is of almost one colour with the bands and values of the setting" in desk.messages(
        "image_bands_flat"
    )
    assert set(desk.codes) <= {"image_bands_flat", "leak_near_duplicate", "image_near_duplicate"}


def test_copies_and_folds_of_a_data_set_keep_its_setting(tmp_path: Path) -> None:
    data = write_setting(write_rasters(tmp_path / "data"))
    desk = check_dataset(data, tmp_path / "a", CheckDataset__fix__enable=True)
    assert (desk.exit_code, desk.codes) == (0, {})
    assert (tmp_path / "data_fixed" / "bands.yaml").read_bytes() == (data / "bands.yaml").read_bytes()
    options = {"CheckDataset__split__enable": True, "CheckDataset__split__folds": 2}
    assert check_dataset(data, tmp_path / "b", **options).exit_code == 0
    desk = check_dataset(data / "folds" / "2", tmp_path / "c")
    assert (desk.exit_code, desk.codes) == (0, {})


def test_a_conversion_takes_the_setting_along(tmp_path: Path) -> None:
    data = write_setting(write_rasters(tmp_path / "data"))
    for split in ("train", "val"):
        old = data / "annotations" / f"instance_{split}.json"
        old.rename(old.with_name(f"instances_{split}2017.json"))
    desk = check_dataset(
        data,
        tmp_path / "output",
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="auto",
    )
    assert (desk.exit_code, desk.codes) == (0, {})
    new = tmp_path / "output" / "dataset" / "bands.yaml"
    assert new.read_bytes() == (data / "bands.yaml").read_bytes()


def test_rasters_without_a_setting_say_what_is_dropped(tmp_path: Path) -> None:
    desk = check_dataset(write_rasters(tmp_path / "data"), tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"image_bands_dropped": 4, "image_16bit": 4}
    assert desk.messages("image_bands_dropped")[0] == "1.tif has 5 bands; bands 4 to 5 are dropped"
    message = desk.messages("image_16bit")[0]
    assert message.startswith("1.tif has 16 bits per channel, with values 0 to 2,9")
    assert message.endswith(" of 65,535; without Global.bands they become almost black")
    hints = {item["code"]: item["hint"] for item in desk.result["findings"]}
    assert all("Global.bands" in hint for hint in hints.values())
    assert "bands.yaml" in hints["image_bands_dropped"]


def test_a_changed_setting_is_checked_anew(tmp_path: Path) -> None:
    data, output = write_rasters(tmp_path / "data"), tmp_path / "output"
    assert check_dataset(data, output).codes == {"image_bands_dropped": 4, "image_16bit": 4}
    assert check_dataset(write_setting(data), output).codes == {}
    write_setting(data, "{red: 6, green: 3, blue: 2, range: [0, 3000]}")
    desk = check_dataset(data, output)
    assert (desk.exit_code, desk.codes) == (3, {"image_bands_missing": 4})
    message = "1.tif: the image has 5 bands, but red is band 6 in Global.bands or bands.yaml"
    assert desk.messages("image_bands_missing")[0].endswith(message)
    (data / "bands.yaml").unlink()
    assert check_dataset(data, output).codes == {"image_bands_dropped": 4, "image_16bit": 4}


def test_training_evaluation_and_prediction_see_the_same_pixels(
    run: tuple[Path, Outcome], rasters: Path, tmp_path: Path, seen: dict[str, NDArray[np.uint8]]
) -> None:
    output, outcome = run
    assert outcome.code == 0, outcome.stderr
    expected = {path.name: load_image(path, bands=BANDS) for path in (rasters / "images").iterdir()}
    assert all(image[:3].max() == 0 and image.max() > 200 for image in expected.values())

    def require_same(names: set[str]) -> None:
        assert set(seen) == names
        assert all((image == expected[name]).all() for name, image in seen.items())
        seen.clear()

    options = train_options(rasters, Train__epochs_iters=1)
    assert run_slim("train", tmp_path / "again", **options).code == 0
    require_same({"1.tif", "2.tif", "3.tif", "4.tif"})
    weights = output / "best_model" / "best_model.pdparams"
    copied = shutil.copy(weights, tmp_path / "copied.pdparams")
    options = {"Global__dataset_dir": rasters, "Train__num_workers": 0, "Evaluate__weight_path": copied}
    assert run_slim("evaluate", tmp_path / "evaluated", **options).code == 0
    require_same({"4.tif"})
    options = {"Predict__model_dir": output / "best_model" / "inference"}
    moved = shutil.copytree(rasters / "images", tmp_path / "elsewhere")
    assert run_slim("predict", tmp_path / "predicted", Predict__input=moved, **options).code == 0
    require_same({"1.tif", "2.tif", "3.tif", "4.tif"})
    predictor = open_predictor(output / "best_model" / "inference")
    assert predictor.bands == BANDS
    (result,) = predictor.predict(moved / "1.tif")
    assert (result.image == expected["1.tif"]).all()


def test_weights_and_exported_models_say_how_images_are_read(
    run: tuple[Path, Outcome], tmp_path: Path
) -> None:
    output, _ = run
    info = read_info(last_checkpoint(output))
    assert info is not None and info.bands == info.preprocess.bands == BANDS
    assert read_inference_yml(output / "best_model" / "inference" / "inference.yml").preprocess.bands == BANDS
    weights = shutil.copy(output / "best_model" / "best_model.pdparams", tmp_path / "copied.pdparams")
    outcome = run_slim("export", tmp_path / "exported", Export__weight_path=weights)
    assert outcome.code == 0, outcome.stderr
    assert read_inference_yml(tmp_path / "exported" / "inference.yml").preprocess.bands == BANDS
    bands = read_result(tmp_path / "exported", "export")["preprocess"]["bands"]
    assert (bands["red"], bands["range"], bands["nodata"]) == (4, [[0, 3000]] * 3, 0)


def test_a_run_is_not_resumed_with_other_bands(run: tuple[Path, Outcome], rasters: Path) -> None:
    output, _ = run
    options = train_options(rasters, Train__epochs_iters=2, Train__resume=last_checkpoint(output))
    other = "{red: 3, green: 3, blue: 2, range: [0, 3000], nodata: 0}"
    outcome = run_slim("train", output, Global__bands=other, **options)
    assert outcome.code == 2
    assert "Global.bands: this run has the bands red 3" in outcome.stderr
    assert "was trained with the bands red 4" in outcome.stderr
    assert run_slim("train", output, **options).code == 0


def test_evaluation_and_prediction_use_the_bands_of_the_weights_and_say_so(
    run: tuple[Path, Outcome], rasters: Path, tmp_path: Path, seen: dict[str, NDArray[np.uint8]]
) -> None:
    other = "{red: 1, green: 1, blue: 1, stretch: [2, 98]}"
    weights = run[0] / "best_model" / "best_model.pdparams"
    options = {"Global__dataset_dir": rasters, "Train__num_workers": 0, "Evaluate__weight_path": weights}
    outcome = run_slim("evaluate", tmp_path / "evaluated", Global__bands=other, **options)
    assert outcome.code == 0
    said = "Global.bands (red 1, green 1, blue 1, stretch 2..98) is not used"
    assert said in outcome.stdout + outcome.stderr
    model = run[0] / "best_model" / "inference"
    options = {"Predict__model_dir": model, "Predict__input": rasters / "images" / "4.tif"}
    outcome = run_slim("predict", tmp_path / "predicted", Global__bands=other, **options)
    assert outcome.code == 0
    assert said in outcome.stdout + outcome.stderr
    assert (seen["4.tif"] == load_image(rasters / "images" / "4.tif", bands=BANDS)).all()


def test_an_image_with_too_few_bands_is_skipped_by_prediction(
    run: tuple[Path, Outcome], rasters: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    inputs = f"[{tmp_path / 'photo.png'}, {rasters / 'images' / '1.tif'}]"
    options = {"Predict__model_dir": run[0] / "best_model" / "inference", "Predict__input": inputs}
    outcome = run_slim("predict", tmp_path / "predicted", **options)
    result = read_result(tmp_path / "predicted", "predict")
    assert (outcome.code, len(result["results"]), len(result["skipped"])) == (0, 1, 1)
    assert "the image has 3 bands, but red is band 4" in result["skipped"][0]["problem"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{red: 4, green: 3}", "blue: the key is missing"),
        ("{red: 0, green: 3, blue: 2, range: [0, 1]}", "red: found 0; expected a whole number from 1"),
        ("{red: 4, green: 3, blue: 2}", "expected one of range and stretch"),
        ("{red: 4, green: 3, blue: 2, range: [9, 9]}", "low below high"),
        ("{red: 4, green: 3, blue: 2, range: 3000}", "range: found 3000; expected two numbers [low, high]"),
        ("{red: 4, green: 3, blue: 2, stretch: [2, 300]}", "two percentiles from 0 to 100"),
        (
            "{red: 4, green: 3, blue: 2, range: [0, 9], nodata: none}",
            "nodata: found 'none'; expected a number",
        ),
        ("{red: 4, grün: 3, blue: 2, range: [0, 9]}", "there is no such key"),
    ],
)
def test_a_wrong_setting_is_named_in_the_command_and_in_the_file(
    rasters: Path, tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("PP-YOLOE_seg-S", [f"Global.bands={setting}"])
    assert message in str(caught.value) and "-o: Global.bands" in str(caught.value)
    root = tmp_path / "data"
    root.mkdir()
    (root / "bands.yaml").write_text(setting, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        find_bands(load_config("PP-YOLOE_seg-S"), root)
    assert message in str(caught.value) and "bands.yaml" in str(caught.value)


def test_a_range_for_each_colour(tmp_path: Path) -> None:
    ranges = "[[0, 10], [0, 20], [5, 30.5]]"
    cfg = load_config("PP-YOLOE_seg-S", [f"Global.bands={{red: 1, green: 1, blue: 1, range: {ranges}}}"])
    found = find_bands(cfg, tmp_path)
    assert found is not None and found.range == ((0, 10), (0, 20), (5, 30.5))
    (tmp_path / "config.yaml").write_text(cfg.to_yaml())  # as beside a checkpoint
    assert find_bands(load_config(str(tmp_path / "config.yaml")), tmp_path) == found


# The kinds of images that people have: a diagonal from dark to bright, a rectangle on it.


@pytest.mark.parametrize("name", ["g16.png", "g16.tif", "rgb16.png", "rgb16.tif", "rgba16.tif"])
def test_16_bit_files_keep_their_pixels(tmp_path: Path, name: str) -> None:
    path = copy_case("F09-picture-kinds", tmp_path / "data") / "images" / name
    facts = inspect_image(path, "full")
    assert (facts.problem, facts.shown_hw) == (None, (64, 96))
    assert "image_16bit" in facts.traits and facts.values is not None
    plain = load_image(path).astype(int)
    last = 1 if name.startswith("g") else 3
    bands = Bands(1, min(2, last), last, range=((0, 65535),) * 3)
    assert np.abs(load_image(path, bands=bands).astype(int) - plain).max() <= 1  # of Pillow, the high byte
    low, high = facts.values
    assert abs(plain.min() - low / 257) <= 1 and abs(plain.max() - high / 257) <= 1


@pytest.mark.parametrize("name", ["f32.tif", "f32rgb.tif"])
def test_float_files_need_a_setting_and_keep_their_pixels(tmp_path: Path, name: str) -> None:
    path = copy_case("F09-picture-kinds", tmp_path / "data") / "images" / name
    facts = inspect_image(path, "header")
    assert facts.problem == "image_unsupported"
    assert facts.message == f"{name}: floating-point pixels need the setting Global.bands or bands.yaml"
    stored = tifffile.imread(path).reshape(64, 96, -1)
    bands = Bands(1, 1, stored.shape[2], range=((0, 1),) * 3)
    assert inspect_image(path, "full", bands).problem is None
    image = load_image(path, (64, 96), bands=bands)
    assert np.abs(image - 255 * stored[..., [0, 0, -1]]).max() <= 0.51
    assert image.std() > 30
