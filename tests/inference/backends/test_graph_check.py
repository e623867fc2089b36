"""Exported folders with damaged files, and with files that do not belong together."""

import json
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from legacy_graph import export_legacy
from toy_model import INPUT_HW, SPEC

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends import graph_check, trial
from paddlex_seg.inference.backends.exported_files import find_files
from paddlex_seg.inference.backends.graph_check import check_graph
from paddlex_seg.inference.backends.graph_file import GraphFile, Operator, class_counts, read_graph
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.backends.parameter_file import check_parameters
from paddlex_seg.inference.export_spec import read_inference_yml, write_inference_yml

HTML = b"<!DOCTYPE html><html>404</html>"


@pytest.fixture(scope="module")
def legacy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_legacy(tmp_path_factory.mktemp("legacy"))


@pytest.fixture
def ours(small_dir: Path, tmp_path: Path) -> Path:
    """A copy of a folder with checksums that may be damaged."""
    return Path(shutil.copytree(small_dir, tmp_path / "ours"))


@pytest.fixture
def official(ours: Path) -> Path:
    """The same without checksums, as from PaddleX."""
    write_inference_yml(ours / "inference.yml", SPEC)
    return ours


@pytest.fixture
def legacy(legacy_dir: Path, tmp_path: Path) -> Path:
    """A copy of a folder with an ``inference.pdmodel`` that may be damaged."""
    return Path(shutil.copytree(legacy_dir, tmp_path / "legacy"))


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The graphs that would have been tried in a process of their own."""
    tried: list[Path] = []
    monkeypatch.setattr(graph_check, "require_no_crash", lambda graph, params: tried.append(graph))
    return tried


def check(folder: Path) -> None:
    """What `PaddleBackend` does before it loads a graph."""
    files = find_files(folder)
    check_graph(files, read_inference_yml(files.description))


def flip(path: Path, place: float, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= bit
    path.write_bytes(content)


# Files with checksums


@pytest.mark.parametrize("name", ["network.json", "inference.pdiparams"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_changed_bit_is_noticed(ours: Path, name: str, place: float, no_trial: list[Path]) -> None:
    check(ours)
    flip(ours / name, place)
    with pytest.raises(
        BackendError, match=f"{name} is damaged, or does not belong to this inference.yml: .*SHA"
    ):
        check(ours)
    assert no_trial == []


# Files without


@pytest.mark.parametrize("name", ["network.json", "inference.pdmodel", "inference.pdiparams"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", HTML, b"\0" * 1000, b"[" * 100_000, b"version https://git-lfs.github.com/spec/v1\n"],
    ids=["empty", "object", "list", "html", "zeros", "deep", "lfs"],
)
def test_a_file_of_another_kind_is_named(
    official: Path, legacy: Path, name: str, content: bytes, no_trial: list[Path]
) -> None:
    folder = official if name == "network.json" else legacy
    (folder / name).write_bytes(content)
    with pytest.raises(BackendError, match=f"{name}.*(another|exported) folder"):
        check(folder)
    assert no_trial == []


@pytest.mark.parametrize("name", ["network.json", "inference.pdmodel", "inference.pdiparams"])
def test_a_cut_file_is_named_wherever_it_is_cut(
    official: Path, legacy: Path, name: str, no_trial: list[Path]
) -> None:
    folder = official if name == "network.json" else legacy
    whole = (folder / name).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(BackendError, match=name):
            check(folder)
    assert no_trial == []


@pytest.mark.parametrize(
    "change",
    [
        lambda ops: ops.clear(),
        lambda ops: ops.append(5),
        lambda ops: ops[0].update(O=5),
        lambda ops: ops[0].update({"#": None}),
        lambda ops: ops[0]["A"].clear(),
        lambda ops: ops[0]["O"]["TT"].update(D=[{}, "3"]),
        lambda ops: ops[0]["O"]["TT"].update(D=[{}, [10**30]]),
    ],
    ids=["no operators", "a number", "no output", "no name", "no attributes", "text as shape", "huge shape"],
)
def test_json_with_wrong_types_is_named(
    official: Path, change: Callable[[list], object], no_trial: list[Path]
) -> None:
    path = official / "network.json"
    document = json.loads(path.read_text())
    change(document["program"]["regions"][0]["blocks"][0]["ops"])
    path.write_text(json.dumps(document))
    with pytest.raises(BackendError, match=r"network\.json"):
        check(official)
    assert no_trial == []


def test_parameters_of_another_graph_are_named(
    official: Path, legacy_dir: Path, no_trial: list[Path]
) -> None:
    shutil.copy(legacy_dir / "inference.pdiparams", official)
    with pytest.raises(
        BackendError, match=r"pdiparams does not belong to network.json: it has 6 tensors.* 2"
    ):
        check(official)
    graph = read_graph(official / "network.json")
    longer = replace(graph, parameters=((graph.parameters[0][0], (3,)), *graph.parameters[1:]))
    write = (official / "inference.pdiparams").write_bytes
    write(tensor(np.zeros(2, np.float32)) + tensor(np.zeros((2, 3, 4, 4), np.float32)))
    check_parameters(official / "inference.pdiparams", graph, "network.json")
    with pytest.raises(BackendError, match=r"it has \[2\] for the parameter conv2d_\d+.b_0, .* needs \[3\]"):
        check_parameters(official / "inference.pdiparams", longer, "network.json")
    assert no_trial == []


def tensor(values: np.ndarray, kind: int = 5) -> bytes:
    """A tensor as Paddle writes it into a parameter file."""
    shape = b"".join(b"\x10" + bytes([side]) for side in values.shape)
    description = b"\x08" + bytes([kind]) + shape
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description + values.tobytes()


@pytest.mark.parametrize(
    ("values", "kind", "is_refused"),
    [
        (np.float32([0, np.nan]), 5, True),
        (np.float32([0, np.inf]), 5, False),  # in the anchors of Mask-RT-DETR
        (np.float16([np.nan, np.nan]), 4, True),
        (np.uint16([0x7F80, 0x3F80]), 22, False),  # infinity and 1 as bfloat16
        (np.uint16([0x7FC0, 0x3F80]), 22, True),
        (np.int64([1, 2]), 3, False),
    ],
)
def test_parameters_that_are_nan_are_named(
    tmp_path: Path, values: np.ndarray, kind: int, is_refused: bool
) -> None:
    path = tmp_path / "inference.pdiparams"
    path.write_bytes(tensor(values, kind))
    graph = GraphFile((("conv2d_0.b_0", (2,)),), {}, ())
    if is_refused:
        with pytest.raises(BackendError, match="of 2 values of the parameter conv2d_0.b_0 are NaN"):
            check_parameters(path, graph, "network.json")
    else:
        check_parameters(path, graph, "network.json")


def test_a_size_that_the_file_does_not_have_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "inference.pdiparams"
    description = b"\x08\x05" + b"\x10\xff\xff\xff\xff\x07" * 3  # 2**31 - 1, three times
    path.write_bytes(struct.pack("<IQIi", 0, 0, 0, len(description)) + description + bytes(100))
    with pytest.raises(BackendError, match="needs .* bytes"):
        check_parameters(path, GraphFile((("w", (2**31 - 1,) * 3),), {}, ()), "network.json")


# The trial


def test_a_folder_of_before_paddle_3_is_loaded(legacy: Path) -> None:
    backend = PaddleBackend(legacy)
    size = np.float32([INPUT_HW])
    bbox, bbox_num, mask = backend(np.zeros((1, 3, *INPUT_HW), np.float32), size, np.ones_like(size))
    assert bbox_num.tolist() == [2] and len(bbox) == len(mask) == 2


def rename_an_input(path: Path) -> None:
    """Change a name where it is used, not where it is declared. Paddle crashes on it."""
    content = path.read_bytes()
    assert content.count(b"clip_0.tmp_0") > 1
    path.write_bytes(content.replace(b"clip_0.tmp_0", b"clip_0.tmp_9", 1))


def test_a_graph_on_which_paddle_crashes_is_an_error(legacy: Path) -> None:
    rename_an_input(legacy / "inference.pdmodel")
    with pytest.raises(
        BackendError, match=r"inference\.pdmodel: a process that loaded this graph as a trial ended"
    ):
        PaddleBackend(legacy)


def test_a_trial_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "COMMAND", "import time; time.sleep(60)")
    monkeypatch.setattr(trial, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(BackendError, match="was not ready after 0 s"):
        trial.require_no_crash(Path("network.json"), Path("inference.pdiparams"))


LOAD = """
import sys
from pathlib import Path
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.paddle import PaddleBackend
for folder in map(Path, sys.argv[1:]):
    try:
        PaddleBackend(folder)
    except BackendError as error:
        assert str(folder) in str(error)
"""


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_random_damage_never_ends_the_process(
    legacy_dir: Path, official: Path, tmp_path: Path, no_trial: list[Path], count: int
) -> None:
    """Only variants that the checks in Python let through, because these reach Paddle."""
    rng = random.Random(17)
    folders: list[str] = []
    while len(folders) < count:
        source, name = rng.choice(((legacy_dir, "inference.pdmodel"), (official, "network.json")))
        folder = Path(shutil.copytree(source, tmp_path / f"damaged {len(folders)}", dirs_exist_ok=True))
        for _ in range(rng.choice((1, 1, 4))):
            flip(folder / name, rng.random(), bit=1 << rng.randrange(8))
        try:
            check(folder)
        except BackendError:
            continue
        folders.append(str(folder))
    assert len(no_trial) >= count
    ended = subprocess.run(
        [sys.executable, "-c", LOAD, *folders], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


# Files that do not belong together


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("arch", "RCNN", "arch is RCNN, and the graph is of SOLOv2 or PPYOLOE"),
        ("arch", "DETR", "arch is DETR, and the graph is of"),
        ("Global", {"model_name": "SOLOv2"}, "Global.model_name is SOLOv2, and arch is PPYOLOE"),
        ("size", [96, 64], r"target_size is \[96, 64\], and the graph takes \[64, 96\]"),
    ],
)
def test_a_description_of_another_graph_is_named(ours: Path, key: str, value: object, words: str) -> None:
    path = ours / "inference.yml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if key == "size":
        document["Preprocess"][0]["target_size"] = value
    else:
        document[key] = value
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    with pytest.raises(BackendError, match=f"inference.yml does not belong to network.json: .*{words}"):
        check(ours)


SCORES = {
    "RCNN": Operator("softmax", (), ((-1, 81),)),
    "PPYOLOE": Operator("multiclass_nms3", ((-1, -1, 4), (-1, 80, 8400)), ((-1, 6),)),
    "SOLOv2": Operator("sigmoid", (), ((-1, 80, 40, 40),)),
    "DETR": Operator("sigmoid", (), ((-1, 300, 80),)),
}
OTHERS = (
    Operator("roi_align", (), ()),
    Operator("softmax", (), ((-1, 8, 300, 300),)),
    Operator("sigmoid", (), ((-1, 300, 4), (-1, -1, -1), (-1, -1, -1, -1), (-1, 3, 1, 7))),
)


@pytest.mark.parametrize("arch", SCORES)
def test_the_number_of_classes_is_read_from_the_scores(arch: str) -> None:
    assert class_counts(GraphFile((), {}, (*OTHERS, SCORES[arch], *OTHERS)), arch) == {80}
    assert class_counts(GraphFile((), {}, ()), arch) == set()


def test_four_classes_are_told_from_the_four_sides_of_a_box() -> None:
    assert class_counts(GraphFile((), {}, OTHERS), "DETR") == {4}


def test_an_unknown_architecture_has_any_number_of_classes() -> None:
    assert class_counts(GraphFile((), {}, tuple(SCORES.values())), "") == set()


def test_a_checksum_that_is_none_is_a_problem_of_the_description(ours: Path) -> None:
    path = ours / "inference.yml"
    path.write_text(
        re.sub(r"(?s)sha256:.*", "sha256: 5\n", path.read_text(encoding="utf-8")), encoding="utf-8"
    )
    with pytest.raises(BackendError, match="sha256 is 5, expected a checksum for each file name"):
        check(ours)
