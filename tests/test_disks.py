"""Disks that are full, read-only or gone, and folders without rights, through the command line."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_cli
from disks import fill, make_read_only, small_disk
from exports import roboflow_coco
from PIL import Image
from small_runs import run_slim, train_options

from paddlex_seg import cli
from paddlex_seg.config.schema import MODES
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.files.written import REGISTER
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.training import output as training_output

MAIN = Path(__file__).parent.parent / "main.py"
HELPERS = Path(__file__).parent / "helpers"


def assert_told(outcome: Outcome, code: int, *words: object) -> None:
    """The message has these words, and there is no traceback."""
    assert outcome.code == code, outcome.stderr
    assert all(str(word) in outcome.stderr for word in words), outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert ".new" not in outcome.stderr, "users do not know temporary names"


def damaged_files(folder: Path) -> list[str]:
    """Files that end too early, and temporary files."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != "other data"):
        try:
            assert path.name == REGISTER or not path.name.startswith(".")
            if path.suffix in (".jpg", ".png"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".html":
                assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        except (OSError, ValueError, AssertionError):
            found.append(str(path))
    return found


# The output folder is tried before anything else


def a_file(path: Path) -> Path:
    path.write_text("precious")
    return path


def below_a_file(path: Path) -> Path:
    return a_file(path) / "folder"


def a_dangling_link(path: Path) -> Path:
    path.symlink_to(path.with_name("taken away") / "disk")
    return path


def a_long_name(path: Path) -> Path:
    return path / ("x" * 256)


UNUSABLE = {
    a_file: errno.EEXIST,
    below_a_file: errno.ENOTDIR,
    a_dangling_link: errno.EEXIST,
    a_long_name: errno.ENAMETOOLONG,
}


@pytest.mark.parametrize("kind", UNUSABLE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_an_output_that_cannot_be_a_folder_is_told_before_the_data_is_read(
    mode: str, kind: Callable[[Path], Path], tmp_path: Path
) -> None:
    output = kind(tmp_path / "output")
    outcome = run_cli(mode, output, Global__dataset_dir=tmp_path / "no such data set")
    assert_told(outcome, 2, "Global.output", output, os.strerror(UNUSABLE[kind]))
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"), [(os.fsdecode(b"caf\xe9"), "not UTF-8 text"), ("a\0b", "without the character U+0000")]
)
def test_an_output_whose_name_is_no_text_is_told(name: str, words: str, tmp_path: Path) -> None:
    outcome = run_cli("check_dataset", tmp_path / name, Global__dataset_dir=tmp_path / "no such data set")
    assert_told(outcome, 2, "Global.output", words)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_output_is_told_before_the_data_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        make_read_only(disk)
        outcome = run_cli("train", disk, Global__dataset_dir=tmp_path / "no such data set")
        assert_told(outcome, 2, "Global.output", disk, "Read-only file system")


def test_a_full_disk_is_told_before_the_data_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        fill(disk)
        outcome = run_cli("train", disk, Global__dataset_dir=tmp_path / "no such data set")
        assert_told(outcome, 2, "Global.output", disk, "No space left on device", "Free space")


# The disk gets full during the work


@pytest.mark.parametrize("kilobytes", [60, 200, 330, 450])
def test_a_check_on_a_small_disk_is_told_and_leaves_whole_files(
    kilobytes: int, dataset: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        outcome = run_cli("check_dataset", disk / "output", Global__dataset_dir=dataset)
        assert_told(outcome, 1, f"{disk}/output/check_dataset", "No space left on device")
        assert damaged_files(disk) == []
        result = disk / "output" / "check_dataset_result.json"
        assert not result.exists() or json.loads(result.read_text(encoding="utf-8"))["done_flag"] is False


@pytest.mark.parametrize("kilobytes", [60, 90, 130, 300])
def test_a_prediction_on_a_small_disk_is_told_and_leaves_whole_files(
    kilobytes: int, dataset: Path, exported: Path, tmp_path: Path
) -> None:
    options = {"Predict__model_dir": exported, "Predict__input": dataset / "images"}
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        outcome = run_cli("predict", disk, **options)
        assert_told(outcome, 1, disk, "No space left on device")
        assert damaged_files(disk) == []


def test_an_export_on_a_small_disk_is_told_and_leaves_the_older_one(
    trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    best = trained[0] / "best_model" / "best_model.pdparams"
    with small_disk(tmp_path / "disk", 800) as disk:
        (disk / "inference.json").write_text("{}")
        outcome = run_slim("export", disk, Export__weight_path=best)
        assert_told(outcome, 1, f"{disk}/inference.", "disk is full")
        assert (disk / "inference.json").read_text() == "{}"
        assert {path.name for path in disk.iterdir()} == {*("inference.json", "export_result.json", REGISTER)}
        assert read_result(disk, "export")["done_flag"] is False


AUTO = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "auto"}
TO_YOLO = {"CheckDataset__convert__enable": True, "CheckDataset__convert__dst_dataset_type": "YOLO"}
FIX = {"CheckDataset__fix__enable": True}
PREPARATIONS: dict[str, tuple[str, dict[str, Any], str]] = {  # source, options, and where it writes
    "convert": (LABELME_FOLDER, AUTO, "dataset"),
    "export": (COCO_FOLDER, TO_YOLO, "check_dataset/YOLO"),
    "repair": (COCO_FOLDER, FIX, "fixed"),
}


@pytest.mark.parametrize("kilobytes", [40, 100])
@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_preparation_on_a_small_disk_is_told_and_all_or_nothing(
    name: str, kilobytes: int, tmp_path: Path
) -> None:
    source, options, place = PREPARATIONS[name]
    write_demo_dataset(tmp_path / "demo", num_train=6, num_val=2)
    data = tmp_path / "demo" / source
    before = _contents(data)
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        target = disk / place
        of_target = {"CheckDataset__convert__dst_dir": target} if name == "convert" else {}
        of_target |= {"CheckDataset__fix__dst_dir": target} if name == "repair" else {}
        outcome = run_cli("check_dataset", disk, Global__dataset_dir=data, **options, **of_target)
        assert_told(outcome, 1, target, "No space left on device")
        assert _contents(target) == {}
    assert _contents(data) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_mode(monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], dict[str, Any]]) -> None:
    monkeypatch.setattr(cli, "mode_function", lambda mode: lambda cfg: work(Path(cfg.Global.output)))


def test_a_result_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(output: Path) -> dict[str, Any]:
        fill(output)
        return {"metrics": 1}

    a_mode(monkeypatch, work)
    with small_disk(tmp_path / "disk", 100) as disk:
        (disk / "evaluate_result.json").write_text('{"done_flag": true}')
        outcome = run_cli("evaluate", disk)
        assert_told(outcome, 1, disk / "evaluate_result.json", "No space left on device")
        assert not (disk / "evaluate_result.json").exists()


def test_a_reported_success_does_not_outlive_a_failure_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(output: Path) -> dict[str, Any]:
        (output / "train_result.json").write_text('{"done_flag": true}')
        fill(output)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output / "inference.json"))

    a_mode(monkeypatch, work)
    with small_disk(tmp_path / "disk", 100) as disk:
        outcome = run_cli("train", disk)
        assert_told(outcome, 1, disk / "inference.json", "The result file could not be written")
        assert not (disk / "train_result.json").exists()


def test_an_old_success_that_cannot_be_removed_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = result_path(tmp_path, "check_dataset")
    write_result(tmp_path, "check_dataset", {"done_flag": True})

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == old:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        os.unlink(path)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert_told(run_cli("check_dataset", tmp_path), 1, old, os.strerror(errno.EACCES))


def test_a_disk_that_vanishes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(output: Path) -> dict[str, Any]:
        shutil.rmtree(output)
        a_file(output)
        return {}

    a_mode(monkeypatch, work)
    assert_told(run_cli("evaluate", tmp_path / "disk"), 1, tmp_path / "disk", "File exists")


# Data sets that cannot be written


def test_a_read_only_data_set_is_checked_and_trained_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)  # slower than everything else
    with small_disk(tmp_path / "disk", 20_000) as disk:
        shutil.copytree(dataset, disk / "data")
        make_read_only(disk)
        checked = run_cli("check_dataset", tmp_path / "output", Global__dataset_dir=disk / "data")
        assert checked.code == 0, checked.stderr
        trained = run_slim(
            "train", tmp_path / "output", **train_options(disk / "data", Train__epochs_iters=1)
        )
        assert trained.code == 0, trained.stderr


def test_a_read_only_data_set_is_split_and_an_export_converted_elsewhere(
    dataset: Path, tmp_path: Path
) -> None:
    split = {"CheckDataset__split__enable": True, "CheckDataset__split__train_percent": 50}
    split["CheckDataset__split__val_percent"] = 50
    convert = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "auto"}
    with small_disk(tmp_path / "disk", 20_000) as disk:
        shutil.copytree(dataset, disk / "data")
        roboflow_coco(disk / "export")
        make_read_only(disk)
        for name, options in (("data", split), ("export", convert)):
            output = tmp_path / name
            outcome = run_cli("check_dataset", output, Global__dataset_dir=disk / name, **options)
            assert outcome.code == 0, outcome.stderr
            assert f"Train on it with -o Global.dataset_dir={output / 'dataset'}" in outcome.stdout


def test_a_repair_beside_a_read_only_data_set_says_where_else_to_write(dataset: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20_000) as disk:
        shutil.copytree(dataset, disk / "data")
        make_read_only(disk)
        outcome = run_cli("check_dataset", tmp_path / "output", Global__dataset_dir=disk / "data", **FIX)
        assert_told(outcome, 2, disk / "data_fixed", "Read-only file system", "CheckDataset.fix.dst_dir")
        fix = {**FIX, "CheckDataset__fix__dst_dir": tmp_path / "fixed"}
        outcome = run_cli("check_dataset", tmp_path / "output", Global__dataset_dir=disk / "data", **fix)
        assert outcome.code == 0, outcome.stderr


# No home folder, no folder for temporary files

SLIM = """
import pwd, sys
def nobody(number):
    raise KeyError(number)
pwd.getpwuid = nobody
from dataclasses import replace
from paddlex_seg import cli
find = cli.mode_function
def find_slim(mode):
    run = find(mode)
    from small_runs import MODEL, MODELS, slim_model
    MODELS[MODEL] = replace(MODELS[MODEL], build=slim_model)
    return run
if "-oGlobal.mode=export" in sys.argv:
    cli.mode_function = find_slim
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("mode", "home"),
    [("check_dataset", "none"), ("check_dataset", "file"), ("predict", "file"), ("export", "none")],
)
def test_no_home_folder_is_needed(
    mode: str, home: str, dataset: Path, exported: Path, trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    options = {
        "Global.mode": mode,
        "Global.output": tmp_path / "output",
        "Global.device": "cpu",
        "Global.dataset_dir": dataset,
        "Export.weight_path": trained[0] / "best_model" / "best_model.pdparams",
        "Predict.model_dir": exported,
        "Predict.input": dataset / "images",
    }
    paths = (HELPERS, HELPERS.parent / "reference", *sys.path[1:])
    hidden = ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "TMPDIR": str(work)}
    if home == "file":
        environment["HOME"] = str(a_file(tmp_path / "home"))
    arguments = ["-c", "PP-YOLOE_seg-S", *(f"-o{key}={value}" for key, value in options.items())]
    ended = subprocess.run(
        [sys.executable, "-c", SLIM, *arguments], capture_output=True, text=True, env=environment, cwd=work
    )
    assert ended.returncode == 0, ended.stderr
    noise = [line for line in ended.stderr.splitlines() if "eager_utils" not in line]  # of Paddle's export
    assert noise == []
    assert list(work.iterdir()) == [], "everything temporary has gone"
