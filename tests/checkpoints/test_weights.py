import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn
from small_runs import MODEL, slim_model

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.weights import load_into, load_model, read_weights, write_weights
from paddlex_seg.errors import WeightsError

# Reading valid files


class Net(nn.Layer):
    """A backbone and a head, with running statistics and a fixed convolution."""

    def __init__(self, num_classes: int = 80) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4))
        self.head = nn.Linear(4, num_classes)
        self.proj_conv = nn.Conv2D(5, 1, 1, bias_attr=False)


def arrays_of(model: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("wrapper", [None, "model", "ema", "anything else"])
def test_files_of_paddle_save_are_read_bit_by_bit(tmp_path: Path, protocol: int, wrapper: str | None) -> None:
    model = Net()
    state = model.state_dict()
    path = tmp_path / "w.pdparams"
    paddle.save(state if wrapper is None else {wrapper: state, "epoch": 3}, str(path), protocol=protocol)
    if wrapper == "anything else":
        with pytest.raises(WeightsError, match="holds no arrays"):
            read_weights(path)
    else:
        assert_same_bits(read_weights(path), arrays_of(model))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_and_kind_of_array_is_read(tmp_path: Path, protocol: int) -> None:
    expected = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "double": np.linspace(0, 1, 5),
        "scalar": np.array(2.5, dtype=np.float32),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "columns_first": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
        "big_endian": np.arange(4, dtype=">f4"),
        "flags": np.array([True, False]),
        "bytes": np.arange(256, dtype=np.uint8),
        "strided": np.arange(20, dtype=np.int32)[::3],
    }
    path = tmp_path / "w.pdparams"
    extra = {"lr": np.float64(0.1), "note": "text", "last_epoch": 3, "none": None, "names": {"half": "x_0"}}
    path.write_bytes(pickle.dumps({**expected, **extra}, protocol=protocol))
    found = read_weights(path)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_files_of_numpy_1_and_numpy_2_are_read(tmp_path: Path, core: str) -> None:
    array = np.arange(3, dtype=np.float32)
    content = pickle.dumps({"w": array}, protocol=2)
    ours = b"numpy._core.multiarray" if b"numpy._core" in content else b"numpy.core.multiarray"
    path = tmp_path / "w.pdparams"
    path.write_bytes(content.replace(ours, core.encode() + b".multiarray"))
    np.testing.assert_array_equal(read_weights(path)["w"], array)


def test_tensors_that_paddle_cut_in_slices_are_joined(tmp_path: Path) -> None:
    big = np.arange(12, dtype=np.float32).reshape(3, 4)
    content = {
        "small": np.ones(2, np.float32),
        "big@@.0": big.ravel()[:7],
        "big@@.1": big.ravel()[7:],
        "UnpackBigParamInfor@@": {"big": {"OriginShape": (3, 4), "slices": ["big@@.0", "big@@.1"]}},
        "StructuredToParameterName@@": {"big": "x_0", "small": "x_1"},
    }
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=2))
    found = read_weights(path)
    assert list(found) == ["small", "big"]
    np.testing.assert_array_equal(found["big"], big)


def test_safetensors_are_read_bit_by_bit(tmp_path: Path) -> None:
    expected = dict(sorted(arrays_of(Net()).items()))
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(expected, path)
    found = read_weights(str(path))
    assert_same_bits(dict(sorted(found.items())), expected)


def test_safetensors_of_bfloat16_are_read_as_paddle_stores_it(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    half = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    full = {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}
    head = json.dumps({"a": half, "b": full}).encode()
    values = np.uint16([0x3F80, 0x4000]).tobytes() + np.float32([3]).tobytes()
    path.write_bytes(len(head).to_bytes(8, "little") + head + values)
    found = read_weights(path)
    assert found["a"].dtype == np.uint16 and found["b"].tolist() == [3]
    model = nn.Linear(1, 2)
    load_into(model, {"bias": found["a"]})
    assert model.bias.numpy().tolist() == [1, 2]


# Reading invalid files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"PK\x03\x04" + bytes(40), "PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"just some text", "truncated, damaged or no weight file"),
        (bytes(1000), "truncated, damaged or no weight file"),
        (pickle.dumps([1, 2]), "object of type list"),
        (pickle.dumps({"a": 1}), "no arrays"),
    ],
    ids=["missing", "empty", "html", "zip", "lfs", "text", "zeros", "list", "no arrays"],
)
@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_file_that_is_no_weight_file_is_named_with_the_reason(
    tmp_path: Path, content: bytes | None, words: str, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    if content is not None:
        path.write_bytes(content)
    if suffix == ".safetensors" and content and content.startswith((b"just", bytes(9), b"\x80")):
        words = "truncated, damaged or no weight file"
    with pytest.raises(WeightsError, match=words) as error:
        read_weights(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("info", [{}, [], {"a": {}}, {"a": {"slices": ["b"], "OriginShape": (1,)}}])
def test_a_false_list_of_slices_is_damage(tmp_path: Path, info: object) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"UnpackBigParamInfor@@": info}))
    with pytest.raises(WeightsError, match="damaged|no arrays"):
        read_weights(path)


def test_a_folder_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path, suffix: str) -> None:
    weights = {"a": np.arange(40, dtype=np.float32), "b": np.ones((3, 3), np.float32)}
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        safetensors.numpy.save_file(weights, whole)
    else:
        whole.write_bytes(pickle.dumps(weights, protocol=4))
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in range(1, len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=re.escape(str(cut))):
            read_weights(cut)


def test_an_array_shorter_than_its_shape_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.arange(3, dtype=np.float32)}, protocol=2)
    path = tmp_path / "w.pdparams"
    path.write_bytes(content.replace(b"K\x01K\x03\x85", b"K\x01K\x04\x85"))
    with pytest.raises(WeightsError, match="reshape"):
        read_weights(path)


# Writing


def test_what_is_written_is_what_paddle_load_and_the_reader_read(tmp_path: Path) -> None:
    model = Net()
    path = tmp_path / "new" / "folder" / "w.pdparams"
    write_weights(model.state_dict(), path)
    assert_same_bits(read_weights(path), arrays_of(model))
    loaded = paddle.load(str(path), return_numpy=True)
    assert_same_bits(loaded, arrays_of(model))
    other = Net()
    other.set_state_dict(paddle.load(str(path)))
    assert_same_bits(arrays_of(other), arrays_of(model))


def test_the_layout_is_that_of_paddle_save(tmp_path: Path) -> None:
    state = Net().state_dict()
    write_weights(state, tmp_path / "ours.pdparams")
    paddle.save(state, str(tmp_path / "theirs.pdparams"))
    ours, theirs = (pickle.loads((tmp_path / f"{name}.pdparams").read_bytes()) for name in ("ours", "theirs"))
    assert list(ours) == list(theirs)
    assert ours["StructuredToParameterName@@"] == theirs["StructuredToParameterName@@"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WeightsError, match="No space left on device"):
        write_weights(Net().state_dict(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_while_a_new_one_is_written_reads_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        write_weights(Net().state_dict(), path)
        assert reader.read() == b"old"
    assert len(read_weights(path)) == 9


# Loading


def numbered(model: nn.Layer) -> dict[str, np.ndarray]:
    """Arrays for all tensors of a model, each with different values."""
    return {
        name: np.full(tensor.shape, number + 1, np.float32)
        for number, (name, tensor) in enumerate(model.state_dict().items())
    }


def test_all_tensors_of_the_same_name_are_loaded_running_statistics_included() -> None:
    model = Net()
    weights = numbered(model)
    report = load_into(model, weights)
    assert_same_bits(arrays_of(model), weights)
    assert report.loaded == tuple(weights)
    assert (report.skipped, report.missing) == ((), ())
    assert report.message() == "All 9 tensors were loaded."


def test_loaded_tensors_are_copies_and_stay_trainable() -> None:
    model = Net()
    weights = numbered(model)
    load_into(model, weights)
    weights["head.bias"][:] = -1
    assert model.head.bias.numpy().min() > 0
    assert not model.head.bias.stop_gradient
    assert model.backbone[1]._mean.stop_gradient


def test_backbone_weights_without_their_prefix_find_their_place() -> None:
    model = Net()
    weights = {
        name.removeprefix("backbone."): array for name, array in numbered(model).items() if "back" in name
    }
    report = load_into(model, {**weights, "fc.weight": np.ones((4, 4), np.float32)})
    assert report.loaded == tuple(f"backbone.{name}" for name in weights)
    assert report.skipped == (("fc.weight", "the model has no such tensor"),)
    assert report.missing == ("head.weight", "head.bias", "proj_conv.weight")
    np.testing.assert_array_equal(model.backbone[0].weight.numpy(), weights["0.weight"])
    assert report.message() == (
        "3 of 9 tensors were not loaded and keep their initial values (head 2, proj_conv 1). "
        "Not used from the file: fc.weight: the model has no such tensor."
    )


def test_a_head_of_another_number_of_classes_is_left_out_and_both_shapes_are_told() -> None:
    model = Net(num_classes=2)
    before = model.head.weight.numpy()
    report = load_into(model, numbered(Net(num_classes=80)))
    assert report.skipped == (
        ("head.weight", "file has [4, 80], model needs [4, 2]"),
        ("head.bias", "file has [80], model needs [2]"),
    )
    assert report.missing == ("head.weight", "head.bias")
    np.testing.assert_array_equal(model.head.weight.numpy(), before)
    assert "2 of 9 tensors were not loaded and keep their initial values (head 2)" in report.message()
    assert "head.weight: file has [4, 80], model needs [4, 2]" in report.message()


def test_a_name_that_fits_two_tensors_is_not_guessed() -> None:
    model = Net()
    report = load_into(model, {"bias": np.zeros(80, np.float32), "head.weight": np.ones((4, 80), np.float32)})
    assert report.loaded == ("head.weight",)
    (name, reason), *rest = report.skipped
    assert (name, rest) == ("bias", [])
    assert reason.startswith("fits 3 tensors of the model, such as backbone.0.bias")


def test_the_longest_fitting_name_wins_and_an_exact_one_is_not_lent() -> None:
    model = nn.Sequential(("a", nn.Sequential(("conv", nn.Linear(1, 1)))), ("conv", nn.Linear(1, 1)))
    ones, twos, threes = (np.full((1, 1), value, np.float32) for value in (1, 2, 3))
    report = load_into(model, {"conv.weight": ones})
    assert report.loaded == ("conv.weight",)  # not a.conv.weight too
    nested = nn.Sequential(("x", nn.Sequential(("y", nn.Linear(1, 1)))))
    report = load_into(nested, {"weight": twos, "y.weight": threes})
    assert nested.x.y.weight.item() == 3
    assert report.skipped == (("weight", "the model has no such tensor"),)


def test_a_tensor_under_two_names_is_loaded_from_either() -> None:
    model = Net()
    model.alias = model.head
    report = load_into(model, {"head.weight": np.full((4, 80), 7, np.float32)})
    assert report.loaded == ("head.weight", "alias.weight")
    assert "alias.weight" not in report.missing
    assert model.alias.weight.numpy().max() == 7


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_values_are_converted_to_the_type_of_the_model(tmp_path: Path, dtype: str) -> None:
    values = [0.5, -2.0, 3.0, 100.0]
    path = tmp_path / "w.pdparams"
    paddle.save({"bias": paddle.to_tensor(values).astype(dtype)}, str(path))
    model = nn.Linear(1, 4)
    load_into(model, read_weights(path))
    assert model.bias.dtype == paddle.float32
    assert model.bias.numpy().tolist() == values


def test_weights_of_a_wholly_different_model_are_an_error_that_changes_nothing() -> None:
    model = Net()
    before = arrays_of(model)
    with pytest.raises(WeightsError, match=r"other\.pdparams: none of its 2 entries fits this model"):
        load_into(model, {"fc.w": np.ones(3), "head.bias": np.ones(3)}, source="other.pdparams")
    assert_same_bits(arrays_of(model), before)


def test_a_long_report_stays_a_paragraph() -> None:
    model = Net()
    unused = {f"layer{i}.w": np.ones((i, 2), np.float32) for i in range(100)}
    message = load_into(model, {**numbered(model), **unused}).message()
    assert "layer0.w, layer1.w, layer2.w, and 97 more: the model has no such tensor" in message
    assert len(message) < 300


# Loading a whole model

SLIM = replace(find_model(MODEL), build=slim_model)


def test_a_model_is_loaded_whole_and_ready_to_evaluate(tmp_path: Path) -> None:
    model = slim_model(num_classes=2)
    write_weights(model.state_dict(), tmp_path / "best_model.pdparams")
    loaded = load_model(SLIM, tmp_path / "best_model.pdparams", num_classes=2)
    assert not loaded.training
    assert_same_bits(arrays_of(loaded), arrays_of(model))


def test_weights_that_fit_in_part_are_refused(tmp_path: Path) -> None:
    state = slim_model(num_classes=2).state_dict()
    del state["yolo_head.pred_cls.0.bias"]
    write_weights(state, tmp_path / "part.pdparams")
    with pytest.raises(WeightsError, match=r"part\.pdparams does not fit.*1 of \d+ tensors were not loaded"):
        load_model(SLIM, tmp_path / "part.pdparams", num_classes=2)


def test_weights_of_something_else_are_refused_by_their_name(tmp_path: Path) -> None:
    write_weights({"weight": paddle.ones([1])}, tmp_path / "other.pdparams")
    with pytest.raises(WeightsError, match=r"other\.pdparams"):
        load_model(SLIM, tmp_path / "other.pdparams", num_classes=2)
