"""Writing and reading inference.yml, including files with problems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_model import SPEC

from paddlex_seg.data.preprocess import preprocess as make_input
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.export_spec import (
    read_inference_yml,
    require_model_name,
    write_class_thresholds,
    write_inference_yml,
)
from paddlex_seg.inference.thresholds import class_thresholds
from paddlex_seg.structures import MaskFrame, PreprocessSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PREPROCESSES = {
    "pp-yoloe_seg": PreprocessSpec(size_hw=(640, 640)),
    "r-cnn": PreprocessSpec(size_hw=(800, 1333), keep_ratio=True, pad_stride=32, **IMAGENET),
    "solov2": PreprocessSpec((800, 1333), True, 1, **IMAGENET, pad_stride=32, normalize_first=True),
}


@pytest.mark.parametrize("mask_frame", ["box", "image", "image_uncut", "image_logits"])
@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_inference_yml_reads_back_as_written(
    tmp_path: Path, preprocess: PreprocessSpec, mask_frame: MaskFrame
):
    labels = ("yes", "1", "no: way", "螺栓")
    spec = replace(
        SPEC,
        preprocess=preprocess,
        labels=labels,
        mask_frame=mask_frame,
        max_detections=7,
        class_thresholds={0: 0.25, 3: 0.75},
    )
    write_inference_yml(tmp_path / "inference.yml", spec)
    assert read_inference_yml(tmp_path / "inference.yml") == spec
    assert [file.name for file in tmp_path.iterdir()] == ["inference.yml"]


def test_class_thresholds_are_added_to_a_file_and_all_else_stays(tmp_path: Path):
    path = tmp_path / "inference.yml"
    write_inference_yml(path, replace(SPEC, labels=("bolt", "nut", "washer")))
    document = yaml.safe_load(path.read_text(encoding="utf-8")) | {"of_another_tool": [1, 2]}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    write_class_thresholds(path, [0.123456, None, 1.0])
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == document | {
        "class_thresholds": [0.1235, None, 1.0]
    }
    levels = read_inference_yml(path).thresholds
    assert class_thresholds(levels, ("bolt", "nut", "washer")).tolist() == pytest.approx([0.1235, 0.5, 1.0])
    assert class_thresholds((0.7, *levels), ("bolt", "nut", "washer")).tolist() == pytest.approx([0.7] * 3)


@pytest.mark.parametrize("wrong", [0.5, [0.5], ["0.5", None], [2, 0.5], [True, 0.5]])
def test_wrong_class_thresholds_are_named(tmp_path: Path, wrong: object):
    path = tmp_path / "inference.yml"
    write_inference_yml(path, replace(SPEC, labels=("bolt", "nut")))
    document = yaml.safe_load(path.read_text(encoding="utf-8")) | {"class_thresholds": wrong}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(BackendError, match="class_thresholds"):
        read_inference_yml(path)


def test_inference_yml_has_the_keys_and_arguments_that_paddlex_reads(tmp_path: Path):
    write_inference_yml(tmp_path / "inference.yml", replace(SPEC, preprocess=PREPROCESSES["r-cnn"]))
    document = yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8"))
    assert list(document) == [
        "mode",
        "draw_threshold",
        "metric",
        "use_dynamic_shape",
        "Global",
        "arch",
        "min_subgraph_size",
        "mask",
        "mask_frame",
        "Preprocess",
        "label_list",
    ]
    assert document["Global"] == {"model_name": "PP-YOLOE_seg-S"}
    assert document["Preprocess"] == [
        {"interp": 2, "keep_ratio": True, "target_size": [800, 1333], "type": "Resize"},
        {
            "is_scale": True,
            "mean": [0.485, 0.456, 0.406],
            "norm_type": "mean_std",
            "std": [0.229, 0.224, 0.225],
            "type": "NormalizeImage",
        },
        {"type": "Permute"},
        {"stride": 32, "type": "PadStride"},
    ]


def test_an_official_inference_yml_is_read(tmp_path: Path):
    text = """
mode: paddle
draw_threshold: 0.5
metric: COCO
use_dynamic_shape: false
Global:
  model_name: PP-YOLOE_seg-S
arch: PPYOLOE
min_subgraph_size: 3
mask: true
Preprocess:
- interp: BICUBIC
  keep_ratio: false
  target_size:
  - 640
  - 640
  type: Resize
- mean: [0.0, 127.5, 255.0]
  is_scale: false
  norm_type: none
  std: [255.0, 51.0, 25.5]
  type: NormalizeImage
- type: Permute
label_list: [person, bicycle]
Hpi: {}
"""
    (tmp_path / "inference.yml").write_text(text)
    spec = read_inference_yml(tmp_path / "inference.yml")
    assert spec.labels == ("person", "bicycle")
    assert spec.mask_frame == "image"
    assert spec.preprocess.interpolation == 2
    assert spec.preprocess.mean == pytest.approx((0.0, 0.5, 1.0))
    assert spec.preprocess.std == pytest.approx((1.0, 0.2, 0.1))


@pytest.mark.parametrize("mask_frame", ["window", "original"])
def test_all_problems_of_an_inference_yml_are_reported_at_once(tmp_path: Path, mask_frame: str):
    write_inference_yml(tmp_path / "inference.yml", SPEC)
    document = yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8"))
    del document["label_list"]
    document["draw_threshold"] = "high"
    document["mask_frame"] = mask_frame
    document["Preprocess"][0] |= {"target_size": [640, 0], "interp": "MAGIC"}
    document["Preprocess"][1]["std"] = [1.0, 0.0, 1.0]
    (tmp_path / "inference.yml").write_text(yaml.safe_dump(document))
    with pytest.raises(BackendError) as caught:
        read_inference_yml(tmp_path / "inference.yml")
    for words in (
        "inference.yml",
        "label_list",
        "draw_threshold",
        "'high'",
        f"mask_frame is {mask_frame!r}, expected one of box, image, image_uncut, image_logits",
        "target_size is [640, 0]",
        "MAGIC",
        "zero",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "operators",
    [None, [], [{"type": "WarpAffine"}], [{"type": "Resize", "target_size": [64, 64]}], "Resize"],
    ids=["missing", "empty", "unsupported", "incomplete", "no list"],
)
def test_an_unsupported_preprocess_is_refused(tmp_path: Path, operators):
    write_inference_yml(tmp_path / "inference.yml", SPEC)
    document = yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8"))
    document["Preprocess"] = operators
    (tmp_path / "inference.yml").write_text(yaml.safe_dump(document))
    with pytest.raises(BackendError, match="Preprocess"):
        read_inference_yml(tmp_path / "inference.yml")


def test_text_that_is_no_yaml_is_refused_with_the_file_named(tmp_path: Path):
    (tmp_path / "inference.yml").write_text("a: [1, 2")
    with pytest.raises(BackendError, match="inference.yml"):
        read_inference_yml(tmp_path / "inference.yml")


PADDLEDETECTION = """
arch: SOLOv2
draw_threshold: 0.5
label_list: [bolt, nut]
mask: true
metric: COCO
min_subgraph_size: 60
mode: paddle
use_dynamic_shape: true
"""


def read_paddledetection(folder: Path, preprocess: str, text: str = PADDLEDETECTION, name="infer_cfg.yml"):
    (folder / name).write_text(f"{text}\nPreprocess:\n{preprocess}")
    return read_inference_yml(folder / name)


def test_a_description_of_paddledetection_is_read(tmp_path: Path):
    spec = read_paddledetection(
        tmp_path,
        """
- {is_scale: true, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], type: NormalizeImage}
- {interp: 1, keep_ratio: true, target_size: [800, 1333], type: Resize}
- {type: Permute}
- {stride: 32, type: PadStride}
""",
    )
    assert spec.preprocess == PREPROCESSES["solov2"]
    assert (spec.model_name, spec.arch, spec.labels, spec.draw_threshold) == (
        "",
        "SOLOv2",
        ("bolt", "nut"),
        0.5,
    )


def test_a_threshold_that_is_missing_is_that_of_all_exports(tmp_path: Path):
    text = PADDLEDETECTION.replace("draw_threshold: 0.5", "")
    preprocess = "- {target_size: 640, type: Resize}\n- {type: NormalizeImage}\n- {type: Permute}\n"
    assert read_paddledetection(tmp_path, preprocess, text).draw_threshold == 0.5


def test_missing_arguments_are_those_of_the_toolkit_that_wrote_the_file(tmp_path: Path):
    preprocess = "\n".join(
        ["- {target_size: 640, type: Resize}"]
        + [f"- {{type: {name}}}" for name in ("NormalizeImage", "Permute", "PadStride")]
    )
    paddledetection = read_paddledetection(tmp_path, preprocess).preprocess
    paddlex = read_paddledetection(tmp_path, preprocess, name="inference.yml").preprocess
    assert paddledetection == PreprocessSpec((640, 640), True, 1, **IMAGENET)
    assert paddlex == PreprocessSpec((640, 640), False, 2, **IMAGENET, pad_stride=32)


def test_norm_type_none_means_no_mean_and_std_in_paddledetection(tmp_path: Path):
    preprocess = """
- {target_size: [640, 640], type: Resize, interp: 2, keep_ratio: false}
- {norm_type: none, type: NormalizeImage, mean: [0.5, 0.5, 0.5], std: [0.1, 0.1, 0.1]}
- {type: Permute}
"""
    assert read_paddledetection(tmp_path, preprocess).preprocess == PREPROCESSES["pp-yoloe_seg"]
    used = read_paddledetection(tmp_path, preprocess, name="inference.yml").preprocess
    assert (used.mean, used.std) == ((0.5,) * 3, (0.1,) * 3)


def test_a_graph_that_normalizes_gets_values_up_to_255(tmp_path: Path):
    preprocess = "- {target_size: 64, type: Resize, keep_ratio: false, interp: 1}\n- {type: Permute}\n"
    spec = read_paddledetection(tmp_path, preprocess).preprocess
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(make_input(image, spec).image, image.transpose(2, 0, 1), atol=1e-4)


def test_the_model_of_a_folder_must_be_the_one_asked_for(tmp_path: Path):
    require_model_name(SPEC, "PP-YOLOE_seg-S", tmp_path)
    with pytest.raises(BackendError, match=r"is PP-YOLOE_seg-S \(Global.model_name\), and SOLOv2 was asked"):
        require_model_name(SPEC, "SOLOv2", tmp_path)
    nameless = replace(SPEC, model_name="", arch="RCNN")
    for name in ("MaskRCNN-ResNet50", "Cascade-MaskRCNN-ResNet50-FPN"):
        require_model_name(nameless, name, tmp_path)
    with pytest.raises(BackendError, match="has the architecture RCNN, which Mask-RT-DETR-S has not"):
        require_model_name(nameless, "Mask-RT-DETR-S", tmp_path)
    require_model_name(replace(nameless, arch=""), "SOLOv2", tmp_path)
