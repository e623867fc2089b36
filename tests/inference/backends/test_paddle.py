"""Exported graphs in Paddle's runtime."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_model import INPUT_HW, inputs_of_brightness

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.paddle import PaddleBackend


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


def test_inputs_go_by_name_and_rows_belong_to_their_images(small_dir: Path):
    backend = PaddleBackend(small_dir)
    bbox, bbox_num, mask = backend(*inputs_of_brightness([0.9, 0.0, 0.6]))
    assert backend.mask_frame == "image"
    assert bbox_num.tolist() == [1, 0, 1]
    assert bbox[:, 1] == pytest.approx([0.9, 0.6], abs=1e-5)
    assert bbox[:, 4:].tolist() == [[96, 64]] * 2  # from im_shape / scale_factor
    assert mask.shape == (2, 16, 24) and (mask > 0.5).all()


def test_boxes_of_a_graph_without_boxes_are_computed_from_its_masks(boxless_dir: Path):
    backend = PaddleBackend(boxless_dir)
    image = np.zeros((1, 3, *INPUT_HW), np.float32)
    image[0, 1, 8:40, 20:60] = 0.9
    im_shape = np.float32([INPUT_HW])
    bbox, bbox_num, mask = backend(image, im_shape, np.full((1, 2), 0.5, np.float32))
    assert backend.mask_frame == "original"
    assert bbox_num.tolist() == [1] and mask.shape == (1, 128, 192)  # without the filler row
    np.testing.assert_allclose(bbox[0], [1, 0.9, 40, 16, 120, 80], atol=1e-5)
    assert mask[0].sum() == mask[0, 16:80, 40:120].sum() > 5000


def test_a_backend_runs_again_after_finding_nothing(small_dir: Path):
    backend = PaddleBackend(small_dir)
    bbox, bbox_num, mask = backend(*inputs_of_brightness([0.0, 0.0]))
    assert (len(bbox), bbox_num.tolist(), len(mask)) == (0, [0, 0], 0)
    assert backend(*inputs_of_brightness([0.9]))[1].tolist() == [1]


def test_onednn_gives_the_same_detections(small_dir: Path):
    inputs = inputs_of_brightness([0.9, 0.6])
    plain = PaddleBackend(small_dir)(*inputs)
    onednn = PaddleBackend(small_dir, run_mode="mkldnn")(*inputs)
    for one, other in zip(plain, onednn, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_small_graph_is_preferred_to_the_official_one(
    small_dir: Path, official_dir: Path, tmp_path: Path
):
    both = tmp_path / "both"
    shutil.copytree(small_dir, both)
    shutil.copy(official_dir / "inference.json", both)
    assert PaddleBackend(both).mask_frame == "image"
    assert PaddleBackend(official_dir).mask_frame == "original"


def test_failure_of_paddle_inference_is_reported_with_advice(
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
        backend(*inputs_of_brightness([0.5]))


@pytest.mark.parametrize(
    "device, message",
    [("cpu", "run_mode is trt_fp16, which is for GPUs"), ("gpu:0", "supports only the CPU")],
)
def test_tensorrt_needs_a_gpu(small_dir: Path, device: str, message: str):
    with pytest.raises(BackendError, match=message):
        PaddleBackend(small_dir, device=device, run_mode="trt_fp16")


def test_a_paddle_without_tensorrt_says_so(small_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("paddlex_seg.inference.backends.paddle._require_cuda", lambda device: None)
    with pytest.raises(BackendError, match="asks for TensorRT.*built without it.*run_mode=paddle"):
        PaddleBackend(small_dir, device="gpu:0", run_mode="trt_fp32")


def test_a_graph_that_onednn_cannot_load_is_not_called_damaged(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(config: object) -> None:
        raise RuntimeError("trace\ntype of outputs must be equal")

    monkeypatch.setattr("paddle.inference.create_predictor", refuse)
    with pytest.raises(BackendError, match="run_mode mkldnn .type of outputs.*Set .*run_mode=paddle"):
        PaddleBackend(small_dir, run_mode="mkldnn")
    with pytest.raises(BackendError, match="The file is damaged"):
        PaddleBackend(small_dir)
