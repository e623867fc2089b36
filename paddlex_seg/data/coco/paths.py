"""The paths of a data set.

A data set is a folder with ``images/`` and ``annotations/instance_train.json`` and ``instance_val.json``.
"""

import posixpath
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.data.images import image_path
from paddlex_seg.data.layouts.found import own_root
from paddlex_seg.data.layouts.recognise import own_annotations
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import recover
from paddlex_seg.structures import CocoFile


@dataclass(frozen=True)
class DatasetPaths:
    """The paths of a data set. Before a conversion, the JSON files may not exist yet."""

    root: Path
    image_dir: Path
    train_json: Path
    val_json: Path
    test_json: Path  # optional


def dataset_paths(dataset_dir: Path) -> DatasetPaths:
    """The paths of the data set in ``dataset_dir``, or of the only one below it.

    ``instances_train.json`` takes the place of a missing ``instance_train.json``. If a conversion or a split
    was killed there, it is completed first. Raises ForeignDataset for a data set as another tool wrote it,
    and DatasetError when there is none or more than one.
    """
    root = _dataset_root(dataset_dir)
    own = own_annotations(root)
    train, val, test = (
        own.get(split, root / "annotations" / f"instance_{split}.json") for split in ("train", "val", "test")
    )
    return DatasetPaths(root=root, image_dir=root / "images", train_json=train, val_json=val, test_json=test)


def image_dir_beside(coco: CocoFile) -> Path | None:
    """The folder of the images of an annotation file that is in no data set; None if it is not found.

    Looked at are ``images/`` beside the file and beside its folder, and these two folders themselves. The one
    with most of the first images is taken.
    """
    folder = coco.path.absolute().parent
    places = (folder / "images", folder.parent / "images", folder, folder.parent)
    names = [image.file_name for image in coco.images[:20]]
    counts = [sum(_has_image(place, name) for name in names) for place in places]
    return places[counts.index(max(counts))] if any(counts) else None


def _has_image(image_dir: Path, file_name: str) -> bool:
    try:
        return image_path(image_dir, file_name).is_file()
    except DatasetError:  # a name that leads out of the folder
        return False


def unused_twins(paths: DatasetPaths) -> list[tuple[Path, Path]]:
    """Pairs of annotation files for one split, such as with and without an s: the used and the unused one."""
    used = (paths.train_json, paths.val_json, paths.test_json)
    twins = [(path, path.with_name(path.name.replace("instance_", "instances_", 1))) for path in used]
    return [(path, twin) for path, twin in twins if path != twin and path.is_file() and twin.is_file()]


def plain_name(file_name: str) -> str:
    """``file_name`` of an image with forward slashes, and with ``.`` and ``..`` resolved."""
    return posixpath.normpath(file_name.replace("\\", "/"))


def _dataset_root(dataset_dir: Path) -> Path:
    if dataset_dir.is_dir():
        for folder in (dataset_dir, *sorted(child for child in dataset_dir.iterdir() if child.is_dir())):
            if (folder / "images").is_dir():
                recover(folder)
        if (dataset_dir / "images").is_dir() and own_annotations(dataset_dir):
            return dataset_dir
    return own_root(dataset_dir)
