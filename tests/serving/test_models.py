"""Exported models behind the service: what it finds is what prediction finds, for each kind of graph."""

import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict
from served_model import serving
from toy_model import SPEC, export_toy, image_with

from paddlex_seg.masks.rle import rle_from_json, rle_to_mask
from paddlex_seg.pipelines.create import create_model
from paddlex_seg.pipelines.model import Model
from paddlex_seg.serving.answers import MaskFormat, result_fields
from paddlex_seg.structures import Bands

RED, GREEN = (slice(8, 40), slice(8, 40)), (slice(30, 60), slice(50, 90))
PATH = "/instance-segmentation"


@pytest.fixture(scope="module", params=["ours", "official", "SOLOv2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "ours":
        export_toy(folder)
    elif request.param == "official":
        export_toy(folder, small=False, pasted=True)
    else:
        spec = replace(SPEC, arch="SOLOv2", model_name="SOLOv2")
        export_toy(folder, small=False, boxless=True, spec=spec)
    return create_model(model_dir=folder, device="cpu")


def post(model: Model, image: bytes, **fields: Any) -> dict[str, Any]:
    with serving(model) as running:
        body = {"image": base64.b64encode(image).decode(), **fields}
        reply = httpx.post(running.url + PATH, json=body, trust_env=False)
    assert reply.status_code == 200, reply.text
    return reply.json()


def png(image: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("mask_format", ["rle", "full_rle", "polygon", "png", "none"])
def test_the_service_finds_what_prediction_finds(
    model: Model, tmp_path: Path, mask_format: MaskFormat
) -> None:
    image = png(image_with((64, 96), red=RED, green=GREEN))
    (tmp_path / "image.png").write_bytes(image)
    (result,) = model.predict(tmp_path / "image.png")
    expected = json.loads(json.dumps(result_fields(result, mask_format)))
    assert len(expected["instances"]) == 2
    assert post(model, image, maskFormat=mask_format, visualize=False)["result"] == expected


def test_an_image_without_objects_is_a_success(model: Model) -> None:
    reply = post(model, png(image_with((64, 96))))
    assert reply["errorCode"] == 0 and reply["result"]["instances"] == []
    assert reply["result"]["image"]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class Mask(Strict):
    rleResult: str
    size: list[int]


class OldInstance(Strict):
    bbox: list[float]
    categoryId: int
    score: float
    mask: Mask


class NewInstance(OldInstance):
    categoryName: str


class OldResult(Strict):
    instances: list[OldInstance]
    image: str


class NewResult(Strict):
    instances: list[NewInstance]
    image: str | None = None


class OldReply(Strict):
    logId: str
    errorCode: int
    errorMsg: str
    result: OldResult


class NewReply(Strict):
    logId: str
    errorCode: int
    errorMsg: str
    result: NewResult


def test_clients_of_both_generations_of_paddlex_read_the_replies(model: Model) -> None:
    """The fields that their documentation names, with the types it names, and masks as they paste them."""
    image = png(image_with((64, 96), red=RED, green=GREEN))
    OldReply.model_validate(post(model, image))
    reply = NewReply.model_validate(post(model, image, threshold=0.3, visualize=False))
    assert reply.result.image is None
    for found in reply.result.instances:
        x, y = round(found.bbox[0]), round(found.bbox[1])
        crop = rle_to_mask(rle_from_json({"size": found.mask.size, "counts": found.mask.rleResult}))
        whole = np.zeros((64, 96), np.uint8)
        whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        place = RED if found.categoryName == "red thing" else GREEN
        assert whole[place].mean() > 0.8 and whole.sum() < 1.3 * whole[place].size


def test_bands_of_the_model_are_used(tmp_path: Path) -> None:
    import tifffile

    bands = Bands(red=4, green=3, blue=2, range=((0.0, 1000.0),) * 3)
    export_toy(tmp_path / "model", spec=replace(SPEC, preprocess=replace(SPEC.preprocess, bands=bands)))
    model = create_model(model_dir=tmp_path / "model", device="cpu")
    planes = np.zeros((5, 64, 96), np.uint16)
    planes[3][RED], planes[2][GREEN] = 1000, 1000
    tifffile.imwrite(tmp_path / "scene.tif", planes, photometric="minisblack", planarconfig="separate")
    reply = post(model, (tmp_path / "scene.tif").read_bytes(), visualize=False)
    (expected,) = model.predict(tmp_path / "scene.tif")
    assert sorted(one["categoryName"] for one in reply["result"]["instances"]) == ["red thing", "绿色"]
    assert reply["result"] == json.loads(json.dumps(result_fields(expected, "rle")))
