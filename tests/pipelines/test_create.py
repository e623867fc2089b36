"""create_model and create_pipeline: arguments of both generations of PaddleX, thresholds, devices, errors."""

import io
import logging
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
from file_server import Server
from toy_model import SPEC, export_toy, image_with

from paddlex_seg import create_model, create_pipeline
from paddlex_seg.errors import BackendError, ConfigError, PaddlexSegError
from paddlex_seg.pipelines.model import Model
from paddlex_seg.runtime import device

RED, GREEN = "red thing", "绿色"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="paddlex_seg")
    return caplog


def labels(results: Any) -> list[list[str]]:
    return [[box["label"] for box in result["boxes"]] for result in results]


def pipeline_yaml(path: Path, **keys: Any) -> Path:
    lines = [f"    {key}: {value}" for key, value in keys.items()]
    path.write_text("\n".join(["SubModules:", "  InstanceSegmentation:", *lines, ""]), encoding="utf-8")
    return path


# Which model


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_name": "PP-YOLOE_seg-S", "model_dir": True},
        {"model_dir": True},
        {"model_name": True},
        {"model": True},
    ],
    ids=["name and folder", "folder", "old generation", "old keyword"],
)
@pytest.mark.parametrize("kind", [Path, str])
def test_a_model_is_opened_from_its_folder(
    model_dir: Path, both: np.ndarray, arguments: dict, kind: type
) -> None:
    model = create_model(**{key: kind(model_dir) if one is True else one for key, one in arguments.items()})
    assert model.model_name == "PP-YOLOE_seg-S"
    assert model.device == "cpu"
    assert model.labels == (RED, GREEN)
    assert labels(model.predict(both)) == labels(model(both)) == [[RED, GREEN]]


def test_without_a_folder_the_official_model_is_used(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def official_model(name: str, network: Any) -> Path:
        asked.append(name)
        return model_dir

    official(monkeypatch, official_model)
    assert create_model("PP-YOLOE_seg-S").model_name == "PP-YOLOE_seg-S"
    assert create_model(model="PP-YOLOE_seg-S").model_name == "PP-YOLOE_seg-S"
    old = {"Pipeline": {"model": "PP-YOLOE_seg-S"}}
    assert create_pipeline(old).model_name == "PP-YOLOE_seg-S"
    with pytest.raises(BackendError, match="the exported model is PP-YOLOE_seg-S"):  # not what is shipped
        create_pipeline("instance_segmentation")
    assert asked == ["PP-YOLOE_seg-S"] * 3 + ["Mask-RT-DETR-S"]


def test_an_official_model_is_downloaded_once(
    tmp_path: Path, both: np.ndarray, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_toy(tmp_path / "PP-YOLOE_seg-S_infer", small=False, pasted=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(exported, exported.name)
    server.content = buffer.getvalue()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PADDLEX_SEG_MODEL_SOURCE", server.url.rpartition("/")[0])
    assert labels(create_model("PP-YOLOE_seg-S").predict(both)) == [[RED, GREEN]]
    server.content = b"changed"
    assert labels(create_model("PP-YOLOE_seg-S").predict(both)) == [[RED, GREEN]]
    assert len(server.requests) == 1


def official(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    monkeypatch.setattr("paddlex_seg.pipelines.folders.official_model", function)


def test_a_name_of_a_model_comes_before_a_folder_of_that_name(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SOLOv2").mkdir()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_dir, tmp_path / "mine")
    official(monkeypatch, lambda name, network: pytest.fail("not asked for"))
    assert create_model("mine").model_name == "PP-YOLOE_seg-S"
    with pytest.raises(BackendError, match=r"inference.yml .* missing"):
        create_model("./SOLOv2")


def test_the_export_in_the_folder_of_a_run_is_used(
    model_dir: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(model_dir, tmp_path / "output" / "best_model" / "inference")
    for folder in (tmp_path / "output" / "best_model", tmp_path / "output"):
        log.clear()
        assert create_model(model_dir=folder).labels == (RED, GREEN)
        assert f"{folder}: the exported model in it is used" in log.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "create_model: name a model, or the folder of an exported model"),
        ({"model_name": "a", "model": "b"}, "model and model_name mean the same"),
        ({"model_name": "pp-yoloe_seg-s"}, "no model 'pp-yoloe_seg-s'. Did you mean PP-YOLOE_seg-S?"),
        ({"model_name": "PicoDet-S"}, "The models are: Cascade-MaskRCNN-ResNet50-FPN, "),
        ({"model_name": "out/inference"}, "model_dir: out/inference does not exist ("),
        ({"model_name": "SOLOv2", "model_dir": "out"}, "model_dir: out does not exist ("),
        ({"model_dir": __file__}, f"model_dir: {__file__} is a file; expected the folder of an"),
        ({"model_dir": "a\0b"}, "expected a text without the character U+0000"),
        ({"model_name": 5}, "create_model: model_name: found 5; expected a text"),
        ({"model_name": ""}, "expected a text that is not empty"),
        ({"model_name": "SOLOv2", "batch_size": 0}, "batch_size: found 0; expected a whole number from 1"),
        ({"model_name": "SOLOv2", "batch_size": True}, "batch_size: found True; expected a whole number"),
        ({"model_name": "SOLOv2", "batch_size": 1.5}, "batch_size: found 1.5; expected a whole number"),
        ({"model_name": "SOLOv2", "device": "gp"}, "device: found 'gp'; expected auto, cpu, gpu"),
        ({"model_name": "SOLOv2", "device": 0}, "device: found 0; expected auto, cpu, gpu"),
        (
            {"model_name": "SOLOv2", "engine": "transformers"},
            "engine: found 'transformers'; should be 'paddle'",
        ),
        ({"model_name": "SOLOv2", "hpi_config": 1}, "hpi_config: found 1; expected a section"),
    ],
)
def test_a_wrong_argument_is_explained(arguments: dict, message: str) -> None:
    kind = BackendError if message.startswith("model_dir: ") else ConfigError
    with pytest.raises(kind, match=re.escape(message)):
        create_model(**arguments)


def test_the_name_must_be_that_of_the_exported_model(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the exported model is PP-YOLOE_seg-S"):
        create_model("Mask-RT-DETR-S", model_dir)
    own = export_toy(tmp_path / "own", spec=replace(SPEC, model_name="PP-YOLOE_seg-mine"))
    assert create_model("PP-YOLOE_seg-mine", own).model_name == "PP-YOLOE_seg-mine"
    nameless = export_toy(tmp_path / "nameless", spec=replace(SPEC, model_name=""))
    assert create_model("PP-YOLOE_seg-S", nameless).model_name == "PP-YOLOE_seg-S"
    with pytest.raises(ConfigError, match="no model 'PP-YOLOE_seg-M'"):
        create_model("PP-YOLOE_seg-M", nameless)
    with pytest.raises(BackendError, match="the architecture PPYOLOE, which SOLOv2 has not"):
        create_model("SOLOv2", nameless)


# Settings of PaddleX that do something else here


def test_settings_that_are_not_used_are_named_once(model_dir: Path, log: pytest.LogCaptureFixture) -> None:
    create_model(
        model_dir=model_dir,
        use_hpip=True,
        hpi_config={"backend": "paddle", "auto_config": False},
        pp_option=object(),
        img_size=640,
        engine_config={"cpu_threads": 8},
    )
    texts = [record.getMessage() for record in log.records]
    assert [text.split(":")[0].split(" is ")[0] for text in texts] == [
        "img_size",
        "hpi_config",
        "pp_option",
        "engine_config",
    ]


def test_usual_settings_say_nothing(model_dir: Path, log: pytest.LogCaptureFixture) -> None:
    create_model(model_dir=model_dir, use_hpip=False, hpi_config=None, engine="paddle_static", device="cpu")
    assert not log.text


def test_onednn_can_be_asked_for(model_dir: Path, both: np.ndarray) -> None:
    model = create_model(model_dir=model_dir, engine_config={"run_mode": "mkldnn"}, device="cpu")
    assert labels(model.predict(both)) == [[RED, GREEN]]


@pytest.mark.parametrize("name", ["gpu:0", "gpu:1,0"])
def test_a_device_that_is_not_there_is_explained(
    model_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_count", lambda kind: 0)
    with pytest.raises(BackendError, match=f"device is {name}, but .* Use device=cpu, or install"):
        create_model(model_dir=model_dir, device=name)


@pytest.mark.parametrize("form", ["old", "new"])
def test_a_device_of_a_file_is_told_with_its_line(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(device, "_count", lambda kind: 0)
    path = tmp_path / "p.yaml"
    if form == "old":
        path.write_text(f"Pipeline:\n  model: '{model_dir}'\n  device: gpu\n", encoding="utf-8")
        where = f"{path}:3: Pipeline.device is gpu, but .* Use Pipeline.device=cpu"
    else:
        pipeline_yaml(path, model_dir=f"'{model_dir}'")
        path.write_text(f"device: gpu\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
        where = f"{path}:1: device is gpu, but .* Use device=cpu"
    with pytest.raises(BackendError, match=where):
        create_pipeline(path)
    assert create_pipeline(path, device="cpu").device == "cpu"


def test_of_several_devices_the_first_is_used(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "_count", lambda kind: 2)
    opened: list[str] = []

    def open_predictor(folder: Path, *, device: str, **options: Any) -> Any:
        opened.append(device)
        return SimpleNamespace(labels=SPEC.labels, max_detections=None, bands=None)

    monkeypatch.setattr("paddlex_seg.pipelines.model.open_predictor", open_predictor)
    assert create_model(model_dir=model_dir, device="gpu:1,0").device == "gpu:1"
    assert "Only the first device of gpu:1,0 is used" in log.text
    assert create_model(model_dir=model_dir).device == "gpu:0"  # a GPU is used if there is one
    assert opened == ["gpu:1", "gpu:0"]


# Thresholds


def test_a_threshold_of_the_call_beats_all_others(model_dir: Path, both: np.ndarray, tmp_path: Path) -> None:
    exported = export_toy(tmp_path / "strict", spec=replace(SPEC, draw_threshold=0.7))
    assert labels(create_model(model_dir=exported).predict(both)) == [[RED]]  # 0.8, not 0.6
    path = pipeline_yaml(tmp_path / "p.yaml", model_dir=f"'{exported}'", threshold=0.9)
    assert labels(create_pipeline(path).predict(both)) == [[]]
    pipeline = create_pipeline(path, threshold=0.5)
    assert labels(pipeline.predict(both)) == [[RED, GREEN]]
    assert labels(pipeline.predict(both, 0.95)) == labels(pipeline(both, threshold=1)) == [[]]
    assert labels(pipeline.predict(both, threshold=0)) == [[RED, GREEN]]


def test_each_class_takes_the_first_level_that_names_it(both: np.ndarray, tmp_path: Path) -> None:
    exported = export_toy(tmp_path / "strict", spec=replace(SPEC, draw_threshold=0.99))
    path = pipeline_yaml(tmp_path / "p.yaml", model_dir=f"'{exported}'", threshold=f"{{{RED}: 0.1}}")
    assert labels(create_pipeline(path).predict(both)) == [[RED]]
    assert labels(create_pipeline(path, threshold={1: 0.2}).predict(both)) == [[RED, GREEN]]
    assert labels(create_pipeline(path, threshold=0.7).predict(both)) == [[RED]]
    assert labels(create_pipeline(path, threshold={1: 0.2}).predict(both, threshold={0: 0.9})) == [[GREEN]]


def test_a_threshold_of_zero_is_one(model_dir: Path, both: np.ndarray) -> None:
    faint = (both * 0.2).astype(np.uint8)  # scores of 0.16 and 0.12
    assert labels(create_model(model_dir=model_dir).predict(faint)) == [[]]
    assert labels(create_model(model_dir=model_dir, threshold=0).predict(faint)) == [[RED, GREEN]]


@pytest.mark.parametrize("wrong", [float("nan"), 1.5, True, "0.5", {"red": 0.5}, {2: 0.5}, {RED: None}])
def test_a_wrong_threshold_is_refused_at_the_call(model_dir: Path, both: np.ndarray, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="^threshold"):
        create_model(model_dir=model_dir, threshold=wrong)
    model = create_model(model_dir=model_dir)
    with pytest.raises(ConfigError, match="^threshold"):
        model.predict(both, threshold=wrong)
    with pytest.raises(ConfigError, match="^threshold"):
        create_pipeline({"SubModules": {"InstanceSegmentation": {"model_dir": model_dir}}}).predict(
            both, wrong
        )


def test_a_class_that_the_file_names_and_the_model_has_not_is_told_with_its_line(
    model_dir: Path, tmp_path: Path
) -> None:
    path = pipeline_yaml(tmp_path / "p.yaml", model_dir=f"'{model_dir}'", threshold="{red thin: 0.5}")
    where = f"{path}:4: SubModules.InstanceSegmentation.threshold: there is no class 'red thin'. Did you mean"
    with pytest.raises(ConfigError, match=re.escape(where)):
        create_pipeline(path)


# Pipelines


@pytest.mark.parametrize("form", ["new", "old"])
@pytest.mark.parametrize("place", ["current folder", "beside the file"])
def test_a_relative_folder_is_that_of_the_current_folder_or_beside_the_file(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: str
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    shutil.copytree(
        model_dir, tmp_path / ("work" if place == "current folder" else "configs") / "best" / "model"
    )
    path = tmp_path / "configs" / "mine.yml"
    if form == "new":
        pipeline_yaml(path, model_name="PP-YOLOE_seg-S", model_dir="best/model")
    else:
        path.write_text("Pipeline:\n  model: best/model\n")
    assert create_pipeline(str(path)).model_name == "PP-YOLOE_seg-S"
    assert create_pipeline(config="../configs/mine.yml").model_name == "PP-YOLOE_seg-S"


def test_a_missing_folder_is_told_with_its_line(tmp_path: Path) -> None:
    path = pipeline_yaml(tmp_path / "p.yaml", model_name="SOLOv2", model_dir="best/model")
    where = f"{path}:4: SubModules.InstanceSegmentation.model_dir: best/model does not exist ("
    with pytest.raises(BackendError, match=re.escape(where)) as caught:
        create_pipeline(path)
    assert f"nor {tmp_path}/best/model" in str(caught.value)


def test_a_misspelt_model_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("Pipeline:\n  batch_size: 1\n  model: SOLO\n")
    with pytest.raises(
        ConfigError, match=r"p.yaml:3: Pipeline.model: there is no model 'SOLO'. Did you mean SOLOv2"
    ):
        create_pipeline(tmp_path / "p.yaml")


def test_a_mapping_is_a_pipeline(model_dir: Path, both: np.ndarray) -> None:
    config = {"Pipeline": {"model": model_dir, "batch_size": 2, "device": "cpu"}}
    assert labels(create_pipeline(config).predict([both, both, both])) == [[RED, GREEN]] * 3
    assert labels(create_pipeline(config=config, batch_size=1).predict(both)) == [[RED, GREEN]]


# The object


def test_results_are_yielded_while_inputs_are_read(model_dir: Path, both: np.ndarray) -> None:
    read = []

    def images() -> Any:
        for number in range(3):
            read.append(number)
            yield both

    results = create_model(model_dir=model_dir).predict(images())
    assert not read
    next(results)
    assert len(read) == 1
    assert len(list(results)) == 2


def test_batch_size_of_the_call_does_not_change_results(model_dir: Path, both: np.ndarray) -> None:
    model = create_model("PP-YOLOE_seg-S", model_dir, batch_size=2)
    assert labels(model.predict([both] * 5, batch_size=3)) == labels(model.predict([both] * 5))
    assert labels(model.predict([both] * 5, 3, 0.7)) == [[RED]] * 5  # PaddleX's order of arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "two"}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"masks": "bitmap"}, "masks is 'bitmap'; expected one of rle, polygons"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_call(
    model_dir: Path, both: np.ndarray, arguments: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(model_dir=model_dir).predict(both, **arguments)


@pytest.mark.parametrize("form", ["rle", "polygons", "crops", "png", "dense"])
def test_masks_have_the_form_that_is_asked_for(model_dir: Path, both: np.ndarray, form: Any) -> None:
    (of_model,) = create_model(model_dir=model_dir).predict(both, masks=form)
    (of_pipeline,) = create_pipeline({"Pipeline": {"model": model_dir}}).predict(both, masks=form)
    kinds = {"polygons": list, "dense": np.ndarray}
    assert [type(mask) for mask in of_model["masks"]] == [kinds.get(form, dict)] * 2
    assert repr(of_model["masks"]) == repr(of_pipeline["masks"])


def test_a_closed_model_says_so(model_dir: Path, both: np.ndarray) -> None:
    with create_model(model_dir=model_dir) as model:
        assert isinstance(model, Model)
        assert labels(model.predict(both)) == [[RED, GREEN]]
    for _ in range(2):
        with pytest.raises(PaddlexSegError, match=r"Model\('PP-YOLOE_seg-S', device='cpu'\) is closed"):
            model.predict(both)
        model.close()


def test_paddle_that_is_not_installed_is_explained(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install paddlepaddle==3.2.2"):
        create_model(model_dir=model_dir)


def test_the_device_of_other_paddle_code_stays(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle.device, "set_device", lambda name: pytest.fail(f"set to {name}"))
    monkeypatch.setattr(paddle.base.core, "set_num_threads", lambda number: pytest.fail("set"))
    create_model(model_dir=model_dir)


def test_threads_get_their_own_results(model_dir: Path) -> None:
    images = [image_with((64, 96 + 8 * i), red=np.s_[8 : 20 + 4 * i, 8:80])[..., ::-1] for i in range(8)]
    model = create_model(model_dir=model_dir, device="cpu")
    alone = [result.to_json() for result in model.predict(images)]

    def predict(number: int) -> list[dict[str, Any]]:
        turned = images[number:] + images[:number]
        return [result.to_json() for result in model.predict(turned)]

    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for number, found in enumerate(threads.map(predict, range(8))):
                assert found == alone[number:] + alone[:number]
