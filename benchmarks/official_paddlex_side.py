"""PaddleX's side of official_paddlex.py: predicts images with PaddleX, in PaddleX's own environment.

It needs only what ``pip install "paddlex[base]"`` installs. The job, a JSON file, has the model, the folder
of the exported model, and the images with their thresholds. The results are written beside it:
``boxes.json``, and ``masks_<image>.npz``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# Without this, PaddleX checks whether model servers can be reached. This script downloads nothing.
os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")

import cv2
import numpy as np
from paddlex import create_model, create_pipeline


def main() -> None:
    job_file = Path(sys.argv[1])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    name, folder = job["model"], job["model_dir"]
    images = [cv2.imread(path, cv2.IMREAD_COLOR) for path in job["images"]]
    model = create_model(name, model_dir=folder, device="cpu")
    module = {
        "module_name": "instance_segmentation",
        "model_name": name,
        "model_dir": folder,
        "batch_size": 1,
        "threshold": 0.5,  # predict() of the pipeline ignores it
    }
    config = {"pipeline_name": "instance_segmentation", "SubModules": {"InstanceSegmentation": module}}
    pipeline = create_pipeline(config=config, device="cpu")
    found, same = [], True
    for number, (image, threshold) in enumerate(zip(images, job["thresholds"], strict=True)):
        (result,) = model.predict(image, threshold=threshold)
        if number == 0:
            (again,) = pipeline.predict(image, threshold=threshold)
            same = result["boxes"] == again["boxes"]
            same &= all(map(np.array_equal, result["masks"], again["masks"]))
        found.append([plain(box) for box in result["boxes"]])
        masks = {f"{i:06}": np.asarray(mask) > 0 for i, mask in enumerate(result["masks"])}
        np.savez_compressed(job_file.with_name(f"masks_{number}.npz"), **masks)
    answer = {"boxes": found, "pipeline_is_same": bool(same)}
    job_file.with_name("boxes.json").write_text(json.dumps(answer), encoding="utf-8")


def plain(box: dict[str, Any]) -> dict[str, Any]:
    """A box of PaddleX with Python's numbers. SOLOv2 has no coordinates, and another key for the class."""
    return {
        "class_id": int(box["class_id"] if "class_id" in box else box["cls_id"]),
        "label": box["label"],
        "score": float(box["score"]),
        "coordinate": [float(edge) for edge in box.get("coordinate", [])],
    }


if __name__ == "__main__":
    main()
