"""The prediction result of one image, saved as JSON (one schema for all models) or as a drawing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.files.atomic import write_text
from paddlex_seg.files.images import write_image
from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.structures import Instances
from paddlex_seg.visualize import draw_instances

# Drawings are saved in the format of the input for these formats, else as PNG.
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Result:
    """The prediction result of one image.

    ``image`` is uint8 [H, W, 3], RGB. Boxes of ``instances`` are inside the image, see ``clip_to_image``.
    ``save_name`` is the path relative to the output folder, without file extension. It is unique in a run.
    """

    input_path: str | None  # None for an array
    page_index: int | None  # from 0, for a multi-page file; else None
    image: NDArray[np.uint8]
    instances: Instances
    labels: tuple[str, ...]  # name of each class index
    save_name: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dump``. ``masks[i]`` belongs to ``boxes[i]``.

        A mask is COCO's compressed RLE of the whole image.
        """
        found = self.instances
        return {
            "input_path": self.input_path,
            "page_index": self.page_index,
            "boxes": [
                {
                    "cls_id": int(class_id),
                    "label": self.labels[class_id],
                    "score": float(score),
                    "coordinate": [float(edge) for edge in box],
                }
                for class_id, score, box in zip(found.class_ids, found.scores, found.boxes_xyxy, strict=True)
            ],
            "masks": [rle_to_json(mask) for mask in found.masks],
        }

    def draw(self) -> NDArray[np.uint8]:
        """The image with masks, boxes, labels and scores, uint8 [H, W, 3], RGB."""
        return draw_instances(self.image, self.instances, self.labels)

    def save_to_json(self, save_path: Path | str) -> Path:
        """Write the JSON to the file ``save_path``, or into that folder as ``<name>_res.json``.

        Returns the file.
        """
        path = self._target(Path(save_path), (".json",), ".json")
        write_text(path, json.dumps(self.to_json(), ensure_ascii=False, indent=4))
        return path

    def save_to_img(self, save_path: Path | str) -> Path:
        """Write the drawing to the file ``save_path``, or into that folder as ``<name>_res<ending>``.

        The file extension is that of the input, or .png if that format cannot be written. Returns the file.
        """
        suffix = Path(self.input_path).suffix.lower() if self.input_path else ".png"
        suffix = suffix if suffix in DRAWING_SUFFIXES else ".png"
        path = self._target(Path(save_path), DRAWING_SUFFIXES, suffix)
        options = {"quality": JPEG_QUALITY} if path.suffix.lower() in (".jpg", ".jpeg") else {}
        write_image(path, Image.fromarray(self.draw()), **options)
        return path

    def _target(self, save_path: Path, file_suffixes: tuple[str, ...], suffix: str) -> Path:
        if save_path.suffix.lower() in file_suffixes and not save_path.is_dir():
            return save_path
        return save_path / f"{self.save_name}_res{suffix}"


def clip_to_image(instances: Instances) -> Instances:
    """The instances with boxes clipped to the image. Instances with an empty box are dropped."""
    height, width = instances.size_hw
    boxes = instances.boxes_xyxy.clip(0, np.array([width, height, width, height], np.float32))
    keep = np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    return Instances(
        size_hw=instances.size_hw,
        class_ids=instances.class_ids[keep],
        scores=instances.scores[keep],
        boxes_xyxy=boxes[keep],
        masks=tuple(instances.masks[i] for i in keep),
    )
