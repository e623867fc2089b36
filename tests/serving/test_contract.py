"""Requests and replies: those of PaddleX's service, and more forms of both."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from served_model import RunningService, coded_image, serving

from paddlex_seg.inference.results import Result
from paddlex_seg.masks.rle import rle_from_json, rle_to_mask
from paddlex_seg.serving.urls import UrlRules

PATH = "/instance-segmentation"
NUMBER = 12345  # of the image
X, Y = NUMBER % 61, NUMBER // 61 % 31  # where the object is


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with serving(max_images=4, max_body_mb=1, max_image_pixels=100_000, max_json_depth=8) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        yield client


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def post(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post(PATH, json=fields)


def test_a_request_of_a_tutorial_is_answered_as_by_paddlex(client: httpx.Client) -> None:
    reply = post(client, image=b64(coded_image(NUMBER)))
    assert reply.status_code == 200
    data = reply.json()
    assert set(data) == {"logId", "errorCode", "errorMsg", "result"}
    assert (data["errorCode"], data["errorMsg"]) == (0, "Success")
    (found,) = data["result"]["instances"]
    assert found["bbox"] == pytest.approx([X, Y, X + 7, Y + 9], abs=1e-3)
    assert (found["categoryId"], found["categoryName"]) == (1, "nut")
    assert found["score"] == pytest.approx(0.9)
    # The client of PaddleX pastes the crop at the rounded corner of the box.
    crop = rle_to_mask(rle_from_json({"size": found["mask"]["size"], "counts": found["mask"]["rleResult"]}))
    assert crop.shape == (9, 7) and crop.all()
    assert found["mask"]["offset"] == [round(found["bbox"][0]), round(found["bbox"][1])]
    with Image.open(BytesIO(base64.b64decode(data["result"]["image"]))) as drawing:
        assert (drawing.format, drawing.size) == ("JPEG", (96, 64))


def test_the_log_id_of_the_caller_is_sent_back(client: httpx.Client) -> None:
    image = b64(coded_image(1))
    assert post(client, image=image, logId="abc-1").json()["logId"] == "abc-1"
    assert post(client, image=5, logId="abc-2").json()["logId"] == "abc-2"
    made = {post(client, image=image, logId=bad).json()["logId"] for bad in ("a\nb", 7, "x" * 200)}
    assert len(made) == 3 and all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in made)
    reply = client.get("/health", headers={"X-Request-Id": "from-a-proxy"})
    assert reply.json()["logId"] == reply.headers["x-request-id"] == "from-a-proxy"


@pytest.mark.parametrize("fields", [{}, {"visualize": None}, {"visualize": True}])
def test_the_drawing_is_left_out_only_if_asked(client: httpx.Client, fields: dict[str, Any]) -> None:
    image = b64(coded_image(1))
    assert "image" in post(client, image=image, **fields).json()["result"]
    assert "image" not in post(client, image=image, visualize=False).json()["result"]


def test_the_drawing_may_be_switched_off_for_all() -> None:
    with serving(visualize=False) as running:
        image = b64(coded_image(1))
        assert "image" not in httpx.post(running.url + PATH, json={"image": image}).json()["result"]
        asked = httpx.post(running.url + PATH, json={"image": image, "visualize": True})
        assert "image" in asked.json()["result"]


@pytest.mark.parametrize(
    ("threshold", "count"),
    [(None, 1), (0.3, 1), (0.95, 0), ({"nut": 0.95}, 0), ({"bolt": 0.95}, 1), ({"1": 0.95}, 0), (1, 0)],
)
def test_a_threshold_is_used(client: httpx.Client, threshold: Any, count: int) -> None:
    reply = post(client, image=b64(coded_image(NUMBER)), threshold=threshold)
    assert len(reply.json()["result"]["instances"]) == count


def test_each_mask_format_is_the_same_mask(client: httpx.Client) -> None:
    whole = np.zeros((64, 96), bool)
    whole[Y : Y + 9, X : X + 7] = True
    for name in ("rle", "full_rle", "polygon", "png"):
        reply = post(client, image=b64(coded_image(NUMBER)), maskFormat=name, visualize=False)
        mask = reply.json()["result"]["instances"][0]["mask"]
        (height, width), (x, y) = mask["size"], mask["offset"]
        found = np.zeros((64, 96), bool)
        if name == "polygon":
            (points,) = mask["polygons"]
            assert (height, width, x, y) == (64, 96, 0, 0)
            assert (min(points[0::2]), max(points[0::2])) == pytest.approx((X, X + 7), abs=1)
            assert (min(points[1::2]), max(points[1::2])) == pytest.approx((Y, Y + 9), abs=1)
            continue
        if name == "png":
            crop = np.asarray(Image.open(BytesIO(base64.b64decode(mask["png"]))))
        else:
            crop = rle_to_mask(rle_from_json({"size": mask["size"], "counts": mask["rleResult"]}))
        found[y : y + height, x : x + width] = crop
        assert (found == whole).all(), name
    reply = post(client, image=b64(coded_image(NUMBER)), maskFormat="none")
    assert "mask" not in reply.json()["result"]["instances"][0]


def test_raw_bytes_and_forms_give_what_json_gives(client: httpx.Client) -> None:
    file, query = coded_image(NUMBER), {"visualize": "false", "maskFormat": "full_rle", "threshold": "0.3"}
    expected = post(client, image=b64(file), visualize=False, maskFormat="full_rle").json()["result"]
    for kind in ("image/png", "image/jpeg", "application/octet-stream"):
        reply = client.post(PATH, content=file, params=query, headers={"Content-Type": kind})
        assert reply.json()["result"] == expected
    for name in ("image", "file"):
        assert client.post(PATH, files={name: file}, data=query).json()["result"] == expected
    text = client.post(PATH, files={"image": (None, b64(file))}, data=query)
    assert text.json()["result"] == expected
    uri = post(client, image=f"data:image/png;base64,{b64(file)}", visualize=False, maskFormat="full_rle")
    assert uri.json()["result"] == expected


def test_several_images_are_answered_in_order_and_a_bad_one_does_not_end_the_others(
    client: httpx.Client,
) -> None:
    numbers = [5, 900, 77]
    single = [post(client, image=b64(coded_image(one)), visualize=False).json()["result"] for one in numbers]
    images = [b64(coded_image(one)) for one in numbers]
    assert post(client, images=images, visualize=False).json()["result"] == {"results": single}
    mixed = post(client, images=[images[0], "%%%", b64(b"text"), 7], visualize=False)
    results = mixed.json()["result"]["results"]
    assert mixed.status_code == 200 and results[0] == single[0]
    assert [one["errorCode"] for one in results[1:]] == [400, 415, 422]
    files = [("image", coded_image(one)) for one in numbers]
    form = client.post(PATH, files=files, data={"visualize": "false"})
    assert form.json()["result"] == {"results": single}
    assert post(client, images=[images[0]], visualize=False).json()["result"] == {"results": single[:1]}


def test_a_labelme_file_is_given_on_request(client: httpx.Client, tmp_path: Any) -> None:
    reply = post(client, image=b64(coded_image(NUMBER)), labelme=True, maskFormat="none", visualize=False)
    labelme = reply.json()["result"]["labelme"]
    assert (labelme["imageHeight"], labelme["imageWidth"], labelme["imageData"]) == (64, 96, None)
    (shape,) = labelme["shapes"]
    assert (shape["label"], shape["shape_type"]) == ("nut", "polygon")
    assert shape["score"] == pytest.approx(0.9)


BAD_REQUESTS = [
    ({"json": {}}, 422, "body.image: the field is missing"),
    ({"json": {"image": None}}, 422, "body.image: the field is missing"),
    ({"json": {"image": 3}}, 422, "body.image: expected the image in base64 as a text, found a number"),
    ({"json": {"image": ["a"]}}, 422, "found a list"),
    ({"json": {"images": "a"}}, 422, "body.images: expected a list"),
    ({"json": {"images": []}}, 422, "has 0 images"),
    ({"json": {"images": ["a"] * 5}}, 413, "has 5 images; expected 1 to 4"),
    ({"json": {"image": "a", "images": ["a"]}}, 422, "Send one of them"),
    ({"json": ["a"]}, 422, "found a list"),
    ({"json": {"image": "IMG", "threshold": "0.5"}}, 422, "threshold: found '0.5'"),
    ({"json": {"image": "IMG", "threshold": 1.5}}, 422, "threshold: found 1.5"),
    ({"json": {"image": "IMG", "threshold": True}}, 422, "threshold: found True"),
    ({"json": {"image": "IMG", "threshold": {"nutt": 0.5}}}, 422, "Did you mean nut?"),
    ({"json": {"image": "IMG", "visualize": "yes"}}, 422, "body.visualize: expected true or false"),
    ({"json": {"image": "IMG", "maskFormat": "rles"}}, 422, "maskFormat: found 'rles'; expected one of rle"),
    ({"json": {"image": "IMG", "maskFormat": 3}}, 422, "maskFormat: found a number"),
    ({"json": {"image": "http://example.com/a.jpg"}}, 422, "does not accept addresses"),
    ({"json": {"image": "%%%"}}, 400, "base64"),
    ({"json": {"image": base64.b64encode(b"%PDF-1.4 text").decode()}}, 415, ""),
    ({"json": {"image": base64.b64encode(coded_image(1)[:120]).decode()}}, 400, ""),
    ({"json": {"image": base64.b64encode(coded_image(1, 400, 300)).decode()}}, 413, "pixels"),
    ({"content": b"not json", "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    ({"content": b"[" * 50, "headers": {"Content-Type": "application/json"}}, 400, "nested"),
    ({"content": b'{"image": NaN}', "headers": {"Content-Type": "application/json"}}, 400, ""),
    ({"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415, "Send app"),
    ({"content": b"a", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form"),
    ({"content": b"a", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "form"),
    ({"files": {"photo": b"a"}}, 422, "expected the name image"),
    ({"files": [("image", b"a")] * 5}, 400, "form"),
    ({"files": {"image": coded_image(1)}, "data": {"threshold": "abc"}}, 422, "threshold: found 'abc'"),
    ({"files": {"image": coded_image(1)}, "data": {"visualize": "maybe"}}, 422, "visualize"),
    ({"content": b"a", "headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}}, 415, "'gzip'"),
    ({"content": b"", "headers": {"Content-Type": "image/png"}}, 415, ""),
    ({"content": b"<svg/>", "headers": {"Content-Type": "image/svg+xml"}}, 415, ""),
    ({"content": b"x" * 1_000_001, "headers": {"Content-Type": "image/png"}}, 413, "larger than 1 MB"),
]


@pytest.mark.parametrize(("request_", "status", "message"), BAD_REQUESTS)
def test_mistakes_are_told_with_their_reason(
    client: httpx.Client, service: RunningService, request_: dict[str, Any], status: int, message: str
) -> None:
    before = service.predicted
    if isinstance(request_.get("json"), dict) and request_["json"].get("image") == "IMG":
        request_ = {"json": request_["json"] | {"image": b64(coded_image(1))}}
    reply = client.post(PATH, **request_)
    assert reply.status_code == status, reply.text
    data = reply.json()
    assert set(data) == {"logId", "errorCode", "errorMsg"}
    assert data["errorCode"] == status
    assert message in data["errorMsg"] and "Traceback" not in data["errorMsg"]
    assert service.predicted == before
    assert client.get("/health").status_code == 200


def test_a_body_without_length_is_refused_as_soon_as_it_is_too_large(service: RunningService) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield bytes(65_536)

    with httpx.Client(trust_env=False) as client:
        try:
            reply = client.post(service.url + PATH, content=endless(), headers={"Content-Type": "image/png"})
            assert reply.status_code == 413
        except httpx.TransportError:
            pass  # the connection was closed while it sent
    assert sent < 20_000_000


def test_wrong_paths_and_methods_have_the_same_form(client: httpx.Client) -> None:
    for reply, status in (
        (client.get(PATH), 405),
        (client.post("/nothing"), 404),
        (client.get("/static/../x"), 404),
    ):
        assert reply.status_code == status
        assert reply.json()["errorCode"] == status


def test_state_and_description(client: httpx.Client, service: RunningService) -> None:
    assert client.get("/health").json() | {"logId": ""} == {
        "logId": "",
        "errorCode": 0,
        "errorMsg": "Healthy",
    }
    assert client.get("/ready").status_code == 200
    info = client.get("/info").json()
    assert (info["model"], info["labels"], info["threshold"]) == ("toy", ["bolt", "nut"], 0.5)
    assert info["limits"] == {"bodyBytes": 10**6, "imagePixels": 100_000, "images": 4}
    paths = client.get("/openapi.json").json()["paths"]
    assert {PATH, "/health", "/ready", "/metrics", "/v2/models/{name}/infer"} <= set(paths)
    assert client.get("/docs").status_code == 200


def test_metrics_count_requests(client: httpx.Client) -> None:
    def count(status: int) -> float:
        line = f'paddlex_seg_requests_total{{path="{PATH}",status="{status}"}} '
        found = [one for one in client.get("/metrics").text.splitlines() if one.startswith(line)]
        return float(found[0].removeprefix(line)) if found else 0.0

    good, bad = count(200), count(422)
    post(client, image=b64(coded_image(1)))
    post(client)
    assert (count(200), count(422)) == (good + 1, bad + 1)
    assert "http.client" not in client.get("/metrics").text


def test_replies_forbid_other_origins_and_guessing_of_types(client: httpx.Client) -> None:
    headers = client.get("/health").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "server" not in headers and "access-control-allow-origin" not in headers


def test_a_key_is_asked_for_where_images_are_taken() -> None:
    with serving(api_key="s3cret") as running, httpx.Client(base_url=running.url, trust_env=False) as client:
        image = {"image": b64(coded_image(1))}
        for headers in ({}, {"X-API-Key": "s3cre"}, {"X-API-Key": ""}, {"Authorization": "Basic s3cret"}):
            reply = client.post(PATH, json=image, headers=headers)
            assert (reply.status_code, reply.json()["errorCode"]) == (401, 401)
            assert reply.headers["www-authenticate"] == "Bearer"
        assert client.post(PATH, json=image, headers=[(b"X-API-Key", b"\xff\xfe")]).status_code == 401
        assert running.predicted == 0
        for headers in ({"X-API-Key": "s3cret"}, {"Authorization": "Bearer s3cret"}):
            assert client.post(PATH, json=image, headers=headers).status_code == 200
        closed = ("/metrics", "/info", "/openapi.json", "/v2/models/toy", "/nothing")
        assert [client.get(path).status_code for path in closed] == [401] * len(closed)
        opened = ("/", "/docs", "/health", "/ready", "/v2/health/live", "/v2/health/ready")
        assert [client.get(path).status_code for path in opened] == [200] * len(opened)


def test_a_bug_is_an_error_500_without_its_trace(
    service: RunningService, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.models[0], "predict", broken)
    reply = post(client, image=b64(coded_image(1)), logId="mine")
    assert (reply.status_code, reply.json()["errorCode"], reply.json()["logId"]) == (500, 500, "mine")
    assert "secret" not in reply.text and "Traceback" not in reply.text
    assert "secret detail" in caplog.text
    monkeypatch.undo()
    assert post(client, image=b64(coded_image(1))).status_code == 200


def test_a_model_that_fails_is_no_mistake_of_the_request(
    service: RunningService, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def failing(*args: Any, **more: Any) -> Iterator[Result]:
        yield Result(input_path=None, page_index=None, save_name="image", error="/secret/network.onnx failed")

    monkeypatch.setattr(service.models[0], "predict", failing)
    reply = post(client, image=b64(coded_image(1)))
    assert (reply.status_code, reply.json()["errorCode"]) == (500, 500)
    assert "secret" not in reply.text and "/secret/network.onnx failed" in caplog.text


def test_the_images_of_addresses_have_the_limit_of_a_body_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most: list[int] = []

    def fetch(url: str, rules: UrlRules) -> bytes:
        most.append(rules.max_bytes)
        return coded_image(len(url))

    monkeypatch.setattr("paddlex_seg.serving.app.fetch_image", fetch)
    with serving(allow_urls=True, max_body_mb=3) as running:
        images = ["http://a.example/1", "http://a.example/22", b64(coded_image(5))]
        body = {"images": images, "visualize": False}
        reply = httpx.post(running.url + PATH, json=body, trust_env=False).json()["result"]["results"]
        assert most == [1_500_000, 1_500_000]
        boxes = [one["instances"][0]["bbox"][0] for one in reply]
        assert boxes == pytest.approx([len(images[0]), len(images[1]), 5], abs=1e-3)
