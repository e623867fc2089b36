"""Mode folds: every image is found in by a model that was not trained on it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_cli
from small_runs import (
    annotation_file,
    change_split,
    copy_dataset,
    filled_model,
    run_slim,
    save_model,
    train_options,
)

from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.modes import evaluate, train


def run(data: Path, output: Path, **options: Any) -> Outcome:
    return run_cli("folds", output, Global__dataset_dir=data, Folds__number=2, **options)


def filled_in(cfg: Config) -> None:
    """Instead of a training: a network that finds something everywhere."""
    save_model(filled_model(), Path(cfg.Global.output) / "best_model")


@pytest.fixture(scope="module")
def divided(findable: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set whose parts use the same ids of images, and the output folder of its folds."""
    data = copy_dataset(findable, tmp_path_factory.mktemp("data") / "set")
    val = read_coco(annotation_file(data, "val"))
    new = {image.id: place for place, image in enumerate(val.images, start=1)}
    change_split(
        data,
        "val",
        images=tuple(replace(image, id=new[image.id]) for image in val.images),
        annotations=tuple(replace(one, image_id=new[one.image_id]) for one in val.annotations),
    )
    output = tmp_path_factory.mktemp("output") / "folds ß"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run", filled_in)
        outcome = run(data, output)
    assert outcome.code == 0, outcome.stderr
    return data, output


def test_no_model_is_trained_on_the_images_that_it_is_asked_about(divided: tuple[Path, Path]) -> None:
    data, output = divided
    names = {
        part: {one.file_name for one in read_coco(annotation_file(data, part)).images}
        for part in ("train", "val")
    }
    asked: list[str] = []
    for number in (1, 2):
        parts = [
            read_coco(annotation_file(output / "folds" / str(number), part)) for part in ("train", "val")
        ]
        trained_on, found_in = ({one.file_name for one in part.images} for part in parts)
        assert not trained_on & found_in and trained_on | found_in == names["train"] | names["val"]
        asked += found_in
    assert sorted(asked) == sorted(names["train"] | names["val"])


def test_the_detections_have_the_ids_of_each_part(divided: tuple[Path, Path]) -> None:
    data, output = divided
    rows = {}
    for part in ("train", "val"):
        rows[part] = json.loads((output / f"segm_{part}.json").read_text(encoding="utf-8"))
        coco = read_coco(annotation_file(data, part))
        assert {row["image_id"] for row in rows[part]} <= {image.id for image in coco.images}
        # Sizes tell images apart: a mask that belongs to another image does not fit.
        sizes = {image.id: [image.height, image.width] for image in coco.images}
        assert all(row["segmentation"]["size"] == sizes[row["image_id"]] for row in rows[part])
    found = [
        json.loads((output / f"fold_{number}/segm.json").read_text(encoding="utf-8")) for number in (1, 2)
    ]
    assert sum(map(len, rows.values())) == sum(map(len, found)) > 0
    result = read_result(output, "folds")
    assert [one["output"] for one in result["folds"]] == [str(output / f"fold_{number}") for number in (1, 2)]


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_review_and_the_evaluation_take_them(divided: tuple[Path, Path], part: str) -> None:
    data, output = divided
    options = {"Global__dataset_dir": data, "Evaluate__split": part}
    outcome = run_cli("label_review", output, **options)
    assert outcome.code == 0, outcome.stderr
    assert read_result(output, "label_review")["predictions"]["path"] == str(output / f"segm_{part}.json")
    outcome = run_cli(
        "evaluate",
        output / "ev",
        Evaluate__predictions=output / f"segm_{part}.json",
        Evaluate__page=False,
        **options,
    )
    assert outcome.code == 0, outcome.stderr


def test_a_fold_that_ended_is_not_trained_again(
    divided: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = divided[0], tmp_path / "again"
    shutil.copytree(divided[1], output, symlinks=True)
    (output / "segm_val.json").unlink()
    trained = []

    def note(cfg: Config) -> None:
        trained.append((cfg.Global.output, cfg.Global.dataset_dir, cfg.Train.resume))

    monkeypatch.setattr(train, "run", note)
    monkeypatch.setattr(evaluate, "run", lambda cfg: {"metrics": {"AP": 0.5}})
    outcome = run(data, output)
    assert outcome.code == 0, outcome.stderr
    assert not trained
    assert (output / "segm_val.json").read_bytes() == (divided[1] / "segm_val.json").read_bytes()
    (output / "fold_2/evaluate_result.json").unlink()
    assert run(data, output).code == 0
    assert [one["AP"] == 0.5 for one in read_result(output, "folds")["folds"]] == [False, True]
    assert trained == [(str(output / "fold_2"), str(output / "folds/2"), "auto")]


def test_folds_of_other_labels_are_not_mixed_with_these(divided: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "again"
    shutil.copytree(divided[1], output, symlinks=True)
    outcome = run(divided[0], output, CheckDataset__split__seed=7)
    assert outcome.code == 2 and "has folds of other labels" in outcome.stderr


def test_several_processes_are_refused(dataset: Path, tmp_path: Path) -> None:
    outcome = run(dataset, tmp_path, Train__num_processes=2)
    assert outcome.code == 2 and "trains in one process" in outcome.stderr


@pytest.mark.slow
def test_real_trainings(dataset: Path, tmp_path: Path) -> None:
    outcome = run_slim("folds", tmp_path, **train_options(dataset, Folds__number=2))
    assert outcome.code == 0, outcome.stderr
    assert len(read_result(tmp_path, "folds")["folds"]) == 2
    for number in (1, 2):
        assert f"folds/{number}" in (tmp_path / f"fold_{number}/config.yaml").read_text(encoding="utf-8")
    assert (tmp_path / "segm_train.json").is_file()
