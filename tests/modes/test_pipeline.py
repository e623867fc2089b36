"""``--pipeline``: results that are printed or saved, what is said about inputs without one, interruptions."""

import ast
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import paddle
import pytest
from command_line import Outcome, read_result, run_argv, run_cli
from disks import small_disk
from PIL import Image
from toy_model import export_toy, image_with

from paddlex_seg.config.yaml_text import dump_yaml

ROOT = Path(__file__).parent.parent.parent
RED, GREEN = (slice(8, 40), slice(8, 40)), (slice(30, 60), slice(50, 90))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a pipeline that finds "red thing" and "绿色"."""
    folder = tmp_path_factory.mktemp("my pipeline")
    export_toy(folder / "model")
    return write_pipeline(folder / "pipe line.yaml", folder / "model")


def write_pipeline(path: Path, model: Path, **settings: Any) -> Path:
    module = {"module_name": "instance_segmentation", "model_name": "PP-YOLOE_seg-S", "model_dir": str(model)}
    content = {"pipeline_name": "instance_segmentation"}
    path.write_text(
        dump_yaml({**content, "SubModules": {"InstanceSegmentation": {**module, **settings}}}),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three images with two objects each."""
    folder = tmp_path / "my photos"
    for name in ("a.png", "b c.png", "été/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_with((64, 96), red=RED, green=GREEN)).save(folder / name)
    return folder


def run_pipeline(pipeline: Path, *inputs: Path | str, **options: Any) -> Outcome:
    argv = ["--pipeline", str(pipeline), "--input", *map(str, inputs), "--device", "cpu"]
    return run_argv(argv + [word for name, value in options.items() for word in (f"--{name}", str(value))])


def printed(outcome: Outcome) -> list[dict[str, Any]]:
    """The results on standard output."""
    return [
        ast.literal_eval(line)["res"] for line in outcome.stdout.splitlines() if line.startswith("{'res'")
    ]


def labels(results: list[dict[str, Any]]) -> list[list[str]]:
    return [[box["label"] for box in result["boxes"]] for result in results]


# What is printed and saved


def test_without_a_place_results_are_printed_and_nothing_is_saved(
    pipeline: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    outcome = run_pipeline(pipeline, photos)
    assert (outcome.code, outcome.stderr) == (0, "")
    results = printed(outcome)
    assert [result["input_path"] for result in results] == [
        str(photos / name) for name in ("a.png", "b c.png", "été/a.png")
    ]
    assert labels(results) == [["red thing", "绿色"]] * 3
    assert list(Path().iterdir()) == []


def test_results_are_saved_as_drawing_and_json_with_their_sub_folders(
    pipeline: Path, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out put" / "deeper"
    outcome = run_pipeline(pipeline, photos, save_path=output)
    assert (outcome.code, outcome.stderr) == (0, "")
    names = {
        path.relative_to(output).as_posix() for path in output.rglob("*") if path.suffix in (".png", ".json")
    }
    assert names == {f"{name}_res.{kind}" for name in ("a", "b c", "été/a") for kind in ("png", "json")}
    saved = json.loads((output / "été" / "a_res.json").read_text(encoding="utf-8"))
    assert saved["input_path"] == str(photos / "été" / "a.png")
    assert len(saved["boxes"]) == len(saved["masks"]) == 2
    assert saved["boxes"] == printed(outcome)[2]["boxes"]  # they are printed, too
    assert not list(output.rglob("*_result.json"))


def test_mode_predict_saves_the_same(pipeline: Path, photos: Path, tmp_path: Path) -> None:
    assert run_pipeline(pipeline, photos, save_path=tmp_path / "a").code == 0
    outcome = run_cli(
        "predict", tmp_path / "b", Predict__input=photos, Predict__model_dir=pipeline.parent / "model"
    )
    assert outcome.code == 0, outcome.stderr
    for row in read_result(tmp_path / "b", "predict")["results"]:
        for path in (Path(row["image"]), Path(row["json"])):
            other = tmp_path / "a" / path.relative_to(tmp_path / "b")
            assert path.read_bytes() == other.read_bytes()


def test_inputs_of_several_kinds_are_used_in_their_order(pipeline: Path, photos: Path) -> None:
    (photos / "list.txt").write_text("b c.png\n", encoding="utf-8")
    inputs = [photos / "été/a.png", photos / "list.txt", photos / "a.p?g", (photos / "a.png").as_uri()]
    outcome = run_pipeline(pipeline, *inputs)
    assert outcome.code == 0, outcome.stderr
    found = [Path(result["input_path"]).relative_to(photos).as_posix() for result in printed(outcome)]
    assert found == ["été/a.png", "b c.png", "a.png", "a.png"]


def test_the_batch_size_changes_nothing(pipeline: Path, photos: Path) -> None:
    one, two = (printed(run_pipeline(pipeline, photos, batch_size=size)) for size in (1, 2))
    assert one == two and len(one) == 3


# Thresholds and wrong settings


@pytest.mark.parametrize(
    ("threshold", "found"),
    [
        ("0", ["red thing", "绿色"]),
        ("1", []),
        ("{red thing: 1}", ["绿色"]),
        ("{绿色: 1.0, 0: 0}", ["red thing"]),
        ("{'1': 1}", ["red thing"]),
    ],
)
def test_the_threshold_of_a_command_comes_before_that_of_the_file(
    pipeline: Path, photos: Path, threshold: str, found: list[str]
) -> None:
    outcome = run_pipeline(pipeline, photos / "a.png", threshold=threshold)
    assert outcome.code == 0, outcome.stderr
    assert labels(printed(outcome)) == [found]


def test_the_threshold_of_mode_predict_may_be_given_for_classes(
    pipeline: Path, photos: Path, tmp_path: Path
) -> None:
    outcome = run_cli(
        "predict",
        tmp_path / "out",
        Predict__input=photos / "a.png",
        Predict__model_dir=pipeline.parent / "model",
        Predict__threshold="{red thing: 1}",
    )
    assert outcome.code == 0, outcome.stderr
    saved = json.loads((tmp_path / "out" / "a_res.json").read_text(encoding="utf-8"))
    assert labels([saved]) == [["绿色"]]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("threshold", "many", ["--threshold", "'many'", "from 0 to 1"]),
        ("threshold", "1.5", ["--threshold", "1.5", "from 0 to 1"]),
        ("threshold", "{blue thing: 0.5}", ["threshold", "blue thing", "red thing"]),
        ("threshold", "{red thing: 0.5", ["--threshold"]),
        ("threshold", "{red:0.5}", ["--threshold", "a space after the colon: red: 0.5"]),
        ("engine", "onnxruntime", ["--engine", "'onnxruntime'", "'paddle_static'"]),
        ("batch_size", "0", ["--batch_size", "'0'", "from 1"]),
        ("device", "tpu", ["--device", "'tpu'", "gpu:0"]),
        ("hpi_config", "fast", ["--hpi_config", "'fast'"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_option(
    pipeline: Path, photos: Path, option: str, value: str, words: list[str]
) -> None:
    outcome = run_argv(
        ["--pipeline", str(pipeline), "--input", str(photos), f"--{option}", value]
        + ([] if option == "device" else ["--device", "cpu"])
    )
    assert (outcome.code, outcome.stdout) == (2, "")
    assert len(outcome.stderr.splitlines()) == 1
    assert all(word in outcome.stderr for word in words), outcome.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("instance_segmentatoin", ["instance_segmentatoin", "Did you mean instance_segmentation?"]),
        ("no such.yaml", ["no such.yaml"]),
        ("PP-YOLOE_seg-S", ["PP-YOLOE_seg-S"]),
    ],
)
def test_an_unknown_pipeline_is_named(photos: Path, name: str, words: list[str]) -> None:
    outcome = run_argv(["--pipeline", name, "--input", str(photos), "--device", "cpu"])
    assert outcome.code == 2
    assert all(word in outcome.stderr for word in words), outcome.stderr


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle may have the device")
@pytest.mark.parametrize("device", ["gpu:0", "npu:0"])
def test_a_device_that_is_not_there_is_an_error_and_not_replaced(
    pipeline: Path, photos: Path, device: str
) -> None:
    outcome = run_argv(["--pipeline", str(pipeline), "--input", str(photos), "--device", device])
    assert (outcome.code, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 1
    assert f"device is {device}" in outcome.stderr and "device=cpu" in outcome.stderr


def test_a_place_that_is_a_file_is_refused_and_kept(pipeline: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    outcome = run_pipeline(pipeline, photos, save_path=tmp_path / "file")
    assert outcome.code == 2
    assert "--save_path" in outcome.stderr and str(tmp_path / "file") in outcome.stderr
    assert (tmp_path / "file").read_text() == "precious"


def test_settings_without_an_effect_are_told_and_the_work_is_done(pipeline: Path, photos: Path) -> None:
    argv = ["--pipeline", str(pipeline), "--input", str(photos / "a.png"), "--device", "cpu", "--use_hpip"]
    outcome = run_argv(
        [*argv, "--hpi_params", "{backend: paddle, serial_number: 1}", "--serial_number", "X-1"]
    )
    assert outcome.code == 0
    assert "hpi_params: serial_number is not used; only backend is" in outcome.stdout
    assert "--serial_number is not used" in outcome.stderr
    assert labels(printed(outcome)) == [["red thing", "绿色"]]


# Inputs without a result


def test_each_input_without_a_result_is_named_at_the_end_with_the_count(
    pipeline: Path, photos: Path, tmp_path: Path
) -> None:
    for name in ("bad 1.png", "bad 2.jpg"):
        (photos / name).write_bytes(b"no image")
    inputs = [photos, photos / "nothing.png", "http://127.0.0.1:1/x.png"]
    for options in ({}, {"save_path": tmp_path / "out"}):
        outcome = run_pipeline(pipeline, *inputs, **options)
        assert outcome.code == 0, outcome.stderr
        end = outcome.stdout.split("4 of 7 input(s) have no result:\n", 1)[1].splitlines()
        assert len(end) == 4
        names = ("bad 1.png", "bad 2.jpg", "nothing.png", "http://127.0.0.1:1/x.png")
        for line, name in zip(end, names, strict=True):
            assert name in line
    assert len(list((tmp_path / "out").rglob("*_res.json"))) == 3


@pytest.mark.parametrize("saved", [True, False])
def test_no_readable_input_is_an_error_of_the_data(
    pipeline: Path, photos: Path, tmp_path: Path, saved: bool
) -> None:
    inputs = [tmp_path / "none.png", tmp_path / "nowhere" / "*.png"]
    outcome = run_pipeline(pipeline, *inputs, **({"save_path": tmp_path / "out"} if saved else {}))
    assert outcome.code == 3
    assert "none.png" in outcome.stderr and "*.png" in outcome.stderr and "Traceback" not in outcome.stderr


def test_several_inputs_in_one_text_are_explained(pipeline: Path) -> None:
    outcome = run_pipeline(pipeline, "a.jpg,b.jpg")
    assert outcome.code == 2
    assert "--input a.jpg b.jpg" in outcome.stderr


def test_results_that_cannot_be_written_are_named_and_others_saved(
    pipeline: Path, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "été").write_text("in the way of the folder")
    outcome = run_pipeline(pipeline, photos, save_path=output)
    assert outcome.code == 0, outcome.stderr
    assert "1 of 3 input(s) have no result" in outcome.stdout
    assert (output / "été").read_text() == "in the way of the folder"
    assert (output / "a_res.json").is_file() and (output / "b c_res.png").is_file()


# Ends before the end


def command(pipeline: Path, source: Path, *options: str) -> list[str]:
    words = [sys.executable, str(ROOT / "main.py"), "--pipeline", str(pipeline), "--input", str(source)]
    return [*words, "--device", "cpu", *options]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder with so many images that a prediction of them takes some minutes."""
    folder = tmp_path / "many"
    folder.mkdir()
    Image.fromarray(image_with((256, 384), red=RED, green=GREEN)).save(folder / "0000.png")
    for number in range(1, 5000):
        (folder / f"{number:04}.png").symlink_to("0000.png")
    return folder


def assert_whole(output: Path) -> int:
    """Each saved result has both files, and both can be read. Returns how many there are."""
    stems = [{path.stem for path in output.glob(f"*_res.{kind}")} for kind in ("json", "png")]
    assert stems[0] == stems[1]
    for stem in stems[0]:
        json.loads((output / f"{stem}.json").read_text(encoding="utf-8"))
        with Image.open(output / f"{stem}.png") as drawing:
            drawing.load()
    rest = {path.name for path in output.iterdir()} - {f"{s}.{k}" for s in stems[0] for k in ("json", "png")}
    assert rest <= {".paddlex_seg_files.jsonl"}
    return len(stems[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_whole_results_and_says_how_many(
    pipeline: Path, many: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    words = command(pipeline, many, "--save_path", str(output))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while len(list(output.glob("*_res.png"))) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(number)
        printed, told = process.communicate()
    assert process.returncode == 1
    assert told == f"stopped by {number.name}. To start again, run the same command\n"
    assert f"The results of {assert_whole(output)} image(s) are complete." in printed.splitlines()[-1]


@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.5])
def test_an_early_interruption_is_no_traceback(
    pipeline: Path, many: Path, tmp_path: Path, seconds: float
) -> None:
    words = command(pipeline, many, "--save_path", str(tmp_path / "out"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode in (1, -signal.SIGINT)  # the latter before any line of ours has run
    assert "Traceback" not in told or process.returncode == -signal.SIGINT


def test_a_reader_that_has_seen_enough_ends_the_work(pipeline: Path, many: Path) -> None:
    script = ["bash", "-c", 'set -o pipefail; "$@" | head -n 2', "bash"]
    result = subprocess.run(
        [*script, *command(pipeline, many)], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stderr == "" and result.stdout.count("{'res'") == 2


def test_results_are_saved_without_anybody_who_reads_the_log(
    pipeline: Path, photos: Path, tmp_path: Path
) -> None:
    script = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"]
    words = command(pipeline, photos, "--save_path", str(tmp_path / "out"))
    subprocess.run([*script, *words], capture_output=True, timeout=120, check=True)
    assert len(list((tmp_path / "out").rglob("*_res.png"))) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_results_that_cannot_be_printed_are_an_error(pipeline: Path, photos: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command(pipeline, photos), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert result.returncode == 1
    assert "No space left on device" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_full_disk_ends_the_work_with_whole_results(pipeline: Path, photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(40):
        shutil.copy(photos / "a.png", source / f"{number}.png")
    with small_disk(tmp_path / "small", kilobytes=100) as output:
        outcome = run_pipeline(pipeline, source, save_path=output)
        assert outcome.code == 1
        assert "No space left on device" in outcome.stderr and "Traceback" not in outcome.stderr
        count = assert_whole(output)
        assert 0 < count < 40
        assert f"The results of {count} image(s) are complete." in outcome.stderr
