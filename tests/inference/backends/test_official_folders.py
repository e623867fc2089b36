"""Small graphs with the signatures of official exports, in the folders of PaddleX and PaddleDetection."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from official_graphs import PREPROCESS, Signature, export_official
from toy_model import image_with

from paddlex_seg.data.preprocess import collate, preprocess
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.masks.rle import rle_to_mask

SIZE = (128, 192)
RED, GREEN = (slice(12, 60), slice(20, 88)), (slice(72, 120), slice(100, 180))
SIGNATURES = {
    "boxes": Signature(),
    "boxes, float masks too small": Signature(mask_type="float32", short_by=1),
    "boxes, bool, no filler": Signature(mask_type="bool", count_type="int64", filler=False),
    "SOLOv2": Signature(boxes=False, mask_type="uint8", count_has_axis=False),
    "SOLOv2, columns, no filler": Signature(
        boxes=False, mask_type="int64", count_type="int64", label_type="int32", columns=True, filler=False
    ),
}


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@pytest.mark.parametrize("legacy", [False, True], ids=["json", "pdmodel"])
def test_two_one_and_no_objects_are_found(tmp_path: Path, signature: Signature, legacy: bool) -> None:
    names = ("inference", "inference.yml") if legacy == signature.boxes else ("model", "infer_cfg.yml")
    folder = export_official(tmp_path, signature, stem=names[0], description=names[1], legacy=legacy)
    backend = PaddleBackend(folder)
    assert backend.mask_frame == "original" and backend.spec.model_name == ""
    for places, classes in (
        ((RED, GREEN), [0, 1]),
        ((None, GREEN), [1]),
        ((RED, None), [0]),
        ((None, None), []),
    ):
        image = image_with(SIZE, red=places[0], green=places[1])
        (found,) = find_instances(backend, collate([preprocess(image, backend.preprocess)]), [SIZE])
        assert sorted(found.class_ids.tolist()) == classes
        for class_id, box, mask in zip(found.class_ids, found.boxes_xyxy, found.masks, strict=True):
            expected = image[:, :, class_id] > 0
            inside = rle_to_mask(mask) > 0
            assert inside.shape == SIZE
            assert (inside & expected).sum() / (inside | expected).sum() > 0.9
            rows, columns = np.nonzero(inside)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, [0, 0, *SIZE[::-1]] if signature.boxes else around, atol=1e-4)


@pytest.fixture(scope="module")
def paddledetection_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_official(
        tmp_path_factory.mktemp("official"), Signature(), stem="model", description="infer_cfg.yml"
    )


def test_graph_and_description_of_different_toolkits_are_used(
    paddledetection_dir: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(paddledetection_dir, tmp_path / "mixed"))
    (folder / "infer_cfg.yml").rename(folder / "inference.yml")
    assert PaddleBackend(folder).spec.labels == ("red thing", "green thing")


def test_a_description_of_another_graph_names_its_file(paddledetection_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(paddledetection_dir, tmp_path / "other"))
    document = yaml.safe_load((folder / "infer_cfg.yml").read_text(encoding="utf-8"))
    document["Preprocess"] = [{**PREPROCESS[0], "target_size": [640, 640]}, *PREPROCESS[1:]]
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(
        BackendError, match=r"infer_cfg\.yml does not belong to model\.json: Resize.target_size"
    ):
        PaddleBackend(folder)


def test_outputs_of_another_kind_are_named(paddledetection_dir: Path) -> None:
    backend = PaddleBackend(paddledetection_dir)
    batch = preprocess(image_with(SIZE, red=RED), backend.preprocess)
    inputs = collate([batch, batch])  # the graph counts the first image only
    with pytest.raises(BackendError, match=r"model\.json: the outputs are float32 .* expected boxes"):
        backend(*inputs)
