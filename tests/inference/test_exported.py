"""inference.yml and the runtime of exported graphs."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from toy_model import INPUT_HW, SPEC

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.exported import PaddleBackend, read_inference_yml, write_inference_yml
from paddlex_seg.structures import MaskFrame, PreprocessSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PREPROCESSES = {
    "pp-yoloe_seg": PreprocessSpec(size_hw=(640, 640)),
    "r-cnn": PreprocessSpec(size_hw=(800, 1333), keep_ratio=True, pad_stride=32, **IMAGENET),
    "solov2": PreprocessSpec((800, 1333), True, 1, **IMAGENET, pad_stride=32, normalize_first=True),
}


@pytest.mark.parametrize("mask_frame", get_args(MaskFrame))
@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_inference_yml_reads_back_as_written(
    tmp_path: Path, preprocess: PreprocessSpec, mask_frame: MaskFrame
):
    labels = ("yes", "1", "no: way", "螺栓")
    spec = replace(SPEC, preprocess=preprocess, labels=labels, mask_frame=mask_frame)
    write_inference_yml(tmp_path / "inference.yml", spec)
    assert read_inference_yml(tmp_path / "inference.yml") == spec
    assert [file.name for file in tmp_path.iterdir()] == ["inference.yml"]


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


def test_all_problems_of_an_inference_yml_are_reported_at_once(tmp_path: Path):
    write_inference_yml(tmp_path / "inference.yml", SPEC)
    document = yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8"))
    del document["label_list"]
    document["draw_threshold"] = "high"
    document["mask_frame"] = "window"
    document["Preprocess"][0] |= {"target_size": 640, "interp": "MAGIC"}
    document["Preprocess"][1]["std"] = [1.0, 0.0, 1.0]
    (tmp_path / "inference.yml").write_text(yaml.safe_dump(document))
    with pytest.raises(BackendError) as caught:
        read_inference_yml(tmp_path / "inference.yml")
    for words in (
        "inference.yml",
        "label_list",
        "draw_threshold",
        "'high'",
        "mask_frame is 'window', expected one of box, image, image_uncut, image_logits",
        "target_size is 640",
        "MAGIC",
        "zero",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "operators",
    [None, [], [{"type": "WarpAffine"}], [{"type": "Resize", "target_size": [64, 64]}], "Resize"],
    ids=["missing", "empty", "unsupported", "incomplete", "no list"],
)
def test_a_preprocess_that_cannot_be_followed_is_refused(tmp_path: Path, operators):
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


@pytest.mark.parametrize("file", ["inference.yml", "inference.pdiparams", "network.json"])
def test_a_missing_file_is_named(small_dir: Path, tmp_path: Path, file: str):
    folder = tmp_path / "copy"
    shutil.copytree(small_dir, folder)
    (folder / file).unlink()
    with pytest.raises(BackendError, match=file):
        PaddleBackend(folder)


def test_a_missing_folder_and_a_wrong_device_are_named(small_dir: Path, tmp_path: Path):
    with pytest.raises(BackendError, match="nowhere"):
        PaddleBackend(tmp_path / "nowhere")
    with pytest.raises(BackendError, match="toaster"):
        PaddleBackend(small_dir, device="toaster:1")


@pytest.mark.parametrize("content", ["", "{}", "not json"], ids=["empty", "no program", "not json"])
def test_a_damaged_graph_is_named(small_dir: Path, tmp_path: Path, content: str):
    folder = tmp_path / "copy"
    shutil.copytree(small_dir, folder)
    (folder / "network.json").write_text(content)
    with pytest.raises(BackendError, match="network.json"):
        PaddleBackend(folder)


def inputs_of_brightness(values: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.zeros((len(values), 3, *INPUT_HW), np.float32)
    image[:, 0] = np.array(values)[:, None, None]
    im_shape = np.tile(np.float32(INPUT_HW), (len(values), 1))
    return image, im_shape, np.ones_like(im_shape)


def test_inputs_go_by_name_and_rows_belong_to_their_pictures(small_dir: Path):
    backend = PaddleBackend(small_dir)
    bbox, bbox_num, mask = backend.run(*inputs_of_brightness([0.9, 0.0, 0.6]))
    assert not backend.pasted_masks
    assert bbox_num.tolist() == [1, 0, 1]
    assert bbox[:, 1] == pytest.approx([0.9, 0.6], abs=1e-5)
    assert bbox[:, 4:].tolist() == [[96, 64]] * 2  # from im_shape / scale_factor
    assert mask.shape == (2, 16, 24) and (mask > 0.5).all()


def test_a_graph_without_boxes_gets_those_of_its_masks(boxless_dir: Path):
    backend = PaddleBackend(boxless_dir)
    image = np.zeros((1, 3, *INPUT_HW), np.float32)
    image[0, 1, 8:40, 20:60] = 0.9
    im_shape = np.float32([INPUT_HW])
    bbox, bbox_num, mask = backend.run(image, im_shape, np.full((1, 2), 0.5, np.float32))
    assert backend.pasted_masks
    assert bbox_num.tolist() == [2] and mask.shape == (2, 128, 192)
    np.testing.assert_allclose(bbox[0], [1, 0.9, 40, 16, 120, 80], atol=1e-5)
    assert mask[0].sum() == mask[0, 16:80, 40:120].sum() > 5000
    assert bbox[1].tolist() == [0] * 6  # official graphs end with a row that is no detection


def test_a_backend_runs_again_after_finding_nothing(small_dir: Path):
    backend = PaddleBackend(small_dir)
    bbox, bbox_num, mask = backend.run(*inputs_of_brightness([0.0, 0.0]))
    assert (len(bbox), bbox_num.tolist(), len(mask)) == (0, [0, 0], 0)
    assert backend.run(*inputs_of_brightness([0.9]))[1].tolist() == [1]


def test_onednn_gives_the_same_detections(small_dir: Path):
    inputs = inputs_of_brightness([0.9, 0.6])
    plain = PaddleBackend(small_dir).run(*inputs)
    onednn = PaddleBackend(small_dir, run_mode="mkldnn").run(*inputs)
    for one, other in zip(plain, onednn, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_small_graph_is_preferred_to_the_official_one(
    small_dir: Path, official_dir: Path, tmp_path: Path
):
    both = tmp_path / "both"
    shutil.copytree(small_dir, both)
    shutil.copy(official_dir / "inference.json", both)
    assert not PaddleBackend(both).pasted_masks
    assert PaddleBackend(official_dir).pasted_masks


def test_failure_of_the_runtime_is_one_sentence_with_a_way_out(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    backend = PaddleBackend(small_dir)
    working = backend._predictor

    class Failing:
        get_input_handle = working.get_input_handle

        def run(self):
            raise NotImplementedError("ConvertPirAttribute2RuntimeAttribute")

    monkeypatch.setattr(backend, "_predictor", Failing())
    monkeypatch.setattr(backend, "_run_mode", "mkldnn")
    with pytest.raises(BackendError, match="ConvertPirAttribute2RuntimeAttribute.*run_mode=paddle"):
        backend.run(*inputs_of_brightness([0.5]))
