"""What users write into files and after -o, by the command line: read as meant, or told how to write it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
import pytest
from command_line import read_result, run_argv

from paddlex_seg.config.overrides import is_section
from paddlex_seg.config.read import load_config
from paddlex_seg.config.schema import Config
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.files.written import REGISTER

MODEL = "PP-YOLOE_seg-S"
SPELLINGS = [
    "2024_11_26",
    "1.10",
    "007",
    "12:30:45",
    "no",
    "1e3",
    "0x10",
    "2024-11-26",
    "True",
    "0o7",
    "1_000",
    ".5",
]
GLOBAL = f"Global:\n  model: {MODEL}\n  dataset_dir: none\n"


def answer(*overrides: str, config: str | Path = MODEL) -> tuple[int, str]:
    """Exit code and message of mode check_dataset without a data set: 3 if the configuration is valid."""
    options = [part for override in ("Global.dataset_dir=none", *overrides) for part in ("-o", override)]
    outcome = run_argv(["-c", str(config), *options])
    assert "Traceback" not in outcome.stderr
    return outcome.code, outcome.stderr


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str | bytes) -> Path:
    path = Path("config.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Texts


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_name_stays_as_it_was_written(spelling: str) -> None:
    assert answer(f"Global.output={spelling}")[0] == 3
    assert os.listdir() == [spelling]
    assert read_result(Path(spelling), "check_dataset")["done_flag"] is False


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_name_in_a_file_stays_as_it_was_written(spelling: str) -> None:
    config = written(f"{GLOBAL}  output: {spelling}\nTrain:\n  freeze: [{spelling}]\n")
    assert run_argv(["-c", str(config)]).code == 3
    assert set(os.listdir()) == {"config.yaml", spelling}
    assert load_config(str(config)).Train.freeze == (spelling,)


def keys(section: type[Any] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in section.model_fields.items():
        if is_section(info.annotation):
            yield from keys(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info.annotation


PATHS = [
    name
    for name, _ in keys()
    if name.rpartition(".")[2]
    in ("dataset_dir", "output", "input", "model_dir", "dst_dir", "resume", "resume_path")
    or name.endswith("weight_path")
]


@pytest.mark.parametrize("key", PATHS)
def test_every_path_may_start_with_the_home_folder(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    section, _, leaf = key.rpartition(".")
    for text in ("~/a", "~"):
        value: Any = load_config(MODEL, [f"{key}='{text}'"])
        for part in key.split("."):
            value = getattr(value, part)
        expected = str(Path.cwd() / "a") if text == "~/a" else str(Path.cwd())
        assert value == ((expected,) if leaf == "input" else expected)
    code, message = answer(f"{key}=~nobody of this name/a")
    assert code == 2 and f"-o: {key}" in message and "write ./~nobody of this name/a" in message


def test_the_home_folder_is_used_for_results_and_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    Path("home").mkdir()
    Path("home/config.yaml").write_text(GLOBAL)
    assert answer("Global.output=~/results", config="~/config.yaml")[0] == 3
    assert os.listdir() == ["home"]
    assert read_result(Path("home/results"), "check_dataset")["done_flag"] is False


@pytest.mark.parametrize(
    "spelling", [*SPELLINGS, "None", "~", "null", "[a]", "a: b", "a #b", "- a", "测试", "<<", "'x"]
)
def test_the_written_configuration_reads_back_with_the_same_texts(spelling: str) -> None:
    quoted = "'" + spelling.replace("'", "''") + "'"
    overrides = [
        f"{key}={quoted}" for key in ("Global.output", "CheckDataset.split.group_by", "Predict.input")
    ]
    cfg = load_config(MODEL, [*overrides, f"Train.freeze=[{quoted}]", f"Train.lr_factors={{{quoted}: 0.5}}"])
    assert cfg.CheckDataset.split.group_by == spelling and cfg.Train.freeze == (spelling,)
    assert load_config(str(written(cfg.to_yaml()))) == cfg


# Numbers


NUMBERS = [
    name for name, kind in keys() if re.search(r"\b(int|float)\b", str(kind)) and name != "Train.lr_factors"
]


@pytest.mark.parametrize("key", [*NUMBERS, "Train.lr_factors.neck"])
def test_every_number_is_finite_and_in_a_range_that_is_told(key: str) -> None:
    for value in ("nan", "inf", "-inf", "1e400", "1e30", str(10**12), "-1", "True", "many", "[]", ""):
        code, message = answer(f"{key}={value}")
        assert code == 2 and f"-o: {key}: found" in message, value
        assert "expected" in message and ("at most" in message or " to " in message), value


@pytest.mark.parametrize(
    ("key", "value"), [("epochs_iters", "1e1"), ("epochs_iters", "10.0"), ("batch_size", '"10"')]
)
def test_a_whole_number_may_have_any_spelling(key: str, value: str) -> None:
    assert getattr(load_config(MODEL, [f"Train.{key}={value}"]).Train, key) == 10
    config = written(f"{GLOBAL}Train:\n  {key}: {value}\n")
    assert getattr(load_config(str(config)).Train, key) == 10


# Sections


def test_a_section_after_o_is_merged() -> None:
    config = written(f"{GLOBAL}Train:\n  batch_size: 7\n  augment:\n    mosaic: 0.5\n    copy_paste: 0.1\n")
    cfg = load_config(str(config), ["Train={epochs_iters: 3, augment: {mosaic: 0.2}}"])
    assert (cfg.Train.epochs_iters, cfg.Train.batch_size) == (3, 7)
    assert (cfg.Train.augment.mosaic, cfg.Train.augment.copy_paste) == (0.2, 0.1)
    assert load_config(str(config), ["Train={}"]) == load_config(str(config))
    assert answer("Train={epochs_iters: 3}", "Global={output: merged}", config=config)[0] == 3
    assert read_result(Path("merged"), "check_dataset")["done_flag"] is False


def test_the_last_of_several_options_counts() -> None:
    options = ["Train={epochs_iters: 3}", "Train.epochs_iters=4", "Train.freeze=[a, b]", "Train.freeze.1=c"]
    train = load_config(MODEL, options).Train
    assert (train.epochs_iters, train.freeze) == (4, ("a", "c"))
    assert load_config(MODEL, [*options, "Train={epochs_iters: 5}"]).Train.epochs_iters == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "Train={epoch_iters: 3}",
            "-o: Train.epoch_iters: there is no such key. Did you mean Train.epochs_iters?",
        ),
        ("Train={epochs_iters: x}", "-o: Train.epochs_iters: found 'x'; expected a whole number"),
        ("Train={augment: {mosaic: 2}}", "-o: Train.augment.mosaic: found 2; expected a number from 0 to 1"),
        ("Train={lr_factors: {neck: 0}}", "-o: Train.lr_factors.neck: found 0"),
        ("Train={epochs_iters:3}", "Write a space after the colon: epochs_iters: 3"),
        ("Train={epochs_iters: 3, epochs_iters: 4}", "epochs_iters is given twice"),
        ("Train.lr_factors={neck: 1, neck: 2}", "neck is given twice"),
        ("Train={epochs_iters: 3", "this is not YAML"),
        ("Train=", "Expected Train.key=value or 'Train={key: value}'"),
        ("Train=None", "Expected Train.key=value or 'Train={key: value}'"),
        ("Train={augment: 5}", "Expected Train.augment.key=value"),
    ],
)
def test_a_mistake_in_a_section_after_o_is_that_of_the_option(override: str, message: str) -> None:
    config = written(
        f"{GLOBAL}Train:\n  epochs_iters: 3\n  augment:\n    mosaic: 0.5\n  lr_factors: {{neck: 1}}\n"
    )
    code, found = answer(override, config=config)
    assert code == 2 and found.startswith("Error: -o") and message in found
    assert "config.yaml" not in found


def test_a_mistake_of_the_file_stays_one_of_the_file() -> None:
    config = written(f"{GLOBAL}Train:\n  batch_size: x\n  lr_factors: {{neck: 0}}\n")
    code, found = answer("Train={epochs_iters: y}", "Train.lr_factors.head=1", config=config)
    assert code == 2
    for place in (
        "config.yaml:5: Train.batch_size",
        "config.yaml:6: Train.lr_factors.neck",
        "-o: Train.epochs_iters",
    ):
        assert place in found


def test_an_empty_section_of_a_file_sets_nothing() -> None:
    empty = written(f"{GLOBAL}Train:\nPredict: null\nCheckDataset:\n  split:\n  convert: ~\n")
    cfg = load_config(str(empty))
    assert answer(config=empty)[0] == 3
    assert load_config(str(written(GLOBAL))) == cfg
    code, message = answer(config=written("Global:\nTrain:\n"))
    assert code == 2 and "config.yaml:1: Global.model: the key is missing; add it." in message


# Files


@pytest.mark.parametrize(
    ("text", "name", "lines"),
    [
        ("Train:\n  epochs_iters: 3\n  batch_size: 2\n  epochs_iters: 4\n", "epochs_iters", (5, 7)),
        ("Train:\n  epochs_iters: 3\nGlobal:\n  output: x\n", "Global", (1, 6)),
        ("CheckDataset:\n  split:\n    enable: no\n    'enable': no\n", "enable", (6, 7)),
        ("Train:\n  augment: {mosaic: 0.1,\n    mosaic: 0.1}\n", "mosaic", (5, 6)),
        ("Train:\n  lr_factors:\n    007: 1\n    007: 2\n", "007", (6, 7)),
        ("Predict:\n  input: [{a: 1,\n    a: 2}]\n", "a", (5, 6)),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_both_lines(
    text: str, name: str, lines: tuple[int, int]
) -> None:
    code, message = answer(config=written(GLOBAL + text))
    assert code == 2
    assert (
        f"config.yaml:{lines[1]}: {name} is given twice, in line {lines[0]} and in line {lines[1]}."
        in message
    )
    assert os.listdir() == ["config.yaml"]


def test_a_merged_key_may_be_replaced() -> None:
    config = written(f"{GLOBAL}Train:\n  augment: {{<<: {{mosaic: 0.1, copy_paste: 0.3}}, mosaic: 0.2}}\n")
    augment = load_config(str(config)).Train.augment
    assert (augment.mosaic, augment.copy_paste) == (0.2, 0.3)


FOREIGN = f"# 测试\n{GLOBAL}  output: 结果\n"


@pytest.mark.parametrize(
    "content",
    [
        FOREIGN.encode(),
        FOREIGN.encode("utf-8-sig"),
        FOREIGN.encode("utf-16"),
        b"\xfe\xff" + FOREIGN.encode("utf-16-be"),
        FOREIGN.replace("\n", "\r\n").encode("utf-16"),
    ],
    ids=["UTF-8", "UTF-8 with BOM", "UTF-16", "UTF-16 big endian", "UTF-16 of Windows"],
)
def test_a_file_in_unicode_is_read(content: bytes) -> None:
    assert answer(config=written(content))[0] == 3
    assert set(os.listdir()) == {"config.yaml", "结果"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            FOREIGN.encode("gbk"),
            "config.yaml:1: byte 0xb2 is not UTF-8. The file seems to be in another encoding",
        ),
        (FOREIGN.encode("gbk"), "Save it again as UTF-8"),
        ((GLOBAL + "# Übung").encode("latin-1"), "config.yaml:4: byte 0xdc is not UTF-8"),
        (FOREIGN.encode("utf-16-le"), "UTF-16 without a byte order mark. Save it again as UTF-8"),
        (FOREIGN.encode("utf-16-be"), "UTF-16 without a byte order mark. Save it again as UTF-8"),
        (FOREIGN.encode("utf-16")[:-1], "is not UTF-16"),
        (b"\x89PNG\n\0\0\0", "config.yaml:2: found a zero byte; this is no text file"),
        (GLOBAL.encode() + b"  output: a\0b\n", "config.yaml:4: found a zero byte"),
        (GLOBAL.encode() + b"  output: a\x07b\n", "config.yaml:4: found the control character U+0007"),
        ((GLOBAL + "\toutput: x\n").encode(), "config.yaml:4: this is not YAML"),
        ((GLOBAL + "Train:\n\tbatch_size: 3\n").encode(), "Replace the tab by spaces"),
        ((GLOBAL + '  output: "a\\0b"\n').encode(), "config.yaml:4: Global.output: found"),
        (b"", "found nothing"),
        (b"- a\n", "found a list"),
        (b"Global\n", "found a text"),
        ((GLOBAL + "Train: 5\n").encode(), "config.yaml:4: Train: found 5; expected a section"),
        ((GLOBAL + "Train:\n  batch_size:3\n").encode(), "Write a space after the colon: batch_size: 3"),
        (
            (GLOBAL + "Train:\n  batch_size:3\n  seed: 1\n").encode(),
            "In line 5: Write a space after the colon",
        ),
        ((GLOBAL + "Train:\n  batch_size：3\n  seed: 1\n").encode(), "In line 5: Write ':' instead of '：'"),
        ((GLOBAL + "Predict:\n  input: *.jpg\n").encode(), "config.yaml:5: this is not YAML"),
        ((GLOBAL + "Predict:\n  input: *.jpg\n").encode(), "into quotes"),
        ((GLOBAL + "Train.seed: 3\n").encode(), "write the section Train and below it, indented, seed"),
        ((GLOBAL + "Train: !!python/object/apply:os.getcwd []\n").encode(), "Remove the tag"),
        ((GLOBAL + "Train: {freeze: " + "[" * 1500 + "]" * 1500 + "}\n").encode(), "nested too deeply"),
        (
            (GLOBAL + "Train: &train {augment: *train}\n").encode(),
            "Train.augment.augment: there is no such key",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_told(content: bytes, message: str) -> None:
    code, found = answer(config=written(content))
    assert code == 2 and message in found


def test_a_file_whose_aliases_grow_without_bound_is_refused_at_once() -> None:
    lists = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'a'] * 9)}]\n" for i in range(30))
    maps = "".join(f"y{i}: &y{i} {{a: {f'*y{i - 1}' if i else 'a'}, b: *x29}}\n" for i in range(30))
    code, found = answer(config=written(f"{GLOBAL}{lists}{maps}Train: {{freeze: *x29, augment: *y29}}\n"))
    assert code == 2 and "Train.freeze" in found and len(found) < 30_000


def test_a_folder_is_no_configuration() -> None:
    code, message = answer(config=Path.cwd())
    assert code == 2 and "this is a folder" in message


# Messages with a remedy


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Global.device=0", "write gpu:0."),
        ("Global.device=0,1", "write gpu:0,1."),
        ("Global.device=[0, 1]", "write gpu:0,1."),
        ("Global.device=gpu:0,gpu:1", "write gpu:0,1."),
        ("Global.device=npu1", "write npu:1."),
        ("Global.device=tpu:0", "expected auto, cpu, gpu"),
        ("Train.amp=True", "write O1"),
        ("Train.amp=O2", "use O1"),
        ("Train.amp=fp16", "write O1 and Train.amp_dtype=float16"),
        ("Train.amp_dtype=bf16", "Did you mean bfloat16?"),
        ("Train.lr_factors={backbone:0.1}", "Write a space after the colon: backbone: 0.1."),
        ("Train.lr_factors=backbone:0.1", "such as {backbone: 0.1}"),
        ("Train.lr_factors=0.1", "such as {backbone: 0.1}"),
        ("Train.freeze=backbone,neck", "write [backbone,neck]"),
        ("Train.learning_rate=0,01", "with a decimal point: 0.01"),
        ("Train.image_size=480,640", "such as 640 or [480, 640]"),
        ("Train.image_size=100000", "at most 16384"),
        ("Train.sync_bn=maybe", "expected True or False"),
        ("Train.master=host", "such as 10.0.0.1:6070"),
        ("Global.mode=val", "Did you mean evaluate?"),
        ("Global.mode=eval", "Did you mean evaluate?"),
        ("Global.mode=infer", "Did you mean predict?"),
        ("Global.mode=Train", "Did you mean train?"),
        ("global.mode=train", "Did you mean Global?"),
        ("Train.Epochs_Iters=3", "Did you mean Train.epochs_iters?"),
        ("Train.ｅpochs_iters=3", "Write 'e' instead of 'ｅ'"),
        ("Train.epochs_iters＝3", "Write '=' instead of '＝'"),
        ("Train.epochs_iters", "expected Section.key=value"),
        ("Global.output=[a, b]", "expected a text; put it into quotes"),
        ("Predict.input.7=a.jpg", "Predict.input is a value"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(override: str, message: str) -> None:
    code, found = answer(override)
    assert code == 2 and message in found and "-o" in found


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("Train.amp=off", "OFF"),
        ("Train.amp=False", "OFF"),
        ("Train.amp=o1", "O1"),
        ("Global.device=cuda", "gpu"),
        ("Global.device=GPU:0, 1", "gpu:0,1"),
        ("Predict.input=[*.jpg, b c.png]", ("*.jpg", "b c.png")),
        ("Predict.input=[ab]*.jpg", ("[ab]*.jpg",)),
        ("Train.lr_factors.backbone.stem=0.1", {"backbone.stem": 0.1}),
        (" Train.seed = 3 ", 3),
        ("Train.sync_bn=no", False),
    ],
)
def test_other_spellings_are_understood(override: str, value: Any) -> None:
    section, name = override.partition("=")[0].strip().split(".")[:2]
    assert getattr(getattr(load_config(MODEL, [override]), section), name) == value
    assert answer(override)[0] == 3


def test_one_o_takes_several_keys() -> None:
    outcome = run_argv(["-c", MODEL, "-o", "Global.dataset_dir=none", "Global.output=several"])
    assert outcome.code == 3 and os.listdir() == ["several"]


@pytest.mark.parametrize(
    "argv",
    [["-o", "Train.seed", "=", "3"], ["-o", "Predict.input=my", "photo.jpg"], ["-o", "Train={seed:", "3}"]],
)
def test_spaces_that_the_shell_splits_at_are_told(argv: list[str]) -> None:
    outcome = run_argv(["-c", MODEL, *argv])
    assert outcome.code == 2 and "A value with spaces needs quotes" in outcome.stderr


def test_a_key_without_o_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_argv(["-c", MODEL, "-oTrain.seed=3", "Train.batch_size=3"])
    assert stopped.value.code == 2


# Predict.input


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a.jpg,b.jpg", "[a.jpg, b.jpg]"),
        ("a.jpg, folder", "[a.jpg, folder]"),
        ("a.jpg;b.jpg", "[a.jpg, b.jpg]"),
        ("*.jpg,*.png", "[*.jpg, *.png]"),
        ("https://h/a.jpg,https://h/b.jpg", "[https://h/a.jpg, https://h/b.jpg]"),
        ("a.jpg,https://h/b.jpg", "[a.jpg, https://h/b.jpg]"),
        (",".join(f"{number:04}.jpg" for number in range(600)), "[0000.jpg, 0001.jpg, "),
    ],
)
def test_several_inputs_in_one_text_are_told_to_be_a_list(text: str, items: str) -> None:
    code, message = answer("Global.mode=predict", "Global.device=cpu", f"Predict.input={text}")
    assert code == 2 and f"-o 'Predict.input={items}" in message


@pytest.mark.parametrize("name", ["a.jpg,b.jpg", "a, b", "*.jpg,x"])
def test_a_name_may_have_commas(name: str) -> None:
    Path(name).touch()
    code, message = answer("Global.mode=predict", "Global.device=cpu", f"Predict.input={name}")
    assert code == 1 and "output/best_model/inference" in message  # the input is taken, the model is missing


# Devices


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle may have the devices")
@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize("device", ["gpu:0,1", "npu:0,1", "xpu:0,1", "mlu:1,0", "cuda:0,1"])
def test_devices_that_paddle_lacks_are_refused_before_anything_starts(
    device: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*args: Any, **options: Any) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(subprocess, "Popen", start)
    write_demo_dataset(Path.cwd(), num_train=1, num_val=1)
    code, message = answer(
        f"Global.mode={mode}",
        f"Global.device={device}",
        f"Global.dataset_dir={COCO_FOLDER}",
        "Global.output=out",
    )
    assert code == 1 and "Use Global.device=cpu" in message
    assert set(os.listdir("out")) == {f"{mode}_result.json", REGISTER}
