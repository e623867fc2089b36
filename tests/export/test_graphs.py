"""The files of exported folders, and that the graphs compute the same as the network."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from numpy.typing import NDArray
from paddle import inference, nn
from pycocotools import mask as coco_mask
from rule import drawn_image, fill_model
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL, filled_model

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.data.preprocess import collate, preprocess
from paddlex_seg.export.graphs import (
    FILES,
    PROOF,
    WithPastedMasks,
    WithSmallMasks,
    _input_spec,
    _save_graph,
    export_model,
    require_whole,
)
from paddlex_seg.files.written import REGISTER
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.predictor import open_predictor
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.recipes import MASK_RCNN
from paddlex_seg.structures import Detections, MaskFrame, PreprocessSpec

Arrays = tuple[NDArray, NDArray, NDArray]
ORIGINAL_SIZES = ((120, 200), (301, 77), (96, 64))


def network_inputs(*seeds: int) -> Arrays:
    """Network inputs of a batch of images with different original sizes."""
    images = np.stack([drawn_image(seed, *IMAGE_SIZE) for seed in seeds])
    im_shape = np.full((len(seeds), 2), IMAGE_SIZE, np.float32)
    return images, im_shape, im_shape / np.array(ORIGINAL_SIZES[: len(seeds)], np.float32)


def run_dynamic(model: nn.Layer, inputs: Arrays) -> Arrays:
    with paddle.no_grad():
        bbox, bbox_num, mask = model(*map(paddle.to_tensor, inputs))
    return bbox.numpy(), bbox_num.numpy(), mask.numpy()


class Graph:
    """A graph file of an exported folder. Inputs and outputs are used by position, as official code does."""

    def __init__(self, folder: Path, name: str) -> None:
        config = inference.Config(str(folder / name), str(folder / "inference.pdiparams"))
        config.disable_gpu()
        config.disable_mkldnn()
        config.disable_glog_info()
        self.predictor = inference.create_predictor(config)

    def run(self, inputs: Arrays) -> tuple[NDArray, ...]:
        by_name = dict(zip(("image", "im_shape", "scale_factor"), inputs, strict=True))
        for name in self.predictor.get_input_names():
            self.predictor.get_input_handle(name).copy_from_cpu(by_name[name])
        self.predictor.run()
        return tuple(
            self.predictor.get_output_handle(name).copy_to_cpu() for name in self.predictor.get_output_names()
        )


@pytest.fixture(scope="module")
def selective(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstanceSegmenter, Path]:
    """A network and its export. It finds two objects in image 0, one in image 1 and none in image 2."""
    model, folder = selective_model(), tmp_path_factory.mktemp("selective")
    export_model(model, find_model(MODEL), ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE), folder)
    return model, folder


class LogitsModel(InstanceSegmenter):
    """Finds three objects in every image that is not black.

    Masks are logits of the whole image. The area of the boxes is 1/100 of the image.
    """

    mask_frame: MaskFrame = "image_logits"
    max_detections = 50

    def __init__(self) -> None:
        super().__init__()
        self.masks = nn.Conv2D(3, 3, kernel_size=4, stride=4)

    def forward(
        self, image: paddle.Tensor, im_shape: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> Detections:
        found = image.amax([1, 2, 3]) > 0  # [B]
        images = found.nonzero().flatten()
        masks = self.masks(image - 0.5).gather(images).flatten(0, 1)  # [N, h, w]
        corner = 0.1 * (im_shape / scale_factor).flip(-1).gather(images).repeat_interleave(3, axis=0)
        bbox = paddle.concat([paddle.ones_like(corner), corner, 2 * corner], axis=1)  # class 1, score 1
        return Detections(bbox, 3 * found.astype("int32"), masks)


class AnySizeModel(InstanceSegmenter):
    """Finds three large objects in every image that is not black. Accepts inputs of any size."""

    max_detections = 50

    def __init__(self, mask_frame: MaskFrame) -> None:
        super().__init__()
        self.mask_frame = mask_frame
        self.masks = nn.Conv2D(3, 3, kernel_size=4, stride=4)

    def forward(
        self, image: paddle.Tensor, im_shape: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> Detections:
        found = image.amax([1, 2, 3]) > 0  # [B]
        images = found.nonzero().flatten()
        masks = self.masks(image).gather(images).flatten(0, 1)  # [N, h, w]
        corner = 0.1 * (im_shape / scale_factor).flip(-1).gather(images).repeat_interleave(3, axis=0)
        bbox = paddle.concat([paddle.ones_like(corner), corner, 9 * corner], axis=1)  # class 1, score 1
        return Detections(bbox, 3 * found.astype("int32"), nn.functional.sigmoid(masks))


@pytest.fixture(scope="module", params=["box", "image"])
def any_size(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[InstanceSegmenter, Path]:
    """`AnySizeModel`, and its export with a recipe that keeps the aspect ratio of images."""
    model, folder = AnySizeModel(request.param), tmp_path_factory.mktemp("any size")
    fill_model(model)
    spec = replace(find_model(MODEL), recipe=MASK_RCNN)
    info = ModelInfo(MODEL, CATEGORIES, (64, 107), own_preprocess=spec.recipe.preprocess((64, 107)))
    export_model(model, spec, info, folder)
    return model, folder


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstanceSegmenter, Path]:
    """`LogitsModel` and its export."""
    model, folder = LogitsModel(), tmp_path_factory.mktemp("logits")
    fill_model(model)
    export_model(model, find_model(MODEL), ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE), folder)
    return model, folder


class UncutModel(LogitsModel):
    """Like `LogitsModel`, but masks are probabilities, as for SOLOv2."""

    mask_frame: MaskFrame = "image_uncut"

    def forward(
        self, image: paddle.Tensor, im_shape: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> Detections:
        bbox, bbox_num, mask = super().forward(image, im_shape, scale_factor)
        return Detections(bbox, bbox_num, nn.functional.sigmoid(mask))


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstanceSegmenter, Path]:
    """`UncutModel` and its export as SOLOv2."""
    model, folder = UncutModel(), tmp_path_factory.mktemp("uncut")
    fill_model(model)
    spec = replace(find_model(MODEL), name="SOLOv2", arch="SOLOv2")
    export_model(model, spec, ModelInfo("SOLOv2", CATEGORIES, IMAGE_SIZE), folder)
    return model, folder


def selective_model() -> InstanceSegmenter:
    model = filled_model()
    model.score_threshold = 0.102
    return model


def mean_iou(left: NDArray, right: NDArray) -> float:
    """The mean IoU of masks [N, H, W]. The IoU of two empty masks is 1."""
    left, right = left > 0, right > 0
    union = (left | right).sum(axis=(1, 2))
    both = (left & right).sum(axis=(1, 2))
    return float(np.where(union == 0, 1.0, both / np.maximum(union, 1)).mean())


def assert_same_boxes(found: Arrays, expected: Arrays) -> None:
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0][:, 0], expected[0][:, 0])
    np.testing.assert_allclose(found[0][:, 1], expected[0][:, 1], atol=1e-4)
    np.testing.assert_allclose(found[0][:, 2:], expected[0][:, 2:], atol=1e-3)


def assert_pasted_as_predicted(
    pasted: NDArray,
    detections: Arrays,
    inputs: Arrays,
    mask_frame: MaskFrame,
    original_sizes: Sequence[tuple[int, int]] = ORIGINAL_SIZES,
) -> None:
    """Full-size masks [N, height, width] of a graph equal those that prediction pastes from small masks."""
    bbox, bbox_num, mask = detections
    sizes = original_sizes[: len(bbox_num)]
    assert pasted.dtype == np.int32
    assert pasted.shape == (len(bbox), max(size[0] for size in sizes), max(size[1] for size in sizes))
    instances = detections_to_instances(
        bbox,
        bbox_num,
        mask,
        im_shape=inputs[1],
        scale_factor=inputs[2],
        input_hw=inputs[0].shape[2:],
        original_sizes=sizes,
        mask_frame=mask_frame,
    )
    ends = np.cumsum(bbox_num)
    for one, start, end in zip(instances, ends - bbox_num, ends, strict=True):
        if len(one) == 0:
            continue
        own = pasted[start:end][np.argsort(-bbox[start:end, 1], kind="stable")]
        height, width = one.size_hw
        assert set(np.unique(own)) == {0, 1}
        assert not own[:, height:].any() and not own[:, :, width:].any()
        ours = np.stack([coco_mask.decode(rle) for rle in one.masks])
        assert 0.05 < ours.mean() < 0.95
        assert mean_iou(own[:, :height, :width], ours) >= 0.999


def test_training_exports_exactly_these_files(trained: tuple) -> None:
    folder = trained[0] / "best_model" / "inference"
    assert {path.name for path in folder.iterdir()} == {*FILES, *PROOF, REGISTER}


def test_inference_yml_has_the_keys_that_deployment_code_reads(exported: Path) -> None:
    text = (exported / "inference.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert document["Global"] == {"model_name": MODEL}
    assert document["label_list"] == [category.name for category in CATEGORIES]
    assert document["draw_threshold"] == 0.5
    assert (document["mode"], document["metric"], document["arch"]) == ("paddle", "COCO", "PPYOLOE")
    assert (document["mask"], document["use_dynamic_shape"]) == (True, False)
    resize, *others = document["Preprocess"]
    assert resize == {"interp": 2, "keep_ratio": False, "target_size": list(IMAGE_SIZE), "type": "Resize"}
    assert [operator["type"] for operator in others] == ["NormalizeImage", "Permute"]


@pytest.mark.parametrize("name", ["inference.json", "network.json"])
def test_both_graphs_take_the_three_official_inputs(exported: Path, name: str) -> None:
    graph = Graph(exported, name)
    assert sorted(graph.predictor.get_input_names()) == ["im_shape", "image", "scale_factor"]
    assert len(graph.predictor.get_output_names()) == 3


def test_our_runtime_prefers_the_small_masks(exported: Path) -> None:
    backend = PaddleBackend(exported)
    bbox, bbox_num, mask = backend(*network_inputs(0, 1))
    assert backend.mask_frame == "image"
    assert mask.shape == (len(bbox), IMAGE_SIZE[0] // 4, IMAGE_SIZE[1] // 4)
    assert bbox_num.sum() == len(bbox)
    assert read_inference_yml(exported / "inference.yml").preprocess.size_hw == IMAGE_SIZE


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_graph_with_small_masks_is_the_network(exported: Path, seeds: tuple[int, ...]) -> None:
    expected = run_dynamic(filled_model(), network_inputs(*seeds))
    found = Graph(exported, "network.json").run(network_inputs(*seeds))
    assert expected[1].min() > 10
    assert_same_boxes(found, expected)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-3)
    assert mean_iou(found[2] - 0.5, expected[2] - 0.5) >= 0.999


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_official_graph_pastes_masks_as_prediction_does(exported: Path, seeds: tuple[int, ...]) -> None:
    inputs = network_inputs(*seeds)
    detections = run_dynamic(filled_model(), inputs)
    found = Graph(exported, "inference.json").run(inputs)
    assert_same_boxes(found, detections)
    assert_pasted_as_predicted(found[2], detections, inputs, mask_frame="image")


@pytest.mark.parametrize("black", [(), (1,), (0, 1, 2)], ids=["things everywhere", "a gap", "nothing"])
def test_the_official_graph_pastes_logits_as_prediction_does(
    logits: tuple[InstanceSegmenter, Path], black: tuple[int, ...]
) -> None:
    model, folder = logits
    inputs = network_inputs(0, 1, 2)
    inputs[0][list(black)] = 0
    detections = run_dynamic(model, inputs)
    found = Graph(folder, "inference.json").run(inputs)
    assert found[1].tolist() == [0 if b in black else 3 for b in range(3)]
    assert_same_boxes(found, detections)
    mask_frame = read_inference_yml(folder / "inference.yml").mask_frame
    assert mask_frame == "image_logits"
    assert_pasted_as_predicted(found[2], detections, inputs, mask_frame)


def test_inference_yml_has_keep_ratio_and_dynamic_shape(any_size: tuple) -> None:
    document = yaml.safe_load((any_size[1] / "inference.yml").read_text(encoding="utf-8"))
    assert document["use_dynamic_shape"] is True
    resize, *others = document["Preprocess"]
    assert resize == {"interp": 2, "keep_ratio": True, "target_size": [64, 107], "type": "Resize"}
    assert [operator["type"] for operator in others] == ["NormalizeImage", "Permute", "PadStride"]
    assert others[2]["stride"] == 32


@pytest.mark.parametrize("black", [False, True], ids=["things", "nothing"])
@pytest.mark.parametrize(
    ("sizes", "input_hw"),
    [
        ([(120, 160)], (64, 96)),
        ([(300, 120)], (128, 64)),
        ([(64, 64)], (64, 64)),
        ([(128, 150), (60, 80), (30, 41)], (64, 96)),  # 64 x 75, 64 x 85 and 64 x 87 before padding
    ],
    ids=["landscape", "portrait", "square", "three that need equal padding"],
)
def test_graphs_accept_inputs_of_any_size(
    any_size: tuple, sizes: list[tuple[int, int]], input_hw: tuple[int, int], black: bool
) -> None:
    model, folder = any_size
    spec = read_inference_yml(folder / "inference.yml")
    images = [(drawn_image(seed, *size).transpose(1, 2, 0) * 255) for seed, size in enumerate(sizes)]
    inputs = tuple(collate([preprocess(one.astype(np.uint8), spec.preprocess) for one in images]))
    assert inputs[0].shape[2:] == input_hw
    if black:
        inputs[0][:] = 0
    detections = run_dynamic(model, inputs)
    assert detections[1].tolist() == [0 if black else 3] * len(sizes)
    small = Graph(folder, "network.json").run(inputs)
    assert_same_boxes(small, detections)
    np.testing.assert_allclose(small[2], detections[2], atol=1e-5)
    official = Graph(folder, "inference.json").run(inputs)
    assert_same_boxes(official, detections)
    assert_pasted_as_predicted(official[2], detections, inputs, spec.mask_frame, sizes)


def test_prediction_of_images_of_any_size_does_not_depend_on_the_batch(any_size: tuple) -> None:
    sizes = [(120, 160), (128, 150), (300, 120), (299, 120), (64, 64), (60, 80)]
    images = [
        (drawn_image(seed, *hw).transpose(1, 2, 0) * 255).astype(np.uint8) for seed, hw in enumerate(sizes)
    ]
    alone, together = (list(open_predictor(any_size[1], batch_size=size).predict(images)) for size in (1, 4))
    assert [len(one.instances) for one in alone] == [3] * len(sizes)
    for one, other in zip(alone, together, strict=True):
        assert one.instances.masks == other.instances.masks
        np.testing.assert_array_equal(one.instances.boxes_xyxy, other.instances.boxes_xyxy)


@pytest.mark.parametrize("black", [(), (1,), (0, 1, 2)], ids=["things everywhere", "a gap", "nothing"])
def test_the_official_graph_of_solov2_has_four_outputs_and_ours_three(
    uncut: tuple[InstanceSegmenter, Path], black: tuple[int, ...]
) -> None:
    model, folder = uncut
    inputs = network_inputs(0, 1, 2)
    inputs[0][list(black)] = 0
    detections = run_dynamic(model, inputs)
    bbox_num, labels, scores, pasted = Graph(folder, "inference.json").run(inputs)
    assert bbox_num.tolist() == [0 if b in black else 3 for b in range(3)]
    np.testing.assert_array_equal(labels, detections[0][:, 0])
    np.testing.assert_allclose(scores, detections[0][:, 1], atol=1e-4)
    assert [array.dtype for array in (bbox_num, labels, scores, pasted)] == [
        np.int32,
        np.int64,
        np.float32,
        np.uint8,
    ]
    assert_pasted_as_predicted(pasted.astype(np.int32), detections, inputs, "image_uncut")
    assert_same_boxes(Graph(folder, "network.json").run(inputs), detections)


def test_both_directories_of_solov2_give_the_same_results(
    uncut: tuple[InstanceSegmenter, Path], tmp_path: Path
) -> None:
    shutil.copytree(uncut[1], tmp_path / "official")
    (tmp_path / "official" / "network.json").unlink()
    image = np.floor(drawn_image(0, 100, 140).transpose(1, 2, 0) * 255).astype(np.uint8)
    (ours,), (official,) = (
        list(open_predictor(folder).predict([image])) for folder in (uncut[1], tmp_path / "official")
    )
    assert len(ours.instances) == 3
    np.testing.assert_allclose(ours.instances.boxes_xyxy, official.instances.boxes_xyxy, atol=1)
    for one, other in zip(ours.instances.masks, official.instances.masks, strict=True):
        assert np.count_nonzero(coco_mask.decode(one) != coco_mask.decode(other)) <= 1


@pytest.mark.parametrize("seeds", [(2,), (2, 2, 2)])
@pytest.mark.parametrize("name", ["inference.json", "network.json"])
def test_a_graph_that_finds_nothing_gives_no_rows(
    selective: tuple[InstanceSegmenter, Path], name: str, seeds: tuple[int, ...]
) -> None:
    bbox, bbox_num, mask = Graph(selective[1], name).run(network_inputs(*seeds))
    assert bbox.shape == (0, 6)
    assert bbox_num.tolist() == [0] * len(seeds)
    assert len(mask) == 0


@pytest.mark.parametrize("seeds", [(2, 0, 1), (0, 2, 1), (0, 1, 2)])
@pytest.mark.parametrize("name", ["inference.json", "network.json"])
def test_an_image_without_detections_does_not_shift_those_of_its_neighbours(
    selective: tuple[InstanceSegmenter, Path], name: str, seeds: tuple[int, ...]
) -> None:
    inputs = network_inputs(*seeds)
    layer = {"inference.json": WithPastedMasks, "network.json": WithSmallMasks}[name](selective[0])
    expected = run_dynamic(layer, inputs)
    found = Graph(selective[1], name).run(inputs)
    assert found[1].tolist() == [(2, 1, 0)[seed] for seed in seeds]
    assert_same_boxes(found, expected)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-3)


def test_export_does_not_change_the_network(selective: tuple[InstanceSegmenter, Path]) -> None:
    fresh = run_dynamic(selective_model(), network_inputs(0, 1))
    for one, other in zip(run_dynamic(selective[0], network_inputs(0, 1)), fresh, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_paddle_cannot_open_is_told(tmp_path: Path) -> None:
    (tmp_path / "graph.pdiparams").symlink_to(tmp_path / "no folder" / "graph.pdiparams")
    with pytest.raises(OSError, match=r"Paddle cannot open it to write.*graph"):
        _save_graph(WithSmallMasks(LogitsModel()), _input_spec(PreprocessSpec((64, 64))), tmp_path / "graph")


@pytest.mark.parametrize(
    "name", ["inference.json", "inference.pdiparams", "network.json", "network.pdiparams"]
)
def test_a_file_that_paddle_wrote_in_part_is_noticed(name: str, exported: Path, tmp_path: Path) -> None:
    for file in ("inference.json", "inference.pdiparams", "network.json"):
        shutil.copy2(exported / file, tmp_path / file)
    shutil.copy2(exported / "inference.pdiparams", tmp_path / "network.pdiparams")
    require_whole(tmp_path)
    content = (tmp_path / name).read_bytes()
    for kept in (0, len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:kept])
        with pytest.raises(OSError, match=rf"disk is full.*{tmp_path / name}"):
            require_whole(tmp_path)
