"""Mode evaluate on weights against a user who predicts with the exported model and evaluates the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import read_result, run_argv
from rule import fill_model
from small_runs import CATEGORIES, annotation_file, labelled_by, save_model, with_new_categories

from paddlex_seg import create_model
from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.masks.rle import rle_to_json

FAMILIES = {
    "PP-YOLOE_seg-S": (160, 160),
    "Mask-RT-DETR-S": (160, 160),
    "MaskRCNN-ResNet50-FPN": (160, 224),
    "SOLOv2": (160, 224),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_evaluation_gives_the_ap_of_the_predictions_of_the_exported_model(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    spec, size = find_model(name), FAMILIES[name]
    model = spec.build(num_classes=len(CATEGORIES))
    fill_model(model)
    model.eval()
    own = tmp_path / "data"
    (own / "annotations").mkdir(parents=True)
    (own / "images").symlink_to(dataset / "images")
    for split in ("train", "val"):
        write_coco(
            with_new_categories(read_coco(annotation_file(dataset, split))), annotation_file(own, split)
        )
    truth = read_coco(annotation_file(own, "val"))
    preprocess = spec.recipe.preprocess(size)
    write_coco(labelled_by(model, truth, own / "images", preprocess), truth.path)
    truth = read_coco(truth.path)
    weights = save_model(model, tmp_path / "filled", ModelInfo(name, CATEGORIES, size))

    def run(mode: str, output: str, **options: object) -> dict:
        settings = {"Global.mode": mode, "Global.output": tmp_path / output, "Global.dataset_dir": own}
        settings |= {key.replace("__", "."): value for key, value in options.items()}
        outcome = run_argv(["-c", name, *(f"-o{key}={value}" for key, value in settings.items())])
        assert outcome.code == 0, outcome.stderr
        return read_result(tmp_path / output, mode)

    metrics = run("evaluate", "of weights", Evaluate__weight_path=weights)["metrics"]
    assert 0.05 < metrics["AP"] < 0.95
    run("export", "exported", Export__weight_path=weights, Export__onnx="false")
    ids = {image.file_name: image.id for image in truth.images}
    rows = []
    with create_model(model_dir=str(tmp_path / "exported"), device="cpu", backend="paddle") as exported:
        files = [str(own / "images" / file_name) for file_name in ids]
        for result in exported.predict(files, threshold=0):
            rows += [
                {
                    "image_id": ids[Path(result["input_path"]).name],
                    "category_id": CATEGORIES[box["cls_id"]].id,
                    "segmentation": rle_to_json(mask),
                    "score": float(np.float32(box["score"])),
                }
                for box, mask in zip(result["boxes"], result["masks"], strict=True)
            ]
    (tmp_path / "predicted.json").write_text(json.dumps(rows))
    again = run("evaluate", "of predictions", Evaluate__predictions=tmp_path / "predicted.json")["metrics"]
    assert again["segm"] == pytest.approx(metrics["segm"], abs=1e-6)
