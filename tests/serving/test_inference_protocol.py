"""The Open Inference Protocol, as clients of KServe and Triton use it."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served_model import coded_image, serving

from paddlex_seg.masks.rle import rle_from_json, rle_to_mask
from paddlex_seg.serving.inference_protocol import read_infer
from paddlex_seg.serving.problems import RequestProblem

INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(max_images=4) as running, httpx.Client(base_url=running.url, trust_env=False) as client:
        yield client


def tensor(*numbers: int, **more: Any) -> dict[str, Any]:
    data = [base64.b64encode(coded_image(number)).decode() for number in numbers]
    return {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data, **more}


def outputs(reply: httpx.Response) -> dict[str, dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return {output["name"]: output for output in reply.json()["outputs"]}


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "paddlex_seg"
    model = client.get("/v2/models/toy").json()
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert client.get("/v2/models/toy/versions/1").json() == model
    assert client.get("/v2/models/toy/ready").json() == {"name": "toy", "ready": True}
    for path in ("/v2/models/other", "/v2/models/toy/versions/2", "/v2/models/other/ready"):
        reply = client.get(path)
        assert reply.status_code == 404 and "There is no model" in reply.json()["error"]


def test_objects_of_all_images_follow_each_other(client: httpx.Client) -> None:
    request = {"id": "a7", "inputs": [tensor(3, 8)], "parameters": {"threshold": {"nut": 0.95, "bolt": 0.1}}}
    reply = client.post(INFER, json={**request, "inputs": [tensor(12345, 8, 7)]})
    assert (reply.json()["id"], reply.json()["model_name"]) == ("a7", "toy")
    found = outputs(reply)
    assert found["num_detections"]["data"] == [0, 1, 0]  # odd numbers are nuts
    assert found["boxes"]["shape"] == [1, 4]
    assert found["boxes"]["data"] == pytest.approx([8, 0, 15, 9], abs=1e-3)
    assert (found["class_ids"]["data"], found["class_names"]["data"]) == ([0], ["bolt"])
    mask = rle_to_mask(rle_from_json(json.loads(found["masks"]["data"][0])))
    assert mask.shape == (64, 96) and mask.sum() == 63 and mask[0:9, 8:15].all()
    declared = {output["name"]: output for output in client.get("/v2/models/toy").json()["outputs"]}
    assert {name: output["datatype"] for name, output in found.items()} == {
        name: output["datatype"] for name, output in declared.items()
    }


def test_only_the_outputs_that_are_named_are_sent(client: httpx.Client) -> None:
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}]
    reply = client.post(INFER, json={"inputs": [tensor(3)], "outputs": wanted})
    assert list(outputs(reply)) == ["scores"]
    none = client.post(INFER, json={"inputs": [tensor(3)], "parameters": {"threshold": 0.99}})
    assert outputs(none)["boxes"] == {"name": "boxes", "datatype": "FP32", "shape": [0, 4], "data": []}


def test_files_may_follow_the_json(client: httpx.Client) -> None:
    files = [coded_image(3), coded_image(8)]
    binary = b"".join(struct.pack("<I", len(file)) + file for file in files)
    head = tensor(parameters={"binary_data_size": len(binary)}) | {"shape": [2]}
    del head["data"]
    text = json.dumps({"inputs": [head]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    reply = client.post(INFER, content=text + binary, headers=headers)
    assert outputs(reply) == outputs(client.post(INFER, json={"inputs": [tensor(3, 8)]}))
    cut = client.post(INFER, content=text + binary[:-1], headers=headers)
    assert cut.status_code == 400 and "binary_data_size" in cut.json()["error"]
    long = client.post(INFER, content=text, headers={**headers, "Inference-Header-Content-Length": "9" * 9})
    assert long.status_code == 400
    head["parameters"]["binary_data_size"] = 3
    text = json.dumps({"inputs": [head]}).encode()
    headers["Inference-Header-Content-Length"] = str(len(text))
    assert client.post(INFER, content=text + b"abc", headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "JSON object"),
        ({}, "inputs: expected a list with one input"),
        ({"inputs": [tensor(1), tensor(1)]}, "one input"),
        ({"inputs": [tensor(1) | {"name": "x"}]}, "expected the name 'image'"),
        ({"inputs": [tensor(1) | {"datatype": "UINT8"}]}, "datatype BYTES"),
        ({"inputs": [tensor(1) | {"shape": [2]}]}, "the shape is [2], found 1"),
        ({"inputs": [tensor(1) | {"shape": [2**40] * 9}]}, "found 1"),
        ({"inputs": [tensor(1) | {"shape": "1"}]}, "shape"),
        ({"inputs": [tensor(1) | {"data": [1]}]}, "base64"),
        ({"inputs": [tensor(1) | {"data": ["%%"]}]}, "base64"),
        ({"inputs": [tensor(1)], "outputs": ["scores"]}, "outputs"),
        ({"inputs": [tensor(1)], "outputs": [{"name": "scores!"}]}, "outputs"),
        ({"inputs": [tensor(1)], "parameters": 3}, "parameters"),
        ({"inputs": [tensor(1)], "parameters": {"threshold": 2}}, "threshold"),
        ({"inputs": [tensor(1)], "id": 3}, "id"),
        ({"inputs": [tensor(1, 2, 3, 4, 5)]}, "expected 1 to 4"),
        ({"inputs": [tensor()]}, "expected 1 to 4"),
    ],
)
def test_mistakes_are_told_in_the_form_of_the_protocol(client: httpx.Client, body: Any, message: str) -> None:
    reply = client.post(INFER, json=body)
    assert reply.status_code in (400, 413, 422), reply.text
    assert list(reply.json()) == ["error"] and message in reply.json()["error"]


def test_an_image_that_cannot_be_read_is_told(client: httpx.Client) -> None:
    text = base64.b64encode(b"some text").decode()
    reply = client.post(INFER, json={"inputs": [tensor(1) | {"data": [text]}]})
    assert reply.status_code == 415 and "error" in reply.json()


def test_requests_that_would_be_counted_for_seconds_are_refused() -> None:
    shape = tensor(1, shape=[2**64 - 1] * 1_000)
    with pytest.raises(RequestProblem, match="shape: expected a list of numbers") as caught:
        read_infer(json.dumps({"inputs": [shape]}).encode(), None, 64)
    assert caught.value.status == 400
    head = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8_000}}
    text = json.dumps({"inputs": [head]}).encode()
    with pytest.raises(RequestProblem, match="more than 1000 elements") as caught:
        read_infer(text + bytes(8_000), str(len(text)), 64)
    assert caught.value.status == 413
