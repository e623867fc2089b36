"""Shared by the tests of several rooms: reference data, a tiny data set, short runs, a filled network."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddlex_seg.runtime.environment import prepare_process

# Workers that run side by side (pytest -n) share the cores out, with all that they start: threads of two that
# wait for each other's core take longer than one thread.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    cores = sorted(os.sched_getaffinity(0))
    own_cores = cores[worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    os.sched_setaffinity(0, own_cores or cores)

# Reference numbers were recorded with the code path that MKL chooses by itself; another rounds differently.
os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")
prepare_process()

from command_line import Outcome, run_cli  # noqa: E402 - these import Paddle, which reads the above only once
from file_server import Server  # noqa: E402
from rule import REFERENCE_DIR  # noqa: E402
from small_runs import (  # noqa: E402
    annotation_file,
    filled_model,
    labelled_by,
    run_slim,
    save_model,
    train_options,
    with_new_categories,
)

from paddlex_seg.data.coco.read import read_coco  # noqa: E402
from paddlex_seg.data.coco.write import write_coco  # noqa: E402
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset  # noqa: E402
from paddlex_seg.runtime.device import use_device  # noqa: E402

use_device("cpu")  # all of its cores; Paddle would take one


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set PADDLEX_SEG_SHARED")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder with numbers recorded from a reference implementation."""
    return REFERENCE_DIR


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images to train on and four to evaluate on, of 320 to 560 pixels."""
    folder = tmp_path_factory.mktemp("Daten für Übung")
    write_demo_dataset(folder, num_train=8, num_val=4)
    return folder / COCO_FOLDER


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A training of two epochs with `run_slim`: output folder and what was printed."""
    output = tmp_path_factory.mktemp("output") / "größe = 1, 2"
    outcome = run_slim("train", output, **train_options(dataset, Train__num_classes=2, Train__log_interval=1))
    assert outcome.code == 0, outcome.stderr
    return output, outcome


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weight file of a checkpoint of `filled_model`."""
    return save_model(filled_model(), tmp_path_factory.mktemp("checkpoint") / "filled")


@pytest.fixture(scope="session")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mode export makes of `weights`."""
    output = tmp_path_factory.mktemp("exported") / "modèle"
    outcome = run_cli("export", output, Export__weight_path=weights)
    assert outcome.code == 0, outcome.stderr
    return output


@pytest.fixture(scope="session")
def findable(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set with `CATEGORIES`, whose val objects are every third thing that `filled_model` finds.

    So that its AP is neither 0 nor 1, without a long training.
    """
    folder = tmp_path_factory.mktemp("findable")
    (folder / "images").symlink_to(dataset / "images")
    val = read_coco(dataset / "annotations" / "instance_val.json")
    train = read_coco(dataset / "annotations" / "instance_train.json")
    write_coco(with_new_categories(train), annotation_file(folder, "train"))
    write_coco(labelled_by(filled_model(), val, dataset / "images"), annotation_file(folder, "val"))
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    """An HTTP server on this machine; see `file_server`."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
