"""How many objects a model finds in an image at most: the key that sets it, and notices where it binds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import run_argv, run_cli
from detecting import detect, inputs_of
from rule import fill_model
from small_runs import annotation_file, change_split, copy_dataset, run_slim, train_options

from paddlex_seg.catalog import MODELS, find_model
from paddlex_seg.config.schema import GlobalConfig
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.export_spec import OFFICIAL_LIMITS, read_inference_yml
from paddlex_seg.structures import Annotation
from paddlex_seg.training import output as training_output

MOST = {"DETR": 300, "RCNN": 1000, "PPYOLOE": 640 * 640 * 21 // 1024, "SOLOv2": 2000}  # inputs of 640 x 640


@pytest.fixture(scope="module")
def crowded(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with one val image that has 150 objects of one class, and one with 101 of each of two."""
    folder = copy_dataset(dataset, tmp_path_factory.mktemp("crowded") / "data")
    coco = read_coco(annotation_file(folder, "val"))
    first, second = (image.id for image in coco.images[:2])
    places = [(first, 0)] * 150 + [(second, 0)] * 101 + [(second, 1)] * 101
    annotations = []
    for i, (image_id, class_id) in enumerate(places):
        x, y = 12 * (i % 20), 12 * (i // 20)
        square = [float(edge) for edge in (x, y, x + 10, y, x + 10, y + 10, x, y + 10)]
        annotations.append(Annotation(i + 1, image_id, coco.categories[class_id].id, [square]))
    change_split(folder, "val", annotations=tuple(annotations))
    return folder


def test_evaluation_finds_no_more_than_set_and_says_how_many_images_have_more(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    options = {"Global__dataset_dir": findable, "Evaluate__weight_path": weights}
    found = {}
    for limit in (None, 5):
        output = tmp_path / str(limit)
        outcome = run_cli("evaluate", output, **options, Global__max_detections=limit or "null")
        assert outcome.code == 0, outcome.stderr
        rows = yaml.safe_load((output / "segm.json").read_text(encoding="utf-8"))
        found[limit] = Counter(row["image_id"] for row in rows)
        said = [line for line in outcome.stdout.splitlines() if "more objects than the" in line]
        assert len(said) == (limit is not None)
    assert min(found[None].values()) > 5 and set(found[5].values()) == {5}
    annotated = Counter(one.image_id for one in read_coco(annotation_file(findable, "val")).annotations)
    more = sum(count > 5 for count in annotated.values())
    assert f"instance_val.json: {more} of {len(found[5])} images have more objects than the 5 " in said[0]
    assert f"has {max(annotated.values())}" in said[0] and "Global.max_detections" in said[0]


def test_training_says_before_the_first_step_which_limits_bind_and_exports_its_own(
    crowded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[int] = []
    monkeypatch.setattr(
        training_output, "export_model", lambda model, *others: exported.append(model.max_detections)
    )
    outcome = run_slim(
        "train", tmp_path, **train_options(crowded, Train__epochs_iters=1, Global__max_detections=3)
    )
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    said = [i for i, line in enumerate(lines) if "more objects than the 3 that this model finds" in line]
    assert [lines[i].split("WARNING: ")[1].split(":")[0] for i in said] == [
        "instance_train.json",
        "instance_val.json",
    ]
    assert "2 of 4 images" in lines[said[1]] and "has 202." in lines[said[1]]
    assert max(said) < next(i for i, line in enumerate(lines) if "Epoch:" in line)
    assert "2 of 4 images have more than 100 objects of a class" in outcome.stdout  # which COCO's AP counts
    assert exported == [3]


def test_an_exported_model_has_the_limit_and_prediction_says_where_it_binds(
    weights: Path, exported: Path, dataset: Path, tmp_path: Path
) -> None:
    image = sorted((dataset / "images").iterdir())[0]
    options = {"Predict__input": image, "Predict__threshold": 0}
    outcome = run_cli("predict", tmp_path / "all", **options, Predict__model_dir=exported)
    assert "as many as this model gives" not in outcome.stdout
    number = len(read_prediction(tmp_path / "all", image))
    model = tmp_path / "model"
    outcome = run_cli("export", model, Export__weight_path=weights, Global__max_detections=number - 1)
    assert outcome.code == 0, outcome.stderr
    outcome = run_cli(
        "predict", tmp_path / "few", **options, Predict__model_dir=model, Global__max_detections=500
    )
    assert outcome.code == 0, outcome.stderr
    assert len(read_prediction(tmp_path / "few", image)) == number - 1
    warnings = [line for line in outcome.stdout.splitlines() if "WARNING" in line]
    assert "Global.max_detections=500 is not used" in warnings[0] and len(warnings) == 2
    assert f"{image}: {number - 1} objects, as many as this model gives" in warnings[1]


def read_prediction(output: Path, image: Path) -> list:
    return yaml.safe_load((output / f"{image.stem}_res.json").read_text(encoding="utf-8"))["boxes"]


@pytest.mark.parametrize(
    "name",
    ["PP-YOLOE_seg-S", "Mask-RT-DETR-S", "MaskRCNN-ResNet50", "Cascade-MaskRCNN-ResNet50-FPN", "SOLOv2"],
)
def test_a_limit_beyond_the_structure_of_the_model_is_refused(name: str) -> None:
    spec = find_model(name)
    model = spec.build(num_classes=2)
    assert model.max_detections == OFFICIAL_LIMITS[spec.arch]
    most = MOST[spec.arch]
    with pytest.raises(ConfigError, match=rf"max_detections: found {most + 1}, .* at most {most} objects"):
        spec.limit_detections(model, most + 1, (640, 640))
    spec.limit_detections(model, None, (640, 640))
    assert model.max_detections == OFFICIAL_LIMITS[spec.arch]
    spec.limit_detections(model, most, (640, 640))
    assert model.max_detections == most
    description = str(GlobalConfig.model_fields["max_detections"].description)
    assert str(most) in description and str(OFFICIAL_LIMITS[spec.arch]) in description


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many", "337"])
def test_the_command_line_refuses_impossible_limits(value: str, weights: Path, tmp_path: Path) -> None:
    outcome = run_argv(
        ["-c", "PP-YOLOE_seg-S", "-oGlobal.mode=export", f"-oGlobal.output={tmp_path}", "-oGlobal.device=cpu"]
        + [f"-oExport.weight_path={weights}", f"-oGlobal.max_detections={value}"]
    )
    assert outcome.code == 2
    assert "Global.max_detections" in outcome.stderr
    assert not (tmp_path / "inference.yml").exists()


def test_every_model_has_a_limit_for_official_exports() -> None:
    assert {spec.arch for spec in MODELS.values()} == set(OFFICIAL_LIMITS)


def test_official_exports_without_the_key_have_the_limit_of_their_kind(
    exported: Path, tmp_path: Path
) -> None:
    text = (exported / "inference.yml").read_text(encoding="utf-8")
    assert "max_detections: 300\n" in text
    (tmp_path / "inference.yml").write_text(text.replace("max_detections: 300\n", ""), encoding="utf-8")
    assert read_inference_yml(tmp_path / "inference.yml").max_detections == 300


@pytest.mark.parametrize(("name", "limit"), [("PP-YOLOE_seg-S", 1500), ("Mask-RT-DETR-S", 120)])
def test_a_higher_limit_gives_more_detections_beside_the_same_best_ones(name: str, limit: int) -> None:
    """The R-CNNs and SOLOv2 have such tests in tests/models/."""
    model = find_model(name).build(num_classes=80)
    fill_model(model)
    model.score_threshold = 0.0
    inputs = inputs_of(1, 64, 96)
    usual = detect(model, *inputs).bbox.numpy()
    model.max_detections = limit
    more = detect(model, *inputs).bbox.numpy()
    assert len(usual) == OFFICIAL_LIMITS[find_model(name).arch] and len(more) == limit
    best = np.sort(more[:, 1])[::-1][: len(usual)]
    np.testing.assert_allclose(np.sort(usual[:, 1])[::-1], best, rtol=1e-4)
