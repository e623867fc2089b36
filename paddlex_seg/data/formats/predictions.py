"""Converts results of mode predict to annotations, as a start for manual annotation."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.source_files import files_below
from paddlex_seg.data.images import IMAGE_SUFFIXES, image_size
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import rle_from_json
from paddlex_seg.structures import CocoFile

_ENDING = "_res.json"
_ADVICE = "Predict the image again, or move the file out of the folder."


def results_to_coco(results_dir: Path, image_dir: Path, class_names: Sequence[str] | None = None) -> CocoFile:
    """The ``*_res.json`` files in ``results_dir`` as annotations of the images in ``image_dir``.

    ``class_names`` gives the classes and their order. Without it, the classes found in the results are used,
    sorted by class index. Only the first page of a multi-page file is used, and no result of an unusable
    input, which has an ``error``. Masks must be in the form ``rle``. Raises DatasetError when there is no
    result, when a result cannot be read, or when its image is not in ``image_dir``.
    """
    names = files_below(results_dir, (_ENDING,))
    if not names:
        raise DatasetError(
            f"{results_dir}: no *{_ENDING} file in this folder. Give the output folder of mode predict."
        )
    results = {name: _read_result(results_dir / name) for name in names}
    results = {
        name: result
        for name, result in results.items()
        if not result.get("page_index") and not result.get("error")
    }
    images = [_to_image(name, result, image_dir) for name, result in results.items()]
    labels = list(class_names) if class_names is not None else _labels_by_index(results.values())
    unknown = sorted({item.label for image in images for item in image.objects} - set(labels))
    if unknown:
        raise DatasetError(
            f"{results_dir}: there are results of the classes {', '.join(unknown)}, but class_names lists "
            f"{', '.join(labels)}. Give the class names that the model was trained with."
        )
    return assemble_splits(image_dir.parent, {ALL: images}, labels)[ALL]


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a result of mode predict ({error}). {_ADVICE}") from error
    if not isinstance(result, dict) or not {"boxes", "masks"} <= set(result):
        raise DatasetError(
            f"{path}: not a result of mode predict: the file has no boxes and masks. {_ADVICE}"
        )
    if not all(isinstance(mask, dict) and set(mask) == {"size", "counts"} for mask in result["masks"]):
        raise DatasetError(
            f"{path}: the masks are not in the form rle, which has 'size' and 'counts' of the whole image. "
            "Predict the image again with the default form of masks."
        )
    return result


def _to_image(name: str, result: dict[str, Any], image_dir: Path) -> SourceImage:
    file_name = _file_name(name, result, image_dir)
    objects = tuple(
        SourceObject(box["label"], rle_from_json(mask))
        for box, mask in zip(result["boxes"], result["masks"], strict=True)
    )
    sizes = {tuple(mask["size"]) for mask in result["masks"]}
    size_hw = sizes.pop() if sizes else image_size(image_dir / file_name).shown_hw
    return SourceImage(file_name=file_name, size_hw=size_hw, objects=objects)


def _file_name(name: str, result: dict[str, Any], image_dir: Path) -> str:
    """The image of a result: the predicted file if it is in ``image_dir``, else an image of the same name."""
    stem = name[: -len(_ENDING)]
    read_from = os.path.relpath(result.get("input_path") or stem, image_dir)
    suffixes = (os.path.splitext(read_from)[1], *IMAGE_SUFFIXES)
    for candidate in (read_from, *(f"{stem}{suffix}" for suffix in suffixes)):
        if not candidate.startswith("..") and (image_dir / candidate).is_file():
            return candidate.replace(os.sep, "/")
    raise DatasetError(
        f"{name}: {image_dir} has no image {stem}. Give the image folder that was used for prediction."
    )


def _labels_by_index(results: Iterable[dict[str, Any]]) -> list[str]:
    labels = {box["cls_id"]: box["label"] for result in results for box in result["boxes"]}
    return list(dict.fromkeys(labels[index] for index in sorted(labels)))
