"""Files of other kinds that were given as weights."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.errors import WeightsError


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    return buffer.getvalue()


KINDS = {
    "page.pdparams": (b" \n<!DOCTYPE html><html>404</html>", "a web page"),
    "torch.pt": (archive(), "a zip archive, perhaps weights of PyTorch.* PaddlePaddle"),
    "old.pth": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch.* PaddlePaddle"),
    "pointer.pdparams": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX model.*of the checkpoint"),
    "inference.pdmodel": (b"\x0a\xd1\x07\x08\x00\x10\xff", "graph of an exported model.*of the checkpoint"),
    "inference.json": (b'{"base_code":{"magic":"pir"}}', "graph of an exported model.*of the checkpoint"),
    "settings.json": (b'{"a": 1}', "a JSON file"),
    "a.png": (image("PNG"), "an image"),
    "a.jpg": (image("JPEG"), "an image"),
    "a.bmp": (image("BMP"), "an image"),
    "a.tif": (image("TIFF"), "an image"),
    "a.webp": (image("WEBP"), "an image"),
    "weights.tar.gz": (b"\x1f\x8b\x08\x00", "a compressed archive.*Unpack"),
    "notes.txt": ("Gewichte für später\n".encode(), "a text file"),
    "noise.pdparams": (bytes(range(1, 256)), "something else than weights"),
    "zeros.pdparams": (bytes(1000), "something else than weights"),
    "cut.pdparams": (pickle.dumps({"w": np.zeros(99)})[:200], "of which a part is missing"),
    "cut.safetensors": (safetensors.numpy.save({"w": np.zeros(99)})[:200], "of which a part is missing"),
    "empty.pdparams": (b"", "is empty"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named_and_nothing_is_to_be_destroyed(tmp_path: Path, name: str) -> None:
    content, words = KINDS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=words) as error:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert not any(word in str(error.value).lower() for word in ("delete", "remove", "overwrite"))


def test_the_parameters_of_an_exported_model_are_told(exported: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"parameters of an exported model.*\.pdparams.*Predict\.model_dir"
    ):
        read_weights(exported / "inference.pdiparams")


@pytest.mark.parametrize("name", ["w.pdparams", "w", "download?id=5"])
def test_safetensors_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    safetensors.numpy.save_file({"w": np.arange(3, dtype=np.float32)}, tmp_path / name)
    assert read_weights(tmp_path / name)["w"].tolist() == [0, 1, 2]
