"""Mode folds: every image is predicted by a model that was not trained on it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import read_result
from small_runs import annotation_file, run_slim, train_options

from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.modes import train


@pytest.fixture(scope="module", autouse=True)
def without_export() -> Iterator[None]:
    """The export of each model takes longer than its training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "export_finished", lambda run, state: None)
        yield


@pytest.fixture(scope="module")
def folded(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two folds."""
    output = tmp_path_factory.mktemp("Falten") / "größe = 1, 2"
    outcome = run_slim("folds", output, **options(dataset))
    assert outcome.code == 0, outcome.stderr
    return output


def options(dataset: Path, **changes: Any) -> dict[str, Any]:
    return train_options(dataset, Folds__num=2, Train__epochs_iters=1, **changes)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_each_fold_is_predicted_by_the_model_without_it(folded: Path, dataset: Path) -> None:
    parts = {part: read_coco(annotation_file(dataset, part)) for part in ("train", "val")}
    whole = read_coco(folded / "dataset" / "annotations" / "instance_all.json")
    names = {record.file_name for coco in parts.values() for record in coco.images}
    assert {record.file_name for record in whole.images} == names
    of_folds = []
    for number in ("1", "2"):
        fold = folded / "dataset" / "folds" / number
        val, trained = (read_coco(annotation_file(fold, part)) for part in ("val", "train"))
        own = {row["image_id"] for row in rows_of(folded / f"fold_{number}" / "segm.json")}
        assert own <= {record.id for record in val.images}
        assert not own & {record.id for record in trained.images}
        of_folds += rows_of(folded / f"fold_{number}" / "segm.json")
    assert rows_of(folded / "segm.json") == of_folds != []
    assert read_result(folded, "folds")["detections"] == len(of_folds)


def test_detections_of_a_part_have_the_ids_of_its_file(folded: Path, dataset: Path) -> None:
    whole = read_coco(folded / "dataset" / "annotations" / "instance_all.json")
    name_of = {record.id: record.file_name for record in whole.images}
    everything = rows_of(folded / "segm.json")
    counted = 0
    for part in ("train", "val"):
        coco = read_coco(annotation_file(dataset, part))
        own_name = {record.id: record.file_name for record in coco.images}
        rows = rows_of(folded / f"segm_{part}.json")
        expected = [row for row in everything if name_of[row["image_id"]] in own_name.values()]
        assert [own_name[row["image_id"]] for row in rows] == [name_of[row["image_id"]] for row in expected]
        assert [row["score"] for row in rows] == [row["score"] for row in expected]
        counted += len(rows)
    assert counted == len(everything)


def test_the_result_is_evaluated_and_reviewed(folded: Path, tmp_path: Path) -> None:
    truth = folded / "dataset" / "annotations" / "instance_all.json"
    for mode, settings in (
        ("evaluate", {"Evaluate__predictions": folded / "segm.json", "Evaluate__page": False}),
        ("label_review", {"LabelReview__predictions": folded / "segm.json"}),
    ):
        outcome = run_slim(mode, tmp_path, Evaluate__annotations=truth, **settings)
        assert outcome.code == 0, outcome.stderr


def test_only_what_is_missing_is_trained(
    folded: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(folded / "segm.json")
    (folded / "fold_2" / "segm.json").unlink()
    trained = []

    def run(cfg: Config) -> dict[str, Any]:
        trained.append((Path(cfg.Global.output).name, cfg.Train.resume))
        return original(cfg)

    original = train.run
    monkeypatch.setattr(train, "run", run)
    outcome = run_slim("folds", folded, **options(dataset))
    assert outcome.code == 0, outcome.stderr
    assert trained == [("fold_2", "auto")]
    assert rows_of(folded / "segm.json") == before


def test_an_interrupted_fold_says_how_to_go_on(
    folded: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (folded / "fold_1" / "segm.json").read_bytes()
    (folded / "fold_1" / "segm.json").unlink()

    def stop(cfg: Config) -> dict[str, Any]:
        raise KeyboardInterrupt("To continue, run the same command with -o Train.resume=auto")

    monkeypatch.setattr(train, "run", stop)
    outcome = run_slim("folds", folded, **options(dataset))
    (folded / "fold_1" / "segm.json").write_bytes(kept)
    assert outcome.code == 1
    assert "run the same command again" in outcome.stderr and "resume" not in outcome.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Folds__num": 3}, "other settings (num)"),
        ({"Train__learning_rate": 0.5}, "other settings (train)"),
        ({"Folds__splits": "[train]"}, "other settings (data)"),
        ({"Folds__splits": "[train, test]"}, "Expected one or more of train, val"),
        ({"Train__num_processes": 2}, "trains in one process"),
    ],
    ids=["number of folds", "training", "parts", "missing part", "processes"],
)
def test_other_settings_are_refused(
    folded: Path, dataset: Path, changes: dict[str, Any], message: str
) -> None:
    outcome = run_slim("folds", folded, **{**options(dataset), **changes})
    assert outcome.code == 2
    assert message in outcome.stderr


def test_more_folds_than_images_are_refused(dataset: Path, tmp_path: Path) -> None:
    outcome = run_slim("folds", tmp_path, **{**options(dataset), "Folds__num": 13})
    assert outcome.code == 2
    assert "only 12 images" in outcome.stderr
