"""Detections for the library supervision: the real one where it is installed, and a stand-in."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from made_instances import EASILY_LOST, instances_of

from paddlex_seg.inference.outputs.supervision import MissingLibrary, to_supervision

MASKS = list(EASILY_LOST.values())[:3]


class Detections:
    """As in supervision: keyword arguments become attributes."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.fixture(params=["stand-in", "real"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "real":
        return pytest.importorskip("supervision")
    module = ModuleType("supervision")
    module.Detections = Detections  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    return module


def test_detections_have_all_fields(library: ModuleType) -> None:
    instances = instances_of(MASKS, class_ids=[1, 0, 1])
    found = to_supervision(instances, ["nut", "螺母"])
    assert isinstance(found, library.Detections)
    assert np.array_equal(found.xyxy, instances.boxes_xyxy) and found.xyxy.shape == (3, 4)
    assert found.mask.dtype == bool and np.array_equal(found.mask, np.stack(MASKS))
    assert np.array_equal(found.confidence, instances.scores)
    assert found.class_id.tolist() == [1, 0, 1]
    assert found.data["class_name"].tolist() == ["螺母", "nut", "螺母"]


def test_nothing_found(library: ModuleType) -> None:
    found = to_supervision(instances_of([]), ["nut"])
    assert found.xyxy.shape == (0, 4) and found.mask.shape == (0, 60, 80)
    assert len(found.class_id) == len(found.confidence) == len(found.data["class_name"]) == 0


def test_the_real_library_selects_and_measures() -> None:
    supervision = pytest.importorskip("supervision")
    found = to_supervision(instances_of(MASKS, class_ids=[1, 0, 1]), ["nut", "bolt"])
    chosen = found[found.class_id == 1]
    assert len(chosen) == 2 and chosen.data["class_name"].tolist() == ["bolt", "bolt"]
    assert found.area.tolist() == [mask.sum() for mask in MASKS]
    scene = supervision.MaskAnnotator().annotate(np.zeros((60, 80, 3), np.uint8), found)
    assert scene.any()


def test_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingLibrary, match="pip install supervision"):
        to_supervision(instances_of(MASKS), ["nut"])
