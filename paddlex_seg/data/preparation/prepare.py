"""What mode check_dataset does before it checks: convert, split, write in another format."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paddlex_seg.config.schema import CheckDatasetConfig, SplitConfig
from paddlex_seg.data.checking.duplicates import clusters, near_duplicates
from paddlex_seg.data.checking.scan import scan_pictures
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.labelme import read_labelme, write_labelme
from paddlex_seg.data.formats.mask_png import read_mask_png, write_mask_png
from paddlex_seg.data.formats.voc import read_voc
from paddlex_seg.data.formats.yolo import read_yolo, write_yolo
from paddlex_seg.data.preparation.split import (
    fold_coco,
    groups_by_folder,
    groups_by_name,
    merge_coco,
    split_balance,
    split_coco,
)
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
_DEFAULT_PERCENTS = {"train": 80, "val": 20}  # of a converted data set that says nothing about a split
_SPLITS = ("train", "val", "test")


def prepare(cfg: CheckDatasetConfig, dataset_dir: Path, output_dir: Path) -> list[Finding]:
    """Convert and split the data set in ``dataset_dir`` as configured; gives back what conversion found.

    Raises ConfigError for settings that contradict each other or the data, and DatasetError when there is
    nothing to convert or to split.
    """
    if cfg.split.enable:
        _split_percents(cfg.split)
    if not cfg.convert.enable:
        if cfg.split.enable:
            _split_in_place(dataset_dir, cfg.split)
        return []
    if cfg.convert.dst_dataset_type != "COCO":
        return _write_as(cfg, dataset_dir, output_dir)
    if cfg.convert.src_dataset_type not in READERS:
        raise ConfigError(
            f"CheckDataset.convert.src_dataset_type is {cfg.convert.src_dataset_type}; name the format to "
            f"convert from: {', '.join(READERS)}."
        )
    return _convert(cfg, dataset_dir)


# ---- from another format


def _convert(cfg: CheckDatasetConfig, dataset_dir: Path) -> list[Finding]:
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: there is no such folder. Set Global.dataset_dir to the data set.")
    kind = str(cfg.convert.src_dataset_type)
    if kind == "LabelMe":
        dataset_dir = _root_or_itself(dataset_dir)
    recover(dataset_dir)
    conversion = READERS[kind](dataset_dir)
    splits, is_new_split = dict(conversion.splits), False
    if cfg.split.enable or ALL in splits:
        whole = _in_name_order(merge_coco(list(splits.values())), number=True)
        splits = _divide(whole, dataset_dir / "images", cfg.split, pictures=conversion.pictures)
        is_new_split = True
    files = _annotation_files(dataset_dir, splits)
    if is_new_split and conversion.list_lines:
        files |= _list_files(dataset_dir, splits, conversion.list_lines)
    files |= {dataset_dir / "images" / name: source for name, source in conversion.pictures.items()}
    publish(dataset_dir, files)
    if cfg.split.folds:
        _write_folds(dataset_dir, merge_coco(list(splits.values())), cfg.split)
    counts = ", ".join(f"{name} {len(coco.images)}" for name, coco in splits.items())
    _LOGGER.info(f"Convert dataset successfully ! Pictures: {counts}.")
    if cfg.split.enable:
        _LOGGER.info("Split dataset successfully !")
    return list(conversion.findings)


def _root_or_itself(dataset_dir: Path) -> Path:
    try:
        return dataset_paths(dataset_dir).root
    except DatasetError:
        return dataset_dir  # the labels may have their pictures inside


def _annotation_files(root: Path, splits: Mapping[str, CocoFile]) -> dict[Path, bytes | Path | None]:
    """The new annotation files; one of an earlier split that the new one has no part for is to go."""
    files: dict[Path, bytes | Path | None] = {
        root / "annotations" / f"instance_{name}.json": coco_to_json(coco).encode()
        for name, coco in splits.items()
    }
    return {root / "annotations" / f"instance_{name}.json": None for name in _SPLITS} | files


def _list_files(
    root: Path, splits: Mapping[str, CocoFile], lines: Mapping[str, str]
) -> dict[Path, bytes | Path | None]:
    return {
        root / f"{name}_anno_list.txt": "".join(
            f"{lines[record.file_name]}\n" for record in coco.images if record.file_name in lines
        ).encode()
        for name, coco in splits.items()
    }


# ---- into another format


def _write_as(cfg: CheckDatasetConfig, dataset_dir: Path, output_dir: Path) -> list[Finding]:
    kind = cfg.convert.dst_dataset_type
    if cfg.convert.src_dataset_type not in (None, "COCO"):
        raise ConfigError(
            f"CheckDataset.convert: from {cfg.convert.src_dataset_type} to {kind} takes two runs: to COCO "
            "(leave dst_dataset_type out), then on."
        )
    if cfg.split.enable:
        _split_in_place(dataset_dir, cfg.split)
    paths = dataset_paths(dataset_dir)
    splits = {name: read_coco(path) for name, path in _existing(paths.root).items()}
    folder = output_dir / "check_dataset" / kind
    with fresh_folder(folder) as new:
        findings = WRITERS[kind](splits, paths.image_dir, new)
    _LOGGER.info(f"Convert dataset successfully ! Written to {folder}.")
    return findings


# ---- splitting


def _split_in_place(dataset_dir: Path, cfg: SplitConfig) -> None:
    paths = dataset_paths(dataset_dir)
    existing = _existing(paths.root)
    if not existing:
        raise DatasetError(
            f"{paths.root}: has no annotations/instance_train.json, _val.json or _test.json to split. "
            "Convert the annotations first, or name the file so."
        )
    whole = _in_name_order(merge_coco([read_coco(path) for path in existing.values()]))
    if cfg.folds:
        _write_folds(paths.root, whole, cfg)
    else:
        splits = _divide(whole, paths.image_dir, cfg, pictures={})
        publish(paths.root, _annotation_files(paths.root, splits))
    _LOGGER.info("Split dataset successfully !")


def _existing(root: Path) -> dict[str, Path]:
    paths = {name: root / "annotations" / f"instance_{name}.json" for name in _SPLITS}
    return {name: path for name, path in paths.items() if path.is_file()}


def _in_name_order(coco: CocoFile, number: bool = False) -> CocoFile:
    """The same, whatever split it came from, so that a split does not depend on the one before it.

    number: give ids from 1, in this order; those of a conversion say nothing.
    """
    images = sorted(coco.images, key=lambda record: record.file_name)
    place = {record.id: index for index, record in enumerate(images, start=1)}
    annotations = sorted(coco.annotations, key=lambda item: place[item.image_id])
    if number:
        images = [replace(record, id=place[record.id]) for record in images]
        annotations = [
            replace(item, id=id, image_id=place[item.image_id])
            for id, item in enumerate(annotations, start=1)
        ]
    return replace(coco, images=tuple(images), annotations=tuple(annotations))


def _divide(
    whole: CocoFile, image_dir: Path, cfg: SplitConfig, pictures: Mapping[str, Path | bytes]
) -> dict[str, CocoFile]:
    percents = _split_percents(cfg) if cfg.enable and not cfg.folds else _DEFAULT_PERCENTS
    groups = _groups(whole, image_dir, cfg, pictures)
    splits = split_coco(whole, percents, seed=cfg.seed, groups=groups)
    _say_balance(splits)
    return splits


def _split_percents(cfg: SplitConfig) -> dict[str, int]:
    given = {"train": cfg.train_percent, "val": cfg.val_percent, "test": cfg.test_percent}
    if cfg.folds:
        if any(value is not None for value in given.values()):
            raise ConfigError(
                "CheckDataset.split: folds and percents exclude each other. Set one of them to null."
            )
        return {}
    percents = {name: value or 0 for name, value in given.items()}
    if sum(percents.values()) != 100 or not percents["train"] or not percents["val"]:
        found = ", ".join(f"{name}_percent {value}" for name, value in given.items())
        raise ConfigError(
            f"CheckDataset.split: {found}. Expected whole numbers that sum to 100, those of train and val "
            "above 0."
        )
    return {name: value for name, value in percents.items() if value}


def _groups(
    whole: CocoFile, image_dir: Path, cfg: SplitConfig, pictures: Mapping[str, Path | bytes]
) -> Sequence[int] | None:
    names = [record.file_name for record in whole.images]
    if cfg.group_by is None:
        return None
    if cfg.group_by == "folder":
        return groups_by_folder(names)
    if cfg.group_by != "duplicates":
        return groups_by_name(names, cfg.group_by)
    if pictures:
        raise ConfigError(
            "CheckDataset.split.group_by=duplicates needs pictures in the folder images, where the "
            "conversion is yet to put them. Convert first, then split."
        )
    facts = scan_pictures(image_dir, names, "thumbnail")
    pairs = near_duplicates([fact.thumbnail for fact in facts])
    return clusters(len(names), pairs)


def _write_folds(root: Path, whole: CocoFile, cfg: SplitConfig) -> None:
    """``folds/1`` and so on: data sets that share the pictures of this one."""
    assert cfg.folds is not None
    groups = _groups(whole, root / "images", cfg, pictures={})
    with fresh_folder(root / "folds") as new:
        for number, parts in enumerate(fold_coco(whole, cfg.folds, seed=cfg.seed, groups=groups), start=1):
            annotations = new / str(number) / "annotations"
            annotations.mkdir(parents=True)
            for name, coco in parts.items():
                (annotations / f"instance_{name}.json").write_text(coco_to_json(coco), encoding="utf-8")
            _share_pictures(root / "images", new / str(number) / "images", up="../../images")
    _LOGGER.info(f"{cfg.folds} folds are in {root / 'folds'}; set Global.dataset_dir to one of them.")


def _share_pictures(source: Path, target: Path, up: str) -> None:
    """A second place for a folder of pictures: a link by the relative path ``up``, or else copies."""
    try:
        os.symlink(up, target, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target)


def _say_balance(splits: Mapping[str, CocoFile], shown: int = 30) -> None:
    """A table of pictures and objects per class and part, for the log."""
    rows = split_balance(splits)
    width = max([len(row.category) for row in rows[:shown]] + [8])
    lines = ["pictures (objects) per class:", f"  {'':{width}}" + "".join(f"{name:>18}" for name in splits)]
    for row in rows[:shown]:
        cells = (f"{row.images[name]} ({row.instances[name]})" for name in splits)
        lines.append(f"  {row.category:{width}}" + "".join(f"{cell:>18}" for cell in cells))
    lines += [f"  ... and {len(rows) - shown} more classes"] * (len(rows) > shown)
    totals = "".join(f"{len(coco.images):>18}" for coco in splits.values())
    lines.append(f"  {'pictures':{width}}{totals}")
    _LOGGER.info("\n".join(lines))
