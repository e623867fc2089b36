"""A folder with a model is data: nothing in it is executed, and no other file is read or written."""

import io
import json
import os
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from legacy_graph import export_legacy
from toy_model import SPEC, export_toy

from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.export_spec import write_inference_yml
from paddlex_seg.pipelines.create import create_model

IMAGE = np.full((64, 96, 3), 200, np.uint8)
SECRET = "root:secret words:0:0"


class Gadget:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_toy(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_legacy(tmp_path_factory.mktemp("old") / "model")


@pytest.fixture
def model(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "model"))


@pytest.fixture
def legacy(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old, tmp_path / "legacy"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def use(folder: Path | str, **options: Any) -> list[Any]:
    with create_model(model_dir=folder, device="cpu", **options) as opened:
        return list(opened.predict(IMAGE))


def refused(folder: Path, canary: Path, **options: Any) -> str:
    """The message of the error about a folder, after which the canary is not there."""
    with pytest.raises(PaddlexSegError) as caught:
        use(folder, **options)
    message = str(caught.value)
    assert not canary.exists()
    assert len(message) < 2_000 and SECRET not in message
    return message


def in_yml(folder: Path, old: str, new: str) -> None:
    path = folder / "inference.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def without_checksums(folder: Path) -> None:
    write_inference_yml(folder / "inference.yml", SPEC)


def test_the_folders_are_used_as_they_are(model: Path, legacy: Path) -> None:
    """Otherwise the tests below would pass without a gadget."""
    assert len(use(model)) == len(use(legacy)) == 1


def test_a_gadget_would_run_where_it_is_loaded(canary: Path) -> None:
    pickle.loads(pickle.dumps(Gadget(canary)))
    assert canary.exists()


# Pickles


@pytest.mark.parametrize("name", ["inference.pdiparams", "network.json", "inference.yml"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_no_file_of_a_model(model: Path, canary: Path, name: str, protocol: int) -> None:
    if name != "inference.yml":
        without_checksums(model)
    (model / name).write_bytes(pickle.dumps(Gadget(canary), protocol))
    assert name in refused(model, canary)


@pytest.mark.parametrize(
    "name", ["inference.pdparams", "model.pdparams", "model.pkl", "inference.pdiparams.info"]
)
def test_files_of_other_names_are_not_opened(model: Path, canary: Path, name: str) -> None:
    (model / name).write_bytes(pickle.dumps(Gadget(canary)))
    assert len(use(model)) == 1
    assert not canary.exists()


# YAML


TAGS = {
    "apply": '!!python/object/apply:os.system ["touch {canary}"]',
    "new": '!!python/object/new:os.system ["touch {canary}"]',
    "name": "!!python/name:os.system",
    "module": "!!python/module:os",
    "eval": "!!python/object/apply:eval [\"open('{canary}', 'w')\"]",
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("place", ["draw_threshold", "label_list", "bands", "extra"])
def test_tags_of_python_are_no_yaml(model: Path, canary: Path, tag: str, place: str) -> None:
    document = yaml.safe_load((model / "inference.yml").read_text(encoding="utf-8"))
    document[place] = "GADGET"
    text = yaml.safe_dump(document).replace("GADGET", TAGS[tag].replace("{canary}", str(canary)))
    (model / "inference.yml").write_text(text)
    message = refused(model, canary)
    assert "inference.yml" in message and "python/" in message


def test_code_in_values_stays_text(model: Path, canary: Path) -> None:
    labels = [f"$(touch {canary})", "{0.__class__.__mro__} {{ 7 * 7 }} %(x)s"]
    document = yaml.safe_load((model / "inference.yml").read_text(encoding="utf-8"))
    document |= {"label_list": labels, "exported_from": {"weights": "../../../etc/passwd", "__class__": "os"}}
    (model / "inference.yml").write_text(yaml.safe_dump(document))
    with create_model(model_dir=model, device="cpu") as opened:
        assert list(opened.labels) == labels
        (found,) = opened.predict(IMAGE)
        str(found)
    assert not canary.exists()


LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {k: 1, l: 2}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    "key", ["label_list", "arch", "draw_threshold", "mask_frame", "bands", "sha256", "Preprocess", "metric"]
)
def test_aliases_of_aliases_fill_no_memory(model: Path, canary: Path, key: str) -> None:
    text = (model / "inference.yml").read_text(encoding="utf-8")
    document = {name: value for name, value in yaml.safe_load(text).items() if name != key}
    (model / "inference.yml").write_text(f"{LAUGHS}\n{yaml.safe_dump(document)}\n{key}: *a11\n")
    assert "more than 200,000 values" in refused(model, canary)


def test_merged_aliases_fill_no_memory(model: Path, canary: Path) -> None:
    text = (model / "inference.yml").read_text(encoding="utf-8")
    (model / "inference.yml").write_text(f"{MERGES}\n{text}")
    assert "<< is not supported" in refused(model, canary)


# Graphs


def operators_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["program"]["regions"][0]["blocks"][0]["ops"]


def attribute(name: str, kind: str, value: Any) -> dict[str, Any]:
    return {"N": name, "AT": {"#": f"0.a_{kind}", "D": value}}


def operator(name: str, file: Path, inputs: list[int]) -> dict[str, Any]:
    return {
        "#": f"1.{name}",
        "A": [
            attribute("file_path", "str", str(file)),
            attribute("filename", "str", str(file)),
            *(attribute(flag, "bool", flag == "overwrite") for flag in ("overwrite", "save_as_fp16")),
            attribute("save_to_memory", "bool", False),
        ],
        "OA": [],
        "I": [{"%": one} for one in inputs],
        "O": [],
    }


def in_branch(inner: dict[str, Any]) -> dict[str, Any]:
    block = {"#": "block_1", "args": [], "ops": [inner]}
    inside = {
        "#": "1.if",
        "A": [],
        "OA": [],
        "I": [],
        "O": [],
        "regions": [{"#": "region_1", "blocks": [block]}],
    }
    deeper = {"#": "block_2", "args": [], "ops": [inside]}
    return {**inside, "#": "1.while", "regions": [{"#": "region_2", "blocks": [deeper]}]}


@pytest.mark.parametrize(
    "name", ["save", "save_combine", "load", "load_combine", "read_file", "py_func", "print"]
)
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "in a branch"])
@pytest.mark.parametrize("checked", [False, True], ids=["without checksums", "with checksums"])
def test_operators_that_reach_files_or_functions_are_refused(
    model: Path, canary: Path, name: str, nested: bool, checked: bool
) -> None:
    document = json.loads((model / "network.json").read_text())
    operators = operators_of(document)
    parameter = next(one for one in operators if one["#"] == "p")["O"]["%"]
    added = operator(name, canary, [parameter])
    operators.insert(len(operators) - 3, in_branch(added) if nested else added)
    (model / "network.json").write_text(json.dumps(document))
    if checked:  # whoever made the folder has made its checksums
        before = yaml.safe_load((model / "inference.yml").read_text(encoding="utf-8"))
        in_yml(model, before["sha256"]["network.json"], sha256_of(model / "network.json"))
    else:
        without_checksums(model)
    assert f"the graph uses {name}, which" in refused(model, canary)


def test_an_operator_of_an_earlier_graph_cannot_write_a_file(legacy: Path, canary: Path) -> None:
    from paddle.base.proto import framework_pb2 as pb

    program = pb.ProgramDesc()
    program.ParseFromString((legacy / "inference.pdmodel").read_bytes())
    block = program.blocks[0]
    parameter = next(one.name for one in block.vars if one.persistable and one.name not in ("feed", "fetch"))
    added = pb.OpDesc(type="save")
    added.inputs.add(parameter="X", arguments=[parameter])
    added.attrs.add(name="file_path", type=pb.STRING, s=str(canary))
    for flag in ("overwrite", "save_as_fp16", "save_to_memory"):
        added.attrs.add(name=flag, type=pb.BOOLEAN, b=flag == "overwrite")
    before = list(block.ops)
    del block.ops[:]
    place = next(number for number, one in enumerate(before) if one.type == "fetch")
    block.ops.extend([*before[:place], added, *before[place:]])
    (legacy / "inference.pdmodel").write_bytes(program.SerializeToString())
    assert "the graph uses save, which" in refused(legacy, canary)


@pytest.mark.parametrize(
    "content",
    [
        {"__class__": "os.system", "args": ["touch {canary}"]},
        {"py/object/apply": "os.system"},
        {"py/reduce": [{"py/type": "os.system"}, {"py/tuple": ["touch {canary}"]}]},
        {"base_code": {"magic": "pir"}, "program": {"__reduce__": ["os.system", "touch {canary}"]}},
    ],
)
def test_names_of_classes_in_json_are_only_text(model: Path, canary: Path, content: dict[str, Any]) -> None:
    without_checksums(model)
    (model / "network.json").write_text(json.dumps(content).replace("{canary}", str(canary)))
    assert "network.json" in refused(model, canary)


# Converted networks


def with_onnx(folder: Path, location: str, names: dict[str, str] | None = None) -> None:
    """A ``network.onnx`` whose parameter stands in another file, and a certificate for it."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    values = [helper.make_tensor_value_info(name, 1, [4]) for name in ("image", "a", "b", "c")]
    nodes = [helper.make_node("Add", ["image", "w"], [name]) for name in ("a", "b", "c")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [tensor])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(network, str(folder / "network.onnx"))
    certify(folder, names or {})


def certify(folder: Path, names: dict[str, str]) -> None:
    file = folder / "network.onnx"
    entry: dict[str, Any] = dict.fromkeys(("limits", "figures", "versions", "machine"), {}) | dict.fromkeys(
        ("problems", "inputs", "calls"), []
    )
    entry |= {"backend": "onnxruntime", "precision": "f32", "graph": file.name, "verdict": "passed"}
    entry |= {"reference": "", "time": "", "seconds": 0.0, "sha256": {file.name: sha256_of(file), **names}}
    (folder / "certificate.json").write_text(json.dumps({"format": 1, "entries": [entry]}))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.bin"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("location", ["../secret.bin", "{secret}", "link.bin", "inner/../../secret.bin"])
def test_parameters_outside_of_the_folder_are_not_read(
    model: Path, canary: Path, secret: Path, backend: str, location: str
) -> None:
    pytest.importorskip(backend)
    (model / "link.bin").symlink_to(secret)
    (model / "inner").mkdir()
    with_onnx(model, location.replace("{secret}", str(secret)))
    assert "network.onnx" in refused(model, canary, backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_parameters_inside_of_the_folder_are_read(model: Path, backend: str) -> None:
    """Otherwise the test above would pass for another reason."""
    pytest.importorskip(backend)
    (model / "inside.bin").write_bytes(bytes(16))
    with_onnx(model, "inside.bin")
    with create_model(model_dir=model, device="cpu", backend=backend) as opened:
        assert opened.backend == backend


@pytest.mark.parametrize("name", ["../network.bin", "/etc/network.bin", "..", "", "a/b/network.bin", "\0"])
def test_names_in_a_certificate_lead_nowhere(model: Path, canary: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    with_onnx(model, "missing.bin", {name: "0" * 64})
    assert "network" in refused(model, canary, backend="onnxruntime")


# Paths


def test_an_archive_is_no_folder_and_is_not_unpacked(
    model: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "inner" / "model.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        record = tarfile.TarInfo("../canary")
        record.size = 5
        tar.addfile(record, io.BytesIO(b"hello"))
        tar.add(model, "model")
    monkeypatch.chdir(archive.parent)
    for place in (archive, "model.tar", f"{archive}/../model.tar"):
        assert "folder of an exported model" in refused(Path(place), canary)
    assert [path.name for path in archive.parent.iterdir()] == ["model.tar"]


@pytest.mark.parametrize(
    "name",
    ["../model", "PP-YOLOE_seg-S/../../x", "http://127.0.0.1:9/model.tar", "model.tar", "x\0y", "..", "/etc"],
)
def test_a_name_of_a_model_is_no_path_of_an_archive(canary: Path, name: str) -> None:
    with pytest.raises(PaddlexSegError):
        create_model(name, device="cpu")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["inference.yml", "inference.pdiparams", "network.json"])
def test_a_link_to_another_file_shows_nothing_of_it(
    model: Path, canary: Path, secret: Path, name: str
) -> None:
    if name != "inference.yml":
        without_checksums(model)
    (model / name).unlink()
    (model / name).symlink_to(secret)
    assert name in refused(model, canary)


def test_checksums_of_other_files_are_not_computed(model: Path, secret: Path) -> None:
    in_yml(model, "sha256:\n", f"sha256:\n  ../secret.bin: {'a' * 64}\n  {secret}: {'a' * 64}\n")
    assert len(use(model)) == 1
