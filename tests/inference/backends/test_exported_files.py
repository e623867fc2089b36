"""Folders of PaddleX and PaddleDetection, mixtures of them, and folders with files missing."""

from pathlib import Path

import pytest

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.exported_files import find_files


def folder_with(folder: Path, names: str) -> Path:
    for name in names.split():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("present", "used"),
    [
        (
            "inference.yml inference.json inference.pdiparams",
            "inference.json inference.pdiparams inference.yml",
        ),
        (
            "inference.yml inference.pdmodel inference.pdiparams inference.pdiparams.info",
            "inference.pdmodel inference.pdiparams inference.yml",
        ),
        ("infer_cfg.yml model.pdmodel model.pdiparams", "model.pdmodel model.pdiparams infer_cfg.yml"),
        ("infer_cfg.yml model.json model.pdiparams", "model.json model.pdiparams infer_cfg.yml"),
        ("inference.yml model.pdmodel model.pdiparams", "model.pdmodel model.pdiparams inference.yml"),
        (
            "infer_cfg.yml inference.json inference.pdiparams",
            "inference.json inference.pdiparams infer_cfg.yml",
        ),
        (
            "inference.yml network.json inference.json inference.pdiparams",
            "network.json inference.pdiparams inference.yml",
        ),
        (
            "inference.yml inference.json inference.pdmodel inference.pdiparams",
            "inference.json inference.pdiparams inference.yml",
        ),
        (
            "inference.yml infer_cfg.yml model.json inference.json inference.pdiparams model.pdiparams",
            "inference.json inference.pdiparams inference.yml",
        ),
        (
            "inference.yml infer_cfg.yml inference.json model.pdmodel model.pdiparams",
            "model.pdmodel model.pdiparams infer_cfg.yml",
        ),
        (
            "infer_cfg.yml network.json inference.json inference.pdiparams",
            "inference.json inference.pdiparams infer_cfg.yml",
        ),
    ],
)
def test_graph_parameters_and_description_are_found(tmp_path: Path, present: str, used: str) -> None:
    files = find_files(folder_with(tmp_path, present))
    assert [files.graph, files.params, files.description] == [tmp_path / name for name in used.split()]
    assert files.is_official == (files.graph.name != "network.json")


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (
            "readme.md",
            r"inference.yml \(or infer_cfg.yml\), network.json \(or .*model.pdmodel\), inference.pdi",
        ),
        (
            "inference.yml inference.json",
            r": inference.pdiparams \(the parameters of inference.json\) missing",
        ),
        ("inference.yml inference.json model.pdiparams", ": inference.pdiparams .*missing"),
        (
            "inference.yml inference.pdiparams",
            r": network.json \(or inference.json, inference.pdmodel\) missing",
        ),
        ("infer_cfg.yml model.pdiparams", r": model.json \(or model.pdmodel\) missing"),
        ("infer_cfg.yml model.pdmodel", r": model.pdiparams \(the parameters of model.pdmodel\) missing"),
        ("model.pdmodel model.pdiparams", r": inference.yml \(or infer_cfg.yml\) missing"),
        ("infer_cfg.yml network.json inference.pdiparams", ": inference.yml .*network.json"),
        ("model.yml model.pdmodel model.pdiparams", ": inference.yml"),  # of PaddleX 2
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, present: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        find_files(folder_with(tmp_path, present))


def test_the_folder_inside_is_proposed(tmp_path: Path) -> None:
    folder_with(tmp_path, "SOLOv2_infer/inference.yml")
    with pytest.raises(BackendError, match=r"Did you mean Predict\.model_dir=.*SOLOv2_infer\?"):
        find_files(tmp_path)


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    archive = folder_with(tmp_path, "SOLOv2_infer.tar") / "SOLOv2_infer.tar"
    with pytest.raises(BackendError, match="SOLOv2_infer.tar is a file"):
        find_files(archive)
