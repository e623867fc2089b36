"""The command line: exit codes, messages and result files, whatever the mode."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import paddle
import pytest
from command_line import read_result, run_argv, run_cli

from paddlex_seg import cli
from paddlex_seg.config.schema import MODES
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.files.written import REGISTER
from paddlex_seg.structures import CocoFile

MAIN = Path(__file__).parent.parent / "main.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_demo_dataset(folder, num_train=4, num_val=2)
    return folder / COCO_FOLDER


def test_help_answers_within_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        result = subprocess.run([sys.executable, str(MAIN), "--help"], capture_output=True, text=True)
        assert result.returncode == 0 and "exit codes" in result.stdout
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1.0


def test_main_py_ends_with_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, str(MAIN), "-c", "PP-YOLOE_seg-S", "-o", f"Global.output={tmp_path}"]
    result = subprocess.run(
        [*command, "-o", "Global.dataset_dir=no such folder"], capture_output=True, text=True
    )
    assert result.returncode == 3
    assert "no such folder" in result.stderr


# Options and configuration


def test_an_unknown_key_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    outcome = run_cli("train", tmp_path, Train__epoch_iters=3)
    assert outcome.code == 2
    assert "Did you mean Train.epochs_iters?" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    result = read_result(tmp_path, "train")
    assert result["done_flag"] is False
    assert result["err_type"] == "<class 'paddlex_seg.errors.ConfigError'>"
    assert "Train.epochs_iters" in result["err_msg"]


def test_an_unknown_mode_lists_the_modes(tmp_path: Path) -> None:
    outcome = run_cli("trian", tmp_path)
    assert outcome.code == 2
    assert all(mode in outcome.stderr for mode in MODES)


def test_an_unknown_configuration_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_argv(["-c", "PP-YOLOE_seg-M"])
    assert outcome.code == 2
    assert "Did you mean PP-YOLOE_seg-S.yaml?" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["", "[a, b]", "null"])
def test_an_output_that_is_no_name_leaves_other_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "train_result.json").write_text("of another run")
    outcome = run_argv(["-c", "PP-YOLOE_seg-S", "-o", "Global.mode=train", "-o", f"Global.output={output}"])
    assert outcome.code == 2
    assert "Global.output" in outcome.stderr
    assert (tmp_path / "output" / "train_result.json").read_text() == "of another run"


# The output folder


def test_an_output_folder_may_be_a_number(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "check_dataset_result.json").write_text("of another run")
    outcome = run_cli("check_dataset", Path("2024"), Global__dataset_dir=dataset)
    assert outcome.code == 0, outcome.stderr
    assert read_result(tmp_path / "2024", "check_dataset")["done_flag"] is True
    assert (tmp_path / "output" / "check_dataset_result.json").read_text() == "of another run"


def test_an_output_folder_may_have_spaces_and_foreign_letters(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "Übung = 1, 测试"
    outcome = run_cli("check_dataset", output, Global__dataset_dir=dataset)
    assert outcome.code == 0, outcome.stderr
    assert read_result(output, "check_dataset")["done_flag"] is True


@pytest.mark.parametrize("below", ["", "folder"])
def test_an_output_that_is_a_file_is_refused_and_kept(dataset: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("precious")
    outcome = run_cli("check_dataset", tmp_path / "file" / below, Global__dataset_dir=dataset)
    assert outcome.code == 2
    assert "Global.output" in outcome.stderr and str(tmp_path / "file") in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert (tmp_path / "file").read_text() == "precious"


# check_dataset


def test_a_sound_data_set_passes_with_the_keys_of_paddlex(dataset: Path, tmp_path: Path) -> None:
    outcome = run_cli("check_dataset", tmp_path, Global__dataset_dir=dataset)
    assert outcome.code == 0
    assert "Check dataset passed !" in outcome.stdout
    result = read_result(tmp_path, "check_dataset")
    keys = ["done_flag", "check_pass", "attributes", "analysis", "dataset_path", "show_type", "dataset_type"]
    assert list(result)[: len(keys)] == keys
    assert (result["done_flag"], result["check_pass"]) == (True, True)
    names = ["num_classes", "train_samples", "train_sample_paths", "val_samples", "val_sample_paths"]
    assert list(result["attributes"])[: len(names)] == names
    assert (result["show_type"], result["dataset_type"]) == ("image", "COCOInstSegDataset")
    paths = [*result["attributes"]["train_sample_paths"], result["analysis"]["histogram"]]
    assert all((tmp_path / path).is_file() for path in paths)


def test_the_result_of_an_earlier_run_is_not_left_beside_a_failure(dataset: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(dataset, own)
    output = tmp_path / "output"
    assert run_cli("check_dataset", output, Global__dataset_dir=own).code == 0
    name = read_val(own).images[0].file_name
    (own / "images" / name).unlink()
    outcome = run_cli("check_dataset", output, Global__dataset_dir=own)
    assert outcome.code == 3
    assert name in outcome.stderr and "Traceback" not in outcome.stderr
    result = read_result(output, "check_dataset")
    assert list(result)[:4] == ["done_flag", "err_type", "err_msg", "check_pass"]
    assert (result["done_flag"], result["check_pass"]) == (False, False)
    assert result["err_type"] == "<class 'paddlex_seg.errors.DatasetError'>"
    assert name in result["err_msg"]
    assert [item["code"] for item in result["findings"]] == ["image_missing", "image_without_objects"]


def read_val(dataset: Path) -> CocoFile:
    return read_coco(dataset / "annotations" / "instance_val.json")


def test_a_success_replaces_the_failure_of_an_earlier_run(dataset: Path, tmp_path: Path) -> None:
    assert run_cli("check_dataset", tmp_path, Global__dataset_dir=tmp_path / "none").code == 3
    assert run_cli("check_dataset", tmp_path, Global__dataset_dir=dataset).code == 0
    assert "err_msg" not in read_result(tmp_path, "check_dataset")


# Devices


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle may have the device")
@pytest.mark.parametrize("mode", ["train", "evaluate", "export", "predict"])
@pytest.mark.parametrize("device", ["gpu:0", "npu:0"])
def test_a_device_that_is_not_there_is_an_error_before_any_work(
    tmp_path: Path, mode: str, device: str
) -> None:
    options = {
        "Global__device": device,
        "Global__dataset_dir": tmp_path / "no data",
        "Predict__input": "x.jpg",
    }
    outcome = run_cli(mode, tmp_path / "output", **options)
    assert outcome.code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert f"Global.device is {device}" in outcome.stderr and "Global.device=cpu" in outcome.stderr
    left = {path.name for path in (tmp_path / "output").iterdir()}
    assert left <= {f"{mode}_result.json", "train.log", REGISTER}


# What nobody expected


def test_a_bug_keeps_its_traceback_and_leaves_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "mode_function", lambda mode: lambda cfg: 1 / 0)
    outcome = run_cli("check_dataset", tmp_path)
    assert outcome.code == 1
    assert "Traceback" in outcome.stderr and "ZeroDivisionError" in outcome.stderr
    result = read_result(tmp_path, "check_dataset")
    assert result["err_type"] == "<class 'builtins.ZeroDivisionError'>"


def test_an_interruption_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(cfg: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "mode_function", lambda mode: interrupt)
    outcome = run_cli("check_dataset", tmp_path)
    assert (outcome.code, outcome.stderr) == (1, "interrupted\n")
    assert read_result(tmp_path, "check_dataset")["done_flag"] is False


def test_paddle_that_is_not_installed_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = run_cli("train", tmp_path)
    assert outcome.code == 2
    assert "pip install paddlepaddle==3.2.2" in outcome.stderr


# All modes, one after the other, with the network as it is


def test_the_whole_way_from_a_data_set_to_predictions(dataset: Path, tmp_path: Path) -> None:
    settings = {
        "Global__dataset_dir": dataset,
        "Train__pretrain_weight_path": "scratch",
        "Train__image_size": 64,
        "Train__batch_size": 2,
        "Train__epochs_iters": 1,
        "Evaluate__weight_path": tmp_path / "best_model" / "best_model.pdparams",
        "Export__weight_path": tmp_path / "best_model" / "best_model.pdparams",
        "Predict__model_dir": tmp_path / "best_model" / "inference",
        "Predict__input": dataset / "images",
        "Predict__threshold": 0,
    }
    for mode in ("check_dataset", "train", "evaluate", "predict"):
        outcome = run_cli(mode, tmp_path, **settings)
        assert outcome.code == 0, outcome.stderr
        assert outcome.stderr == ""
        assert read_result(tmp_path, mode)["done_flag"] is True
    results = read_result(tmp_path, "predict")["results"]
    assert len(results) == 6
    for row in results:
        prediction = json.loads(Path(row["json"]).read_text(encoding="utf-8"))
        assert {box["label"] for box in prediction["boxes"]} <= {"bolt", "washer"}
