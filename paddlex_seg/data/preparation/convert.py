"""Conversion of data sets from other annotation formats to COCO, and from COCO to other formats."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.formats.labelme.write import write_labelme
from paddlex_seg.data.formats.mask_png import read_mask_png, write_mask_png
from paddlex_seg.data.formats.voc import read_voc
from paddlex_seg.data.formats.yolo import read_yolo, write_yolo
from paddlex_seg.data.preparation.divide import divide, divide_into_folds
from paddlex_seg.data.preparation.layouts import annotation_files, existing_annotations, list_files
from paddlex_seg.data.preparation.merge import in_name_order, merge_coco
from paddlex_seg.data.preparation.settings import SplitSettings
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.files.publish import fresh_folder, publish, recover
from paddlex_seg.structures import CocoFile

_LOGGER = logging.getLogger(__name__)

READERS: Mapping[str, Callable[[Path], Conversion]] = {
    "LabelMe": read_labelme,
    "VOC": read_voc,
    "YOLO": read_yolo,
    "MaskPNG": read_mask_png,
}
WRITERS: Mapping[str, Callable[[Mapping[str, CocoFile], Path, Path], list[Finding]]] = {
    "LabelMe": write_labelme,
    "YOLO": write_yolo,
    "MaskPNG": write_mask_png,
}


def convert_dataset(dataset_dir: Path, source: str | None, split: SplitSettings) -> list[Finding]:
    """Convert the data set in ``dataset_dir`` from the format ``source`` to COCO, in the same folder.

    It is split into train and val if ``split`` is enabled or the source has no split. Returns the findings of
    the conversion. Raises ConfigError for an unsupported format, and DatasetError when there is nothing to
    convert.
    """
    if source is None or source not in READERS:
        raise ConfigError(
            f"CheckDataset.convert.src_dataset_type is {source}. Expected the format of the source: "
            f"{', '.join(READERS)}."
        )
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: there is no such folder. Set Global.dataset_dir to the data set.")
    if source == "LabelMe":
        dataset_dir = _root_or_itself(dataset_dir)
    recover(dataset_dir)
    conversion = READERS[source](dataset_dir)
    splits, is_new_split = dict(conversion.splits), False
    if split.enable or ALL in splits:
        whole = in_name_order(merge_coco(list(splits.values())), number=True)
        splits = divide(whole, dataset_dir / "images", split, to_place=conversion.images)
        is_new_split = True
    files = annotation_files(dataset_dir, splits)
    if is_new_split and conversion.list_lines:
        files |= list_files(dataset_dir, splits, conversion.list_lines)
    files |= {dataset_dir / "images" / name: place for name, place in conversion.images.items()}
    publish(dataset_dir, files)
    if split.folds:
        divide_into_folds(dataset_dir, merge_coco(list(splits.values())), split)
    counts = ", ".join(f"{name} {len(coco.images)}" for name, coco in splits.items())
    _LOGGER.info(f"Convert dataset successfully ! Images: {counts}.")
    if split.enable:
        _LOGGER.info("Split dataset successfully !")
    return list(conversion.findings)


def write_dataset_as(target: str, dataset_dir: Path, folder: Path) -> list[Finding]:
    """Write the COCO data set in ``dataset_dir`` to ``folder`` in the format ``target``.

    Returns findings about annotations that this format cannot store exactly.
    """
    paths = dataset_paths(dataset_dir)
    splits = {name: read_coco(path) for name, path in existing_annotations(paths.root).items()}
    with fresh_folder(folder) as new:
        findings = WRITERS[target](splits, paths.image_dir, new)
    _LOGGER.info(f"Convert dataset successfully ! Written to {folder}.")
    return findings


def _root_or_itself(dataset_dir: Path) -> Path:
    try:
        return dataset_paths(dataset_dir).root
    except DatasetError:
        return dataset_dir  # LabelMe files may contain the image data
