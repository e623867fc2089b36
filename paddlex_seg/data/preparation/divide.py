"""Split of a data set in its folder: new annotation files, or cross-validation folds."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddlex_seg.data.coco.paths import DatasetPaths, dataset_paths, plain_name
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.images import image_path
from paddlex_seg.data.preparation.balance import balance_table
from paddlex_seg.data.preparation.groups import groups_by_content, groups_by_folder, groups_by_name
from paddlex_seg.data.preparation.layouts import annotation_files, existing_annotations, write_folds
from paddlex_seg.data.preparation.merge import in_name_order, merge_coco
from paddlex_seg.data.preparation.new_place import is_writable, require_usable, write_dataset
from paddlex_seg.data.preparation.settings import SplitSettings
from paddlex_seg.data.preparation.split import fold_coco, split_coco
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.publish import publish
from paddlex_seg.structures import CocoFile

_LOGGER = logging.getLogger(__name__)


def divide_dataset(dataset_dir: Path, split: SplitSettings, target: Path) -> Path:
    """Split the COCO data set in ``dataset_dir`` again: replace its annotation files, or write ``folds/``.

    If it cannot be written, the split is written to ``target``, with all images. Returns the data set to
    check: the first fold, if only the folds have train and val. Raises ConfigError for settings that do not
    fit the data, and DatasetError when there is nothing to split.
    """
    paths = dataset_paths(dataset_dir)
    existing = existing_annotations(paths.root)
    whole = in_name_order(merge_coco([read_coco(path) for path in existing.values()]))
    root = paths.root if is_writable(paths.root) else _copy_to(target, paths, existing, whole)
    if split.folds:
        divide_into_folds(root, whole, split)
    else:
        earlier = dict.fromkeys(existing_annotations(root).values())  # also instances_train.json
        publish(root, {**earlier, **annotation_files(root, divide(whole, root / "images", split))})
    _LOGGER.info("Split dataset successfully !")
    if split.folds and not {"train", "val"} <= set(existing):
        _LOGGER.info(f"{root} itself has no train and val. The first fold is checked.")
        return root / "folds" / "1"
    return root


def _copy_to(target: Path, paths: DatasetPaths, existing: Mapping[str, Path], whole: CocoFile) -> Path:
    """The same data set in a folder that can be written. Images are linked where the disk supports it."""
    require_usable(target, paths.root)
    places = {record.file_name: image_path(paths.image_dir, record.file_name) for record in whole.images}
    images = {plain_name(name): place for name, place in places.items() if place.is_file()}
    files = {f"annotations/instance_{name}.json": path for name, path in existing.items()}
    write_dataset(target, files, images, {"source": str(paths.root.resolve())})
    _LOGGER.info(
        f"{paths.root} cannot be written. The new split is in {target}. Train on it with "
        f"-o Global.dataset_dir={target}"
    )
    return target


def divide(
    whole: CocoFile,
    image_dir: Path,
    split: SplitSettings,
    to_place: Mapping[str, Path | bytes] | None = None,
) -> dict[str, CocoFile]:
    """Split ``whole`` into parts, by name. ``to_place``: images that are not in ``image_dir`` yet."""
    groups = _groups(whole, image_dir, split, to_place or {})
    splits = split_coco(whole, split.percents(), seed=split.seed, groups=groups)
    _LOGGER.info(balance_table(splits))
    return splits


def divide_into_folds(root: Path, whole: CocoFile, split: SplitSettings) -> None:
    """Write the folds of ``whole`` to ``root/folds``. Its images are in ``root/images``."""
    write_folds(root, folds_of(root, whole, split))
    _LOGGER.info(f"{split.folds} folds are in {root / 'folds'}. Set Global.dataset_dir to one of them.")


def folds_of(root: Path, whole: CocoFile, split: SplitSettings) -> list[dict[str, CocoFile]]:
    """The folds of ``whole``, see `fold_coco`. Its images are in ``root/images``."""
    assert split.folds is not None
    groups = _groups(whole, root / "images", split, {})
    return fold_coco(whole, split.folds, seed=split.seed, groups=groups)


def _groups(
    whole: CocoFile, image_dir: Path, split: SplitSettings, to_place: Mapping[str, Path | bytes]
) -> Sequence[int] | None:
    names = [record.file_name for record in whole.images]
    if split.group_by is None:
        return None
    if split.group_by == "folder":
        return groups_by_folder(names)
    if split.group_by != "duplicates":
        return groups_by_name(names, split.group_by)
    if to_place:
        raise ConfigError(
            "CheckDataset.split.group_by=duplicates needs the images in the folder images, but the "
            "conversion has not put them there yet. Convert in a first run, and split in a second one."
        )
    return groups_by_content(image_dir, names, split.bands_of(image_dir.parent))
