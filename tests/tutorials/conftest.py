"""The host of PaddleX's files, on this machine: demo images, exported models, weights and data sets."""

import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paddle
import pytest
from PIL import Image
from slim_mask_rt_detr import slim_model
from toy_model import SPEC, export_toy, image_with
from tutorial_texts import ARCHIVES, DEMO_IMAGE, HOST

from paddlex_seg.checkpoints.weights import write_weights
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.files import download
from paddlex_seg.structures import Category

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
INFERENCE = "paddlex/official_inference_model/paddle3.0.0"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def files_of_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of PaddleX's host that the tutorials use, all of them small."""
    folder = tmp_path_factory.mktemp("host")
    images = folder / "paddlex/imgs/demo_image"
    images.mkdir(parents=True)
    photo = Image.fromarray(image_with((120, 160), red=(slice(20, 60), slice(30, 90))))
    for name in (DEMO_IMAGE, "remotesensing_demo.png"):
        photo.save(images / name)
    (folder / INFERENCE).mkdir(parents=True)
    for name in ("Mask-RT-DETR-S", "PP-YOLOE_seg-S"):
        # Without arch, which has to fit the graph.
        model = export_toy(folder / "models" / f"{name}_infer", spec=replace(SPEC, model_name=name, arch=""))
        pack(model, folder / INFERENCE / f"{name}_infer.tar")
    weights = folder / "paddlex/official_pretrained_model"
    weights.mkdir(parents=True)
    paddle.seed(1)
    for name in ("Mask-RT-DETR-L", "Mask-RT-DETR-H"):
        write_weights(slim_model(80).state_dict(), weights / f"{name}_pretrained.pdparams")
    pack_data_sets(folder / "paddlex/data", folder / "data")
    return folder


def pack_data_sets(target: Path, work: Path) -> None:
    target.mkdir()
    write_demo_dataset(work, num_train=6, num_val=2)
    (work / COCO_FOLDER).rename(work / "coco")
    write_demo_dataset(work, num_train=6, num_val=2)
    (work / "coco").rename(work / ARCHIVES[2])
    for split in ("train", "val"):
        path = work / ARCHIVES[2] / "annotations" / f"instance_{split}.json"
        coco = read_coco(path)
        more = tuple(Category(number, f"class {number}") for number in range(3, 11))
        write_coco(replace(coco, categories=(*coco.categories, *more)), path)
    assert (COCO_FOLDER, LABELME_FOLDER) == ARCHIVES[:2]
    for name in ARCHIVES:
        pack(work / name, target / f"{name}.tar")


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as file:
        file.add(folder, folder.name)


@pytest.fixture(scope="session")
def host(files_of_host: Path) -> Iterator[str]:
    """The address of a server with these files."""
    handler = partial(Handler, directory=str(files_of_host))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def redirected(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Downloads from PaddleX's host come from this machine; others fail. The cache is empty at first."""
    to_ascii = download.to_ascii

    def to_this_machine(url: str) -> str:
        assert url.startswith(f"{HOST}/"), url
        return to_ascii(url.replace(HOST, host))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "to_ascii", to_this_machine)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("PADDLEX_SEG_MODEL_SOURCE", *PROXIES, *map(str.upper, PROXIES)):
            patch.delenv(name, raising=False)
        yield host


@pytest.fixture
def place(redirected: str, files_of_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the demo image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO_IMAGE).write_bytes((files_of_host / "paddlex/imgs/demo_image" / DEMO_IMAGE).read_bytes())
    return tmp_path
