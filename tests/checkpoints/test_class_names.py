"""Class layers of pretrained weights, copied by the names of the classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray
from paddle import nn
from small_runs import slim_model

from paddlex_seg.checkpoints.names import match_classes
from paddlex_seg.checkpoints.weights import LoadReport, load_pretrained, write_weights
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.mask_rt_detr.model import MaskRtDetr
from paddlex_seg.models.mask_rt_detr.transformer import MaskRtDetrTransformer
from paddlex_seg.models.rcnn.box_head import BoxHead, CascadeBoxHead, TwoFcHead
from paddlex_seg.models.rcnn.mask_head import MaskHead
from paddlex_seg.models.rcnn.model import MaskRcnn
from paddlex_seg.models.rcnn.rpn import ProposalLimits, RpnHead
from paddlex_seg.models.solov2.head import SoloV2Head
from paddlex_seg.models.solov2.mask_features import MaskFeatures
from paddlex_seg.models.solov2.model import SoloV2
from paddlex_seg.structures import Category

IN_FILE = ("person", "Traffic_Light", "dog", "zebra")
SAME_BUT_TURNED = ("zebra", "traffic light", "DOG", "person")
TWO_KNOWN = ("boat", "dog", "kite", "Person", "cup")
UNKNOWN = ("bolt", "nut", "washer", "screw")

Outputs = list[NDArray[np.float32]]


def rcnn(head: BoxHead | CascadeBoxHead, num_classes: int) -> MaskRcnn:
    limits = ProposalLimits(per_level=1, per_image=1)
    rpn, masks = RpnHead(8, [[32]], strides=(16,)), MaskHead(8, num_classes, num_convs=1)
    return MaskRcnn(nn.Identity(), nn.Identity(), rpn, head, masks, train_limits=limits, limits=limits)


def build_mask_rcnn(num_classes: int) -> MaskRcnn:
    return rcnn(BoxHead(TwoFcHead(8), num_classes), num_classes)


def build_cascade(num_classes: int) -> MaskRcnn:
    return rcnn(CascadeBoxHead(8, num_classes), num_classes)


def build_mask_rt_detr(num_classes: int) -> MaskRtDetr:
    transformer = MaskRtDetrTransformer(
        8, num_classes, 4, channels=32, num_layers=1, feedforward_channels=8, num_queries=2
    )
    return MaskRtDetr(nn.Identity(), nn.Identity(), transformer, num_classes)


def build_solov2(num_classes: int) -> SoloV2:
    head = SoloV2Head(8, num_classes, channels=32)
    return SoloV2(nn.Identity(), nn.Identity(), head, MaskFeatures(8, channels=32))


# The outputs of a model for each class, [K, ...], and for the background, from constant features.


def features(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.RandomState(0).randn(*shape).astype(np.float32))


def of_pp_yoloe(model: InstanceSegmenter) -> Outputs:
    layers = model.yolo_head.pred_cls
    return [layer(features(1, layer._in_channels, 3, 3))[0].numpy() for layer in layers]


def of_mask_rcnn(model: InstanceSegmenter) -> Outputs:
    logits, deltas = model.bbox_head._predict(features(5, 1024))
    return [logits.T.numpy(), deltas.reshape([5, -1, 4]).transpose([1, 0, 2]).numpy(), masks_of(model)]


def of_cascade(model: InstanceSegmenter) -> Outputs:
    x = features(5, 1024)
    scores = [getattr(model.bbox_head, f"bbox_score_stage{i}")(x).T.numpy() for i in range(3)]
    return [*scores, masks_of(model)]


def masks_of(model: InstanceSegmenter) -> NDArray[np.float32]:
    num_classes = model.bbox_head.num_classes
    pooled = features(1, 8, 14, 14).expand([num_classes, -1, -1, -1])
    return model.mask_head(pooled, paddle.arange(num_classes)).numpy()


def of_mask_rt_detr(model: InstanceSegmenter) -> Outputs:
    transformer = model.transformer
    return [
        transformer.score_head(features(5, 32)).T.numpy(),
        transformer.denoising_class_embed.weight.numpy(),
    ]


def of_solov2(model: InstanceSegmenter) -> Outputs:
    return [model.solov2_head.solo_cate(features(1, 32, 4, 4))[0].numpy()]


BUILDERS: dict[str, tuple[Callable[[int], InstanceSegmenter], Callable[[InstanceSegmenter], Outputs]]] = {
    "PP-YOLOE_seg": (slim_model, of_pp_yoloe),
    "Mask R-CNN": (build_mask_rcnn, of_mask_rcnn),
    "Cascade Mask R-CNN": (build_cascade, of_cascade),
    "Mask-RT-DETR": (build_mask_rt_detr, of_mask_rt_detr),
    "SOLOv2": (build_solov2, of_solov2),
}
families = pytest.mark.parametrize("family", BUILDERS)


def categories(names: tuple[str, ...]) -> tuple[Category, ...]:
    return tuple(Category(id=7 * number, name=name) for number, name in enumerate(names, start=1))


def trained_model(family: str, num_classes: int, seed: int = 1) -> InstanceSegmenter:
    """A network whose class layers hold different values for each class. All other layers are constant."""
    model = BUILDERS[family][0](num_classes)
    for tensor in model.parameters():
        tensor.set_value(np.full(tensor.shape, 0.01, np.float32))
    random = np.random.RandomState(seed)
    for axis in model.class_axes():
        axis.tensor.set_value(random.randn(*axis.tensor.shape).astype(np.float32))
    return model


def load(
    model: InstanceSegmenter,
    source: InstanceSegmenter,
    path: Path,
    names: tuple[str, ...],
    names_in_file: tuple[str, ...] | None = IN_FILE,
) -> LoadReport:
    write_weights(source.state_dict(), path)
    in_file = None if names_in_file is None else categories(names_in_file)
    return load_pretrained(model, path, categories=categories(names), source_categories=in_file)


@families
def test_a_model_names_all_tensors_whose_shape_follows_the_classes(family: str) -> None:
    few, many = (BUILDERS[family][0](count) for count in (2, 5))
    shapes = {name: tensor.shape for name, tensor in few.state_dict().items()}
    state = many.state_dict()
    changing = {id(tensor) for name, tensor in state.items() if tensor.shape != shapes[name]}
    assert {id(axis.tensor) for axis in many.class_axes()} == changing
    for axis in many.class_axes():
        assert axis.tensor.shape[axis.axis] == 5 * axis.entries_per_class + axis.background_entries


@families
def test_classes_in_another_order_are_put_in_order(family: str, tmp_path: Path) -> None:
    source, model = trained_model(family, 4), trained_model(family, 4, seed=2)
    report = load(model, source, tmp_path / "w.pdparams", SAME_BUT_TURNED)
    outputs_of = BUILDERS[family][1]
    for found, expected in zip(outputs_of(model), outputs_of(source), strict=True):
        np.testing.assert_allclose(found[:4], expected[[3, 1, 2, 0]], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[4:], expected[4:], rtol=1e-5, atol=1e-5)  # the background
    assert not report.missing
    assert report.known_classes == SAME_BUT_TURNED


@families
def test_classes_that_the_file_does_not_know_keep_their_first_values(family: str, tmp_path: Path) -> None:
    source, model = trained_model(family, 4), trained_model(family, 5, seed=2)
    outputs_of = BUILDERS[family][1]
    before = outputs_of(model)
    report = load(model, source, tmp_path / "w.pdparams", TWO_KNOWN)
    for found, expected, fresh in zip(outputs_of(model), outputs_of(source), before, strict=True):
        np.testing.assert_allclose(found[[1, 3]], expected[[2, 0]], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[5:], expected[4:], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[[0, 2, 4]], fresh[[0, 2, 4]], rtol=1e-5, atol=1e-5)
    assert report.message().endswith("2 of 5 classes were matched by name (dog, Person).")


@families
def test_without_a_common_name_class_layers_begin_anew(family: str, tmp_path: Path) -> None:
    source, model = trained_model(family, 4), trained_model(family, 4, seed=2)
    before = [axis.tensor.numpy().copy() for axis in model.class_axes()]
    report = load(model, source, tmp_path / "w.pdparams", UNKNOWN)
    for axis, values in zip(model.class_axes(), before, strict=True):
        np.testing.assert_array_equal(axis.tensor.numpy(), values)
    state = model.state_dict()
    assert {id(state[name]) for name in report.missing} == {id(axis.tensor) for axis in model.class_axes()}
    assert "no class of the file" in report.message()
    assert report.message().endswith("0 of 4 classes were matched by name.")


@pytest.mark.parametrize("num_classes", [4, 5])
def test_of_a_file_without_class_names_what_fits_is_loaded(num_classes: int, tmp_path: Path) -> None:
    source, model = trained_model("PP-YOLOE_seg", 4), trained_model("PP-YOLOE_seg", num_classes, seed=2)
    names = TWO_KNOWN[:num_classes]
    report = load(model, source, tmp_path / "w.pdparams", names, names_in_file=None)
    assert len(report.missing) == (0 if num_classes == 4 else 6)
    assert "by name" not in report.message()


def test_weights_of_a_backbone_alone_say_nothing_of_classes(tmp_path: Path) -> None:
    model = slim_model(4)
    write_weights(model.backbone.state_dict(), tmp_path / "w.pdparams")
    report = load_pretrained(
        model, tmp_path / "w.pdparams", categories=categories(IN_FILE), source_categories=categories(IN_FILE)
    )
    assert report.num_classes is None
    assert "by name" not in report.message()


def test_rows_of_16_bits_are_read_as_such(tmp_path: Path) -> None:
    source, model = trained_model("Mask-RT-DETR", 4), trained_model("Mask-RT-DETR", 5, seed=2)
    path = tmp_path / "w.pdparams"
    write_weights({name: x.astype("bfloat16") for name, x in source.state_dict().items()}, path)
    load_pretrained(model, path, categories=categories(TWO_KNOWN), source_categories=categories(IN_FILE))
    found, expected = (m.transformer.denoising_class_embed.weight.numpy() for m in (model, source))
    np.testing.assert_allclose(found[[1, 3]], expected[[2, 0]], rtol=1e-2)


def test_a_layer_under_two_names_may_have_one_of_them_in_the_file(tmp_path: Path) -> None:
    source, model = trained_model("SOLOv2", 4), trained_model("SOLOv2", 5, seed=2)
    path = tmp_path / "w.pdparams"
    state = {name: x for name, x in source.state_dict().items() if ".bbox_head." not in name}
    assert any("solo_cate" in name for name in state)
    write_weights(state, path)
    report = load_pretrained(
        model, path, categories=categories(TWO_KNOWN), source_categories=categories(IN_FILE)
    )
    np.testing.assert_array_equal(
        model.solov2_head.solo_cate.bias.numpy()[[1, 3]], source.solov2_head.solo_cate.bias.numpy()[[2, 0]]
    )
    assert report.known_classes == ("dog", "Person")


@pytest.mark.parametrize(
    ("names", "names_in_file", "expected"),
    [
        (("b", "a"), ("a", "b"), {0: 1, 1: 0}),
        (("Dining Table", "cell_phone"), ("cell phone", "diningtable"), {0: 1, 1: 0}),
        (("STRASSE",), ("Straße",), {0: 0}),
        (("car", "Car"), ("CAR", "Car", "car"), {0: 2, 1: 1}),
        (("cAr",), ("CAR", "Car"), {0: 0}),
        (("cars", ""), ("car", "bus"), {}),
    ],
    ids=[
        "order",
        "spaces and underscores",
        "sharp s",
        "the exact name first",
        "the first of several",
        "none",
    ],
)
def test_names_match(
    names: tuple[str, ...], names_in_file: tuple[str, ...], expected: dict[int, int]
) -> None:
    assert match_classes(categories(names), categories(names_in_file)) == expected
