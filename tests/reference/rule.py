"""Generated weights, images and objects, and comparisons with numbers recorded from PaddleDetection.

README.md in this folder describes the rules of generation and the layout of the recorded files.
"""

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import ArrayLike, NDArray

from paddlex_seg.ops.joined_batch import JoinedBatch
from paddlex_seg.structures import Batch, Target

REFERENCE_DIR = Path(__file__).parent

# (regular expression searched in the name, value); the last match wins
ALIASES = ((".bbox_head.", "."), (".mask_feat_head.conv_pred.0.", ".conv_pred."))
GAINS = (
    (r"branch2c\.", 0.5),
    (r"bottlenecks\.", 1.2),
    (r"blocks\.[1-9]\.aggregation_excitation_conv", 0.5),
    (r"^backbone\.(stem\.conv|stages\.\d\.(conv|blocks\.\d+\.conv))", 1.75),
    (r"^neck\.(fpn|pan)_(stages|routes)", 1.3),
    (r"^yolo_head\.(stem_|proto)", 1.5),
    (r"^yolo_head\.pred_", 3.0),
    (r"^yolo_head\.pred_reg", 6.0),
    (r"rpn_rois_delta", 0.3),
    (r"bbox_score", 3.0),
    (r"bbox_score_stage", 1.5),
    (r"solo_cate", 1.5),
    (r"proto\.upsample|conv5_mask", 5.6),
)
BIASES = (
    (r"attn\.fc\.bias$", (2.0, 0.3)),
    (r"pred_cls.*bias$", (-3.0, 0.3)),
    (r"solo_cate\.bias$", (-5.0, 0.3)),
    (r"transformer\.score_head\.bias$", (-2.0, 0.3)),
    (r"mask_query_head\.layers\.2\.bias$", (0.3, 0.05)),
)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fill_array(name: str, shape: Iterable[int]) -> NDArray[np.float32]:
    """The generated value of a state-dict entry. It depends only on name and shape."""
    shape = tuple(int(size) for size in shape)
    for old, new in ALIASES:
        name = name.replace(old, new)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.split(".")[-1]
    if name.endswith("proj_conv.weight"):
        return np.arange(shape[1], dtype=np.float32).reshape(shape)
    if leaf == "_variance":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    noise = random.standard_normal(shape)
    if leaf == "_mean":
        value = 0.1 * noise
    elif len(shape) == 4:
        value = _smooth_filters(noise, _filter_gain(name, shape))
    elif len(shape) >= 2:
        gain = _last_match(GAINS, name, 1.0)
        value = noise * (gain if "embed" in name else gain / shape[0] ** 0.5)
    elif leaf in ("weight", "alpha", "scale"):
        value = np.clip(1.0 + 0.1 * noise, 0.5, None)
    elif name.endswith("enc_mask_output.1.bias"):
        value = -1.5 / shape[0] ** 0.5 + 0.05 * noise
    else:
        mean, deviation = _last_match(BIASES, name, (0.0, 0.05))
        value = mean + deviation * noise
    return value.astype(np.float32)


def _filter_gain(name: str, shape: tuple[int, ...]) -> float:
    if name.startswith("transformer.input_proj") and shape[1] > 256:
        return 0.15
    return _last_match(GAINS, name, 2.0**0.5)


def _last_match(rules: Iterable[tuple[str, Any]], name: str, default: Any) -> Any:
    for pattern, value in rules:
        if re.search(pattern, name):
            default = value
    return default


def _smooth_filters(noise: NDArray[np.float64], gain: float) -> NDArray[np.float64]:
    pixels = noise.shape[2] * noise.shape[3]
    level = noise.sum(axis=(2, 3), keepdims=True) / pixels**0.5
    detail = 0.35 * (noise - noise.mean(axis=(2, 3), keepdims=True)) / pixels**0.5
    depthwise = noise.shape[1] == 1
    level = 1.0 + 0.3 * level if depthwise else level - 0.9 * level.mean(axis=1, keepdims=True)
    return (level / pixels + detail) * (gain / noise.shape[1] ** 0.5)


def fill_model(model: paddle.nn.Layer) -> None:
    """Overwrite all weights of a model with generated values."""
    state = model.state_dict()
    filled = {name: paddle.to_tensor(fill_array(name, value.shape)) for name, value in state.items()}
    missing, unexpected = model.set_state_dict(filled)
    assert not missing and not unexpected


def drawn_image(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """A smooth coloured image with some noise: [3, height, width], 0..1."""
    random = np.random.RandomState(seed)
    grid = random.rand(3, 9, 9)
    y, x = np.linspace(0, 8, height), np.linspace(0, 8, width)
    top, left = np.minimum(y.astype(int), 7), np.minimum(x.astype(int), 7)
    fy, fx = (y - top)[None, :, None], (x - left)[None, None, :]
    upper = grid[:, top][:, :, left] * (1 - fy) * (1 - fx) + grid[:, top][:, :, left + 1] * (1 - fy) * fx
    lower = grid[:, top + 1][:, :, left] * fy * (1 - fx) + grid[:, top + 1][:, :, left + 1] * fy * fx
    smooth = upper + lower
    return np.clip(smooth + 0.05 * (random.rand(3, height, width) - 0.5), 0, 1).astype(np.float32)


def normalized_input(seed: int, image_hw: tuple[int, int], padded_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The input for R-CNNs and SOLOv2: normalised as for ImageNet, zero padding at right and bottom."""
    image = np.zeros((3, *padded_hw), np.float32)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    image[:, : image_hw[0], : image_hw[1]] = (drawn_image(seed, *image_hw) - mean) / std
    return image


def drawn_objects(
    seed: int, height: int, width: int, count: int, num_classes: int
) -> list[tuple[NDArray[np.float64], int]]:
    """Generated polygons [8, 2] of (x, y) in pixels, each with a class index."""
    objects = []
    for j in range(count):
        random = np.random.RandomState(1000 + 97 * seed + j)
        center_x, center_y = random.uniform(0.25, 0.75, 2)
        radius_x, radius_y = random.uniform(0.12, 0.24, 2)
        radius = random.uniform(0.8, 1.0, 8)
        angle = 2 * np.pi * np.arange(8) / 8
        x = np.round((center_x + radius_x * radius * np.cos(angle)) * width, 2)
        y = np.round((center_y + radius_y * radius * np.sin(angle)) * height, 2)
        objects.append((np.stack([x, y], axis=1), int(random.randint(num_classes))))
    return objects


def rasterise(polygon: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """The mask [height, width] of a polygon: pixels whose centre is inside (even-odd rule)."""
    x, y = (np.arange(width) + 0.5)[None, :], (np.arange(height) + 0.5)[:, None]
    inside = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y >= min(y1, y2)) & (y < max(y1, y2))
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside.astype(np.uint8)


def drawn_target(
    seed: int,
    image_hw: tuple[int, int],
    count: int,
    num_classes: int,
    padded_hw: tuple[int, int] | None = None,
) -> Target:
    """The objects of one training image; masks have the padded size."""
    objects = drawn_objects(seed, *image_hw, count, num_classes)
    mask_hw = padded_hw or image_hw
    boxes = [np.concatenate([polygon.min(axis=0), polygon.max(axis=0)]) for polygon, _ in objects]
    masks = [rasterise(polygon, *mask_hw) for polygon, _ in objects]
    return Target(
        boxes_xyxy=paddle.to_tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        class_ids=paddle.to_tensor(np.array([class_id for _, class_id in objects], np.int64)),
        masks=paddle.to_tensor(np.array(masks, np.uint8).reshape(-1, *mask_hw)),
        polygons=tuple((polygon,) for polygon, _ in objects),
    )


def drawn_batch(
    seed: int,
    image_hw: tuple[int, int],
    counts: Iterable[int],
    num_classes: int,
    padded_hw: tuple[int, int] | None = None,
) -> Batch:
    """A training batch; image b has ``counts[b]`` objects.

    Images are in 0..1 without padding, or with ``padded_hw`` normalised and padded to it.
    """
    counts = list(counts)
    seeds = [seed + 100 * b for b in range(len(counts))]
    images = [
        normalized_input(s, image_hw, padded_hw) if padded_hw else drawn_image(s, *image_hw) for s in seeds
    ]
    return Batch(
        image=paddle.to_tensor(np.stack(images)),
        im_shape=paddle.to_tensor([image_hw] * len(counts), dtype="float32"),
        scale_factor=paddle.ones([len(counts), 2]),
        targets=[
            drawn_target(s, image_hw, n, num_classes, padded_hw) for s, n in zip(seeds, counts, strict=True)
        ],
        joined=JoinedBatch(),
    )


class Reference:
    """The recorded numbers of one model."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def manifest(self) -> dict[str, Any]:
        return json.loads((REFERENCE_DIR / "manifests" / f"{self.model_name}.json").read_text())

    def fill_check(self) -> dict[str, Any]:
        return json.loads((REFERENCE_DIR / "goldens" / "fill.json").read_text())[self.model_name]

    def golden(self, run: str) -> dict[str, NDArray[Any]]:
        """``run`` is eval_small, eval_native or train."""
        with np.load(REFERENCE_DIR / "goldens" / f"{self.model_name}.{run}.npz") as file:
            return dict(file)


def assert_manifest(model: paddle.nn.Layer, manifest: Mapping[str, Any]) -> None:
    """Names, shapes and order of entries are as recorded. For trainable parameters, also weight decay and
    learning rate factors.
    """
    state = model.state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == [
        (name, shape) for name, shape, _, _ in manifest["entries"]
    ]
    parameters = dict(model.named_parameters())
    trainable = [name for name, parameter in parameters.items() if not parameter.stop_gradient]
    # A tensor with two names is one parameter with the first name.
    assert trainable == [
        name
        for name, _, _, kind in manifest["entries"]
        if kind == "trainable parameter" and name not in manifest["aliases"]
    ]
    own_decay = {
        name: parameters[name].regularizer._coeff
        for name in trainable
        if parameters[name].regularizer is not None
    }
    recorded = manifest["own_l2_coefficient"]
    assert own_decay == {name: recorded[name] for name in trainable if name in recorded}
    factors = {name: parameters[name].optimize_attr["learning_rate"] for name in trainable}
    assert {name: factor for name, factor in factors.items() if factor != 1} == manifest["lr_multipliers"]


def assert_filled(model: paddle.nn.Layer, check: Mapping[str, Any]) -> None:
    """The filled weights add up to the recorded sums."""
    state = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    assert len(state) == check["entries"]
    np.testing.assert_allclose(sum(value.sum() for value in state.values()), check["sum"], rtol=1e-9)
    np.testing.assert_allclose(
        sum(np.abs(value).sum() for value in state.values()), check["abs_sum"], rtol=1e-9
    )
    for name, values in check["first_values"].items():
        np.testing.assert_allclose(state[name].ravel()[: len(values)], values, rtol=1e-7, err_msg=name)


def assert_tensor(value: paddle.Tensor, golden: Mapping[str, NDArray[Any]], key: str) -> None:
    """A raw tensor equals the samples and statistics, or the whole array, recorded under ``key``."""
    array = value.numpy()
    if key in golden:
        _assert_close(array, golden[key], key)
        return
    assert list(array.shape) == golden[f"{key}.shape"].tolist(), key
    index = np.linspace(0, array.size - 1, 64).astype(np.int64)
    _assert_close(array.ravel()[index], golden[f"{key}.samples"], key)
    exact = array.astype(np.float64)
    stats = [exact.mean(), exact.std(), np.abs(exact).sum(), exact.min(), exact.max()]
    _assert_close(stats, golden[f"{key}.stats"], key)


def _assert_close(ours: ArrayLike, golden: ArrayLike, key: str) -> None:
    np.testing.assert_allclose(ours, golden, rtol=1e-3, atol=1e-4, err_msg=key)


def match_detections(ours: ArrayLike, golden: ArrayLike) -> list[tuple[int, int]]:
    """Pairs (our row, golden row) with the same class, score within 5e-3 and box within 1 pixel.

    Each row is in at most one pair.
    Rows are class, score, x1, y1, x2, y2.
    """
    ours, golden = np.asarray(ours), np.asarray(golden)
    same = ours[:, None, 0] == golden[None, :, 0]
    near = np.abs(ours[:, None, 1] - golden[None, :, 1]) <= 5e-3
    box_error = np.abs(ours[:, None, 2:] - golden[None, :, 2:]).max(axis=2)
    pairs, taken = [], set()
    for i, candidates in enumerate(same & near & (box_error <= 1.0)):
        free = [j for j in np.flatnonzero(candidates) if j not in taken]
        if free:
            best = min(free, key=lambda j: box_error[i, j])
            taken.add(best)
            pairs.append((i, int(best)))
    return pairs


def assert_detections(ours: ArrayLike, golden: ArrayLike) -> list[tuple[int, int]]:
    """At least 99 % of the recorded detections are found, and no additional ones. Returns the pairs."""
    pairs = match_detections(ours, golden)
    assert len(pairs) >= 0.99 * len(np.asarray(golden))
    assert len(np.asarray(ours)) == len(np.asarray(golden))
    return pairs


def assert_masks(
    masks: NDArray[Any], golden: Mapping[str, NDArray[Any]], pairs: list[tuple[int, int]]
) -> None:
    """Pasted masks [N, H, W] of image 0 equal the recorded ones: area, 8x8 blocks, and six whole masks.

    A recorded mask may be smaller by one row or column at the end.
    """
    _, height, width = golden["final0.mask.shape"]
    assert 0 <= masks.shape[1] - height <= 1 and 0 <= masks.shape[2] - width <= 1
    masks = masks[:, :height, :width]
    ours, theirs = (np.array(index) for index in zip(*pairs, strict=True))
    area = masks.sum(axis=(1, 2))[ours]
    _assert_areas(area, golden["final0.mask.area"][theirs])
    rows, columns = (np.linspace(0, size, 9).astype(int)[:-1] for size in (height, width))
    blocks = np.add.reduceat(np.add.reduceat(masks, rows, axis=1), columns, axis=2)[ours]
    _assert_areas(blocks, golden["final0.mask.grid8"][theirs])
    for i, j in pairs:
        if j < len(golden["final0.mask.bits"]):
            whole = np.unpackbits(golden["final0.mask.bits"][j])[: height * width].reshape(height, width)
            union = (masks[i] | whole).sum()
            assert union == 0 or (masks[i] & whole).sum() / union >= 0.999


def _assert_areas(ours: NDArray[Any], golden: NDArray[Any]) -> None:
    assert (np.abs(ours - golden) <= np.maximum(0.02 * golden, 8)).all()


def assert_losses(
    losses: Mapping[str, paddle.Tensor], golden: Mapping[str, NDArray[Any]], run: str, rtol: float = 1e-4
) -> None:
    """Names and values of the loss terms are as recorded."""
    recorded = dict(zip(golden[f"{run}.loss_names"].tolist(), golden[f"{run}.loss_values"], strict=True))
    assert set(losses) == set(recorded)
    for name, value in recorded.items():
        np.testing.assert_allclose(float(losses[name]), value, rtol=rtol, err_msg=name)


def assert_gradients(
    model: paddle.nn.Layer,
    golden: Mapping[str, NDArray[Any]],
    run: str,
    *,
    share: float = 1.0,
    others_rtol: float = 1e-3,
) -> None:
    """The L2 norm of the gradient of each parameter is as recorded.

    At least a fraction ``share`` of them is within 1e-3 relative, all are within ``others_rtol``. A recorded
    norm below 1e-8 of the norm of all gradients is a rounding error of a zero gradient; ours must be as
    small.
    """
    parameters = dict(model.named_parameters())
    recorded = dict(zip(golden[f"{run}.grad_names"].tolist(), golden[f"{run}.grad_l2"], strict=True))
    floor = 1e-8 * np.linalg.norm(list(recorded.values()))
    errors = {}
    for name, norm in recorded.items():
        ours = np.linalg.norm(parameters[name].grad.numpy().astype(np.float64))
        if norm < max(floor, 1e-6):  # -1: no gradient
            assert ours < 2 * max(floor, 1e-6), name
        else:
            errors[name] = abs(ours - norm) / norm
    _assert_most(errors, 1e-3, share=share, others_rtol=others_rtol)


def _assert_most(errors: Mapping[str, float], rtol: float, *, share: float, others_rtol: float) -> None:
    worst = sorted(errors, key=errors.__getitem__, reverse=True)[:5]
    message = {name: float(errors[name]) for name in worst}
    assert max(errors.values()) <= others_rtol, message
    assert np.mean([error <= rtol for error in errors.values()]) >= share, message


def assert_batch_norm(model: paddle.nn.Layer, golden: Mapping[str, NDArray[Any]], run: str) -> None:
    """The running statistics after one training forward pass are as recorded."""
    state = model.state_dict()
    for name, value in zip(
        golden[f"{run}.bn_names"].tolist(), golden[f"{run}.bn_abs_sum_after"], strict=True
    ):
        ours = np.abs(state[name].numpy().astype(np.float64)).sum()
        np.testing.assert_allclose(ours, value, rtol=1e-4, err_msg=name)


def assert_step(
    before: Mapping[str, NDArray[Any]],
    model: paddle.nn.Layer,
    golden: Mapping[str, NDArray[Any]],
    run: str,
    *,
    share: float = 1.0,
    others_rtol: float = 1e-3,
) -> None:
    """The change of each parameter by one optimizer step is as recorded. ``before``: values before the step.

    Like ``assert_gradients``, without the parameters whose gradient is 0 or missing.
    """
    parameters = dict(model.named_parameters())
    norms = golden[f"{run}.grad_l2"]
    floor = max(1e-8 * np.linalg.norm(norms), 1e-6)
    errors = {}
    for name, norm, delta in zip(
        golden[f"{run}.grad_names"].tolist(), norms, golden[f"{run}.step_delta_l2"], strict=True
    ):
        moved = np.linalg.norm(parameters[name].numpy().astype(np.float64) - before[name].astype(np.float64))
        if norm >= floor:
            errors[name] = max(abs(moved - delta) - 1e-9, 0.0) / delta
    _assert_most(errors, 1e-3, share=share, others_rtol=others_rtol)
