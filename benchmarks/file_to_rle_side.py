"""Another toolkit's side of file_to_rle.py: from an image file to RLE, in an environment of its own.

It needs only what ``pip install "paddlex[base]"``, or ``pip install ultralytics openvino pycocotools`` with
PyTorch for the CPU, installs. The job is a JSON text: ``side``, ``model``, ``image``, ``threads`` and what
the side needs. For each line of standard input the side runs once, with the number in the line as threshold,
and prints its seconds and scores as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Without this, PaddleX checks whether model servers can be reached. This script downloads nothing.
os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")

Run = Callable[[float], list[float]]  # threshold -> scores of the objects, whose RLE were made


def main() -> None:
    job = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed
    run = {"paddlex": paddlex_run, "ultralytics": ultralytics_run}[job["side"]](job)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        scores = run(float(line))
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": scores}), file=answers, flush=True)


def paddlex_run(job: dict[str, Any]) -> Run:
    """PaddleX gives each mask inside its rounded box. SOLOv2 has masks of the whole image."""
    import numpy as np
    from paddlex import create_model
    from pycocotools import mask as coco_mask

    config = {"cpu_threads": job["threads"]}
    model = create_model(job["model"], model_dir=job["model_dir"], device="cpu", engine_config=config)

    def run(threshold: float) -> list[float]:
        (result,) = model.predict(job["image"], threshold=threshold)
        height, width = result["input_img"].shape[:2]
        for box, mask in zip(result["boxes"], result["masks"], strict=False):
            whole = np.zeros((height, width), np.uint8, order="F")
            left, top = (max(0, round(edge)) for edge in box.get("coordinate", [0, 0])[:2])
            part = np.asarray(mask)[: height - top, : width - left]
            whole[top : top + part.shape[0], left : left + part.shape[1]] = part > 0
            coco_mask.encode(whole)
        return [float(box["score"]) for box in result["boxes"]]

    return run


def ultralytics_run(job: dict[str, Any]) -> Run:
    """YOLO through OpenVINO. ``precision``: f32, or null for what Ultralytics leaves to OpenVINO."""
    import numpy as np
    import openvino
    import torch
    from pycocotools import mask as coco_mask
    from ultralytics import YOLO

    torch.set_num_threads(job["threads"])
    os.chdir(job["folder"])
    exported = Path(f"{job['model']}_openvino_model")
    if not exported.exists():
        export_random(job["model"], Path(job["image"]), job["side_length"])
    if job["precision"] is not None:
        compile_model = openvino.Core.compile_model

        def compile_in(*arguments: Any, config: dict[str, Any], **named: Any) -> Any:
            config = {**config, "INFERENCE_PRECISION_HINT": job["precision"]}
            return compile_model(*arguments, config=config, **named)

        openvino.Core.compile_model = compile_in
    model = YOLO(exported, task="segment")

    def run(threshold: float) -> list[float]:
        (result,) = model.predict(
            job["image"], imgsz=job["side_length"], conf=threshold, retina_masks=True, verbose=False
        )
        if result.masks is None:
            return []
        for mask in result.masks.data.numpy():
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return result.boxes.conf.tolist()

    return run


def export_random(name: str, image: Path, side_length: int) -> None:
    """Export a network with random weights, whose norms are those of the image, so that scores differ."""
    import cv2
    import numpy as np
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    network = YOLO(f"{name}.yaml", task="segment")
    pixels = cv2.resize(cv2.imread(str(image)), (side_length, side_length))
    batch = torch.from_numpy(np.ascontiguousarray(pixels[None].transpose(0, 3, 1, 2))).float() / 255
    norms = [layer for layer in network.model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None  # the mean of all batches, here of one
        layer.reset_running_stats()
    network.model.train()
    with torch.no_grad():
        network.model(batch)
    network.model.eval()
    network.save(f"{name}.pt")
    YOLO(f"{name}.pt", task="segment").export(format="openvino", imgsz=side_length, half=False)


if __name__ == "__main__":
    main()
