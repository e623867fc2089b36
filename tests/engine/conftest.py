"""A tiny data set, one short training, and a network that finds much, shared by the tests of the engine."""

from pathlib import Path

import pytest
from command_line import Outcome, run_cli
from small_runs import (
    annotation_file,
    filled_model,
    labelled_by,
    run_slim,
    save_model,
    train_options,
    with_new_categories,
)

from paddlex_seg.data.coco import read_coco, write_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures to train on and four to evaluate on, of 320 to 560 pixels."""
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
