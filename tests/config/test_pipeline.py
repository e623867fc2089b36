"""Pipeline YAML of both generations of PaddleX: what it sets, and what is wrong with it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from paddlex_seg.catalog import MODELS
from paddlex_seg.config.pipeline import (
    ModelSettings,
    find_pipeline,
    model_names,
    read_pipeline,
    settings_of_arguments,
)
from paddlex_seg.config.read import find_config, load_config
from paddlex_seg.errors import ConfigError

# As in PaddleX's tutorials.
NEW = """\
pipeline_name: instance_segmentation

SubModules:
  InstanceSegmentation:
    module_name: instance_segmentation
    model_name: Mask-RT-DETR-S
    model_dir: null # Replace this with the local path to your trained model weights
    batch_size: 1
    threshold: 0.5
"""
OLD = """\
Global:
  pipeline_name: instance_segmentation
  input: https://paddle-model-ecology.bj.bcebos.com/paddlex/imgs/demo_image/x.png

Pipeline:
  model: Mask-RT-DETR-S  # Can be modified to the local path of the fine-tuned model
  device: "gpu"
  batch_size: 1
"""


def read(text: str, folder: Path, **arguments: Any) -> ModelSettings:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return read_pipeline(path, None, **arguments)


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_the_new_generation_is_read(tmp_path: Path) -> None:
    settings = read(NEW, tmp_path)
    assert (settings.model_name, settings.model_dir) == ("Mask-RT-DETR-S", None)
    assert (settings.device, settings.batch_size, settings.threshold) == ("auto", 1, 0.5)
    assert not settings.notices


def test_the_old_generation_is_read(tmp_path: Path) -> None:
    settings = read(OLD, tmp_path)
    assert (settings.model_name, settings.model_dir) == ("Mask-RT-DETR-S", None)
    assert (settings.device, settings.batch_size, settings.threshold) == ("gpu", 1, None)


@pytest.mark.parametrize(
    ("model", "is_folder"),
    [
        ("PP-YOLOE_seg-S", False),
        ("./PP-YOLOE_seg-S", True),
        ("out/best_model/inference", True),
        ("'C:\\models\\a'", True),
        ("beside", True),  # it exists
        ("nowhere", False),
    ],
)
def test_an_old_model_is_a_name_or_a_folder(tmp_path: Path, model: str, is_folder: bool) -> None:
    (tmp_path / "beside").mkdir()
    settings = read(f"Pipeline:\n  model: {model}\n", tmp_path)
    name = model.strip("'")
    assert (settings.model_dir, settings.model_name) == ((name, None) if is_folder else (None, name))


def test_every_key_of_paddlex_is_accepted(tmp_path: Path) -> None:
    settings = read(
        "device: gpu:1\nuse_hpip: True\nhpi_config: {backend: onnxruntime}\nengine: paddle_static\n"
        f"engine_config: {{run_mode: mkldnn, cpu_threads: 4}}\n{NEW}"
        "    device: cpu\n    use_hpip: False\n"
        "Serving: {visualize: True, return_urls: False, extra: {a: 1}}\n",
        tmp_path,
    )
    assert settings.device == "cpu"  # of the module, before that of the pipeline
    assert settings.run_mode == "mkldnn"
    assert len(settings.notices) == 2
    assert settings.backend is None
    assert settings.notices[0] == "hpi_config is not used, because use_hpip is off."
    assert settings.notices[1] == "engine_config: cpu_threads is not used; only run_mode is."


def test_old_names_are_answered_by_new_ones(tmp_path: Path) -> None:
    old = f"{OLD}  use_hpip: True\n  hpi_params: {{serial_number: 5}}\n  pp_option: {{run_mode: trt_fp16}}\n"
    settings = read(old, tmp_path)
    assert settings.backend == "auto"
    licence, options = settings.notices
    assert licence == "hpi_params: serial_number is not used; only backend is."
    assert options.startswith("pp_option is not used. engine_config")


@pytest.mark.parametrize(
    ("keys", "backend", "notice"),
    [
        ("", None, None),
        ("use_hpip: True", "auto", None),
        ("engine: hpi", "auto", None),
        ("use_hpip: False", None, None),
        ("backend: openvino", "openvino", None),
        ("backend: auto", "auto", None),
        ("backend: paddle, use_hpip: True", "paddle", None),
        ("hpi_config: {backend: openvino}", "openvino", None),
        ("use_hpip: True, hpi_config: {backend: onnxruntime}", "onnxruntime", None),
        ("hpi_params: {backend: paddle}", "paddle", None),
        ("use_hpip: True, hpi_config: {backend: tensorrt}", "auto", "the backend tensorrt is not offered"),
        ("backend: paddle, hpi_config: {backend: openvino}", "paddle", "because backend is set"),
        ("use_hpip: True, hpi_config: {auto_config: True}", "auto", "auto_config is not used; only backend"),
    ],
)
def test_high_performance_inference_is_a_backend(
    tmp_path: Path, keys: str, backend: str | None, notice: str | None
) -> None:
    text = "".join(f"    {one}\n" for one in re.split(r", (?=\w+:)", keys) if one)
    settings = read(f"{NEW}{text}", tmp_path)
    assert settings.backend == backend
    assert len(settings.notices) == (notice is not None)
    assert notice is None or notice in settings.notices[0]
    argued = settings_of_arguments("create_model", model_name="SOLOv2", **yaml.safe_load(f"{{{keys}}}"))
    assert argued.backend == backend


def test_backend_and_precision_are_checked(tmp_path: Path) -> None:
    assert read(f"precision: bf16\n{NEW}", tmp_path).precision == "bf16"
    with pytest.raises(ConfigError, match="backend: found 'tensorrt'; should be 'paddle', 'onnxruntime'"):
        read(f"backend: tensorrt\n{NEW}", tmp_path)
    with pytest.raises(ConfigError, match="precision: found fp16; should be 'f32'"):
        read(f"precision: fp16\n{NEW}", tmp_path)


def test_arguments_beat_the_file(tmp_path: Path) -> None:
    settings = read(f"device: cpu\n{NEW}", tmp_path, device="CUDA:1", batch_size=4, use_hpip=None)
    assert (settings.device, settings.batch_size) == ("gpu:1", 4)
    assert read(f"use_hpip: True\n{NEW}", tmp_path, use_hpip=False).notices == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("1e-1", 0.1),
        ("{bolt: 0.3, 垫圈: 0.5}", {"bolt": 0.3, "垫圈": 0.5}),
        ("{0: 0.3}", {"0": 0.3}),
        ("\n      bolt: 0.3", {"bolt": 0.3}),
        ("null", None),
    ],
)
def test_a_threshold_is_a_number_or_one_for_each_class(tmp_path: Path, value: str, expected: Any) -> None:
    assert read(NEW.replace("threshold: 0.5", f"threshold: {value}"), tmp_path).threshold == expected
    if "\n" not in value:
        cfg = load_config("PP-YOLOE_seg-S.yaml", [f"Predict.threshold={value}"])
        assert cfg.Predict.threshold == expected


def test_a_threshold_of_one_class_can_be_overridden() -> None:
    cfg = load_config("PP-YOLOE_seg-S.yaml", ["Predict.threshold.bolt=0.3", "Predict.threshold.a b=1"])
    assert cfg.Predict.threshold == {"bolt": 0.3, "a b": 1}
    assert "bolt: 0.3" in cfg.to_yaml()


@pytest.mark.parametrize("value", ["2", "-1", "nan", "True", "[0.5]", "{bolt: 2}", "{bolt: {a: 1}}", "high"])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    (problem,) = problems(NEW.replace("threshold: 0.5", f"threshold: {value}"), tmp_path)
    assert problem.startswith("my.yaml:9: SubModules.InstanceSegmentation.threshold: found ")
    assert "expected a number from 0 to 1" in problem
    with pytest.raises(ConfigError, match=r"^-o: Predict.threshold: found .*; expected a number from 0 to 1"):
        load_config("PP-YOLOE_seg-S.yaml", [f"Predict.threshold={value}"])


def test_all_problems_are_told_with_their_lines(tmp_path: Path) -> None:
    text = (
        "pipeline_name: object_detection\ndevise: cpu\nSubModules:\n  InstanceSegmentation:\n"
        "    module_name: detection\n    model_nam: x\n    batch_size: two\n    threshold: {bolt:0.5}\n"
        "Serving:\n  visualise: true\n"
    )
    found = problems(text, tmp_path)
    section = "SubModules.InstanceSegmentation"
    assert sorted(found, key=lambda line: int(line.split(":")[1])) == [
        "my.yaml:1: pipeline_name: found 'object_detection'; expected instance_segmentation, the only "
        "pipeline of this toolkit.",
        "my.yaml:2: devise: there is no such key. Did you mean device?",
        f"my.yaml:5: {section}.module_name: found 'detection'; expected instance_segmentation, the only "
        "pipeline of this toolkit.",
        f"my.yaml:6: {section}.model_nam: there is no such key. Did you mean {section}.model_name?",
        f"my.yaml:7: {section}.batch_size: found 'two'; expected a whole number from 1 to 100000.",
        f"my.yaml:8: {section}.threshold: found {{'bolt:0.5': None}}; expected a number from 0 to 1 for each "
        "class. Write a space after the colon: bolt: 0.5.",
        "my.yaml:10: Serving.visualise: there is no such key. Did you mean Serving.visualize?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys with values, such as sections, found nothing"),
        ("- a\n", "found a list"),
        ("a: 1\n", "expected the section SubModules (or Pipeline, PaddleX's old form); found a."),
        ("Pipeline: {model: a}\nSubModules: {}\n", "found SubModules and Pipeline"),
        ("Global: {model: SOLOv2}\nTrain: {}\n", "this is the configuration of a module, for -c"),
        ("SubModules:\n", "SubModules.InstanceSegmentation.model_name is missing; expected one of: Cascade"),
        ("Pipeline: {batch_size: 1}\n", "Pipeline.model is missing"),
        ("SubModules: x\n", "my.yaml:1: SubModules: found 'x'; expected a section"),
        (
            "SubModules: {ObjectDetection: {model_name: PicoDet-S}}\n",
            "SubModules.ObjectDetection: there is no such key. Valid here are: InstanceSegmentation.",
        ),
        (f"{NEW}    engine: onnxruntime\n", "engine: found 'onnxruntime'; should be 'paddle', "),
        (
            f"{NEW}    engine_config: {{run_mode: trt_int8}}\n",
            "run_mode: found trt_int8; should be 'paddle', ",
        ),
        (f"{NEW}    hpi_config: x\n", "hpi_config: found 'x'; expected a section"),
        (
            f"{NEW}    device: gp\n",
            "my.yaml:10: SubModules.InstanceSegmentation.device: found 'gp'; expected auto",
        ),
        ("SubModules:\n\tx: 1\n", "my.yaml:2: this is not YAML"),
    ],
)
def test_another_content_is_explained(tmp_path: Path, text: str, message: str) -> None:
    assert message in "\n".join(problems(text, tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("object_detection", "object_detection: there is no pipeline of this name. This toolkit has one"),
        ("OCR", "OCR: there is no pipeline of this name"),
        ("Instance-Segmentation", "Did you mean instance_segmentation?"),
        ("SOLOv2", "this is a model, not a pipeline"),
        ("nowhere.YML", "nowhere.YML: there is no such file (absolute path: "),
        ("a\0b", "there is no pipeline of this name"),
        (".", ".: this is a folder. Name the YAML file"),
        (5, "found 5; expected instance_segmentation, the path of a YAML file, or a mapping"),
    ],
)
def test_a_name_that_is_no_pipeline_is_answered(name: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_pipeline(name, None)


def test_a_pipeline_is_a_name_a_path_or_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.YML").write_text(NEW)
    (tmp_path / "no_ending").write_text(OLD)
    monkeypatch.chdir(tmp_path)
    content = {"SubModules": {"InstanceSegmentation": {"model_name": "SOLOv2", "model_dir": Path("x")}}}
    assert read_pipeline("instance_segmentation", None).model_name == "Mask-RT-DETR-S"
    assert read_pipeline("mine.YML", None).model_name == "Mask-RT-DETR-S"
    assert read_pipeline("no_ending", None).device == "gpu"
    assert read_pipeline(None, "mine.YML").threshold == 0.5
    assert read_pipeline("instance_segmentation", content).model_dir == "x"
    assert read_pipeline(content, None).model_name == "SOLOv2"
    assert content["SubModules"]["InstanceSegmentation"]["model_dir"] == Path("x")


def test_numbers_of_a_mapping_are_those_of_python() -> None:
    module = {"model_name": "SOLOv2", "threshold": {0: np.float32(0.25), "0": 1}, "batch_size": np.int64(2)}
    settings = read_pipeline({"SubModules": {"InstanceSegmentation": module}}, None)
    assert settings.threshold == {0: 0.25, "0": 1}
    assert settings.batch_size == 2


def test_one_source_is_enough() -> None:
    with pytest.raises(ConfigError, match="name a pipeline, such as 'instance_segmentation'"):
        read_pipeline(None, None)
    with pytest.raises(ConfigError, match="found pipeline='OCR' and config"):
        read_pipeline("OCR", {})


def test_the_shipped_pipeline_is_that_of_the_tutorial(tmp_path: Path) -> None:
    shipped = read_pipeline("instance_segmentation", None)
    tutorial = read(NEW, tmp_path)
    assert (shipped.model_name, shipped.threshold) == (tutorial.model_name, tutorial.threshold)
    assert find_pipeline("instance_segmentation").parent.name == "pipelines"


def test_configurations_of_modules_and_pipelines_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no shipped configuration with that name"):
        find_config("instance_segmentation.yaml")
    (tmp_path / "p.yaml").write_text(NEW)
    with pytest.raises(ConfigError, match="p.yaml:3: SubModules: this is the configuration of a pipeline"):
        load_config(str(tmp_path / "p.yaml"))


def test_the_names_of_models_are_those_of_the_catalog() -> None:
    assert set(model_names()) == MODELS.keys()
