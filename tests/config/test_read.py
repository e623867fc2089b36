"""Configuration: valid values are read as users mean them. Errors name the place, the value and the fix."""

import json
from pathlib import Path

import pytest

from paddlex_seg.config.overrides import settings
from paddlex_seg.config.read import find_config, load_config
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "modules").rglob("*.yaml"))


def problems(*overrides: str, name: str = "PP-YOLOE_seg-S.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(name, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configuration_is_valid_and_named_after_its_model(path: Path) -> None:
    cfg = load_config(str(path))
    assert cfg.Global.model == path.stem
    assert cfg.Global.device == "auto"
    assert cfg.Train.num_classes is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configuration_has_the_defaults_of_paddlex(path: Path, reference_dir: Path) -> None:
    name = path.stem
    if name == "MaskRCNN-ResNet50-vd-SSLDv2-FPN":  # PaddleX lists it but has no configuration for it
        name = "MaskRCNN-ResNet50-vd-FPN"
    facts = json.loads((reference_dir / f"manifests/{name}.config.json").read_text())
    official = facts["paddlex_user_config"]
    cfg = load_config(str(path))
    for key in (
        "epochs_iters",
        "batch_size",
        "learning_rate",
        "warmup_steps",
        "log_interval",
    ):
        assert getattr(cfg.Train, key) == official["Train"][key], key
    # Every epoch, too, but less often where evaluations would take much of the time.
    assert (cfg.Train.eval_interval, official["Train"]["eval_interval"]) == (None, 1)
    assert cfg.Predict.batch_size == official["Predict"]["batch_size"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("null", None),
        ("~", None),
        ("", ""),
        ("on", "on"),
        ("No", "No"),
        ("one", "one"),
        ("1.10", "1.10"),
        ("True", "True"),
        ("007", "007"),
        ("gpu:0,1", "gpu:0,1"),
        ("2024/10", "2024/10"),
        ("os", "os"),
        ("0.01*2", "0.01*2"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("http://h/a.png?x=1&y=2", "http://h/a.png?x=1&y=2"),
        ("C:\\data\\a=b.png", "C:\\data\\a=b.png"),
        ("'5'", "5"),
        ('"a b"', "a b"),
        (" a b ", "a b"),
        ("[1, 2", "[1, 2"),
        ("[a-z]+", "[a-z]+"),
        ("'None'", "None"),
    ],
)
def test_an_override_sets_null_or_the_text_that_was_written(text: str, value: str | None) -> None:
    assert settings(f"Predict.input={text}") == [(("Predict", "input"), value)]


def test_override_splits_at_the_first_equals_sign() -> None:
    cfg = load_config("PP-YOLOE_seg-S.yaml", ["Predict.input=http://h/a.png?x=1&y=2"])
    assert cfg.Predict.input == ("http://h/a.png?x=1&y=2",)


def test_override_creates_sections_that_the_file_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("Global:\n  model: PP-YOLOE_seg-S\n")
    cfg = load_config(str(path), ["Predict.kernel_option.run_mode=mkldnn", "Train.learning_rate=1e-4"])
    assert cfg.Predict.kernel_option.run_mode == "mkldnn"
    assert cfg.Train.learning_rate == 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "PP-YOLOE_seg-S.yaml",
        "PP-YOLOE_seg-S",
        "paddlex/configs/modules/instance_segmentation/PP-YOLOE_seg-S.yaml",
        "paddlex/configs/instance_segmentation/PP-YOLOE_seg-S.yaml",
    ],
)
def test_shipped_configuration_is_found_by_its_name(name: str) -> None:
    assert find_config(name).name == "PP-YOLOE_seg-S.yaml"


def test_existing_path_wins_over_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("PP-YOLOE_seg-S.yaml").write_text("Global:\n  model: mine\n", encoding="utf-8")
    assert load_config("PP-YOLOE_seg-S.yaml").Global.model == "mine"


def test_unknown_name_suggests_the_nearest_one() -> None:
    assert "Did you mean PP-YOLOE_seg-S.yaml?" in problems(name="PP-YOLO_seg-S.yaml")[0]


def test_all_problems_are_reported_at_once() -> None:
    found = problems("Train.epoch_iters=3", "Train.batch_size=abc", "Global.mode=trian", "Foo=1")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Train.epoch_iters=3", "Did you mean Train.epochs_iters?"),
        ("Train.lerning_rate=3", "Did you mean Train.learning_rate?"),
        ("Train.input=a.png", "Did you mean Predict.input?"),
        ("Predict.kernel_option.runmode=paddle", "Did you mean Predict.kernel_option.run_mode?"),
        ("train.batch_size=3", "Did you mean Train?"),
        ("Train.batch_size=0", "Train.batch_size: found 0; expected a number of images, 1 or more"),
        ("Train.batch_size=2.5", "Train.batch_size: found 2.5; expected a number of images"),
        ("Train.num_classes=True", "Train.num_classes: found True; expected a whole number from 1 to 100000"),
        (
            "Train.learning_rate=-1",
            "Train.learning_rate: found -1; expected a number greater than 0 and at most 1000",
        ),
        ("Train.image_size=31", "found 31; expected one or two numbers of at least 32 pixels"),
        ("Train.image_size=640.0", "found 640.0; expected one or two numbers of at least 32"),
        ("Train.image_size=[640]", "found [640]; expected one or two numbers of at least 32"),
        ("Train.image_size=[640, 16]", "expected one or two numbers of at least 32 pixels"),
        ("Global.device=gpu:x", "expected auto, cpu, gpu"),
        ("Global.device=cpu:0", "expected auto, cpu, gpu"),
        (
            "Global.mode=evalute",
            "should be 'check_dataset', 'train', 'folds', 'evaluate', 'compare', 'label_review', 'export', "
            "'predict', 'benchmark' or 'serve'",
        ),
        ("Global.output=None", "Global.output: found None"),
        ("Predict.input=[1, {}]", "Predict.input: found"),
        ("Predict.threshold=1.5", "Predict.threshold: found 1.5"),
        ("Train.dy2st=True", "remove the key"),
        ("Train.batch_size", "expected Section.key=value"),
        ("Train..x=1", "expected Section.key=value"),
        ("Train.batch_size.x=1", "Train.batch_size is a value"),
    ],
)
def test_error_names_key_value_and_fix(override: str, message: str) -> None:
    found = problems(override)
    assert len(found) == 1
    assert message in found[0]
    assert "-o" in found[0]


def test_problem_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mein Projekt ü.yaml"
    path.write_text("Global:\n  model: PP-YOLOE_seg-S\nTrain:\n  batch_size: many\n", encoding="utf-8")
    assert problems(name=str(path))[0].startswith(f"{path}:4: Train.batch_size: found 'many'")


def test_missing_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("Global:\n  mode: train\n")
    assert "Global.model: the key is missing" in problems(name=str(path))[0]


@pytest.mark.parametrize(
    "content", ["- a\n- b\n", "just text", "a: [1, 2", ""], ids=["list", "text", "broken", "empty"]
)
def test_file_that_is_not_a_mapping_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    assert str(path) in problems(name=str(path))[0]


def test_none_in_a_file_means_null(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("Global:\n  model: PP-YOLOE_seg-S\nTrain:\n  resume_path: None\n")
    assert load_config(str(path)).Train.resume_path is None


@pytest.mark.parametrize("device", ["cpu", "gpu", "gpu:0,1", "npu:0", "xpu:0", "mlu:0", "auto"])
def test_device_names_of_paddlex_are_understood(device: str) -> None:
    assert load_config("PP-YOLOE_seg-S.yaml", [f"Global.device={device}"]).Global.device == device


def test_cuda_means_gpu() -> None:
    assert load_config("PP-YOLOE_seg-S.yaml", ["Global.device=cuda:0"]).Global.device == "gpu:0"


@pytest.mark.parametrize(("value", "size"), [("320", 320), ("[480, 640]", (480, 640)), ("600", 600)])
def test_image_size_is_one_number_or_two(value: str, size: int | tuple[int, int]) -> None:
    assert load_config("PP-YOLOE_seg-S.yaml", [f"Train.image_size={value}"]).Train.image_size == size


def test_effective_configuration_reads_back_equal(tmp_path: Path) -> None:
    cfg = load_config(
        "PP-YOLOE_seg-S.yaml", ["Train.image_size=[320, 640]", "Predict.input=[a b.png, ü.png]"]
    )
    path = tmp_path / "config.yaml"
    path.write_text(cfg.to_yaml(), encoding="utf-8")
    assert load_config(str(path)) == cfg


def test_configuration_cannot_be_changed_after_loading() -> None:
    cfg = load_config("PP-YOLOE_seg-S.yaml")
    with pytest.raises(ValueError, match="frozen"):
        cfg.Train.batch_size = 3  # type: ignore[misc]
    assert isinstance(cfg, Config)
