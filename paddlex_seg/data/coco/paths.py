"""The paths of a data set.

A data set is a folder with ``images/`` and ``annotations/instance_train.json`` and ``instance_val.json``.
"""

import posixpath
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import recover


@dataclass(frozen=True)
class DatasetPaths:
    """The paths of a data set. Before a conversion, the JSON files may not exist yet."""

    root: Path
    image_dir: Path
    train_json: Path
    val_json: Path
    test_json: Path  # optional


def dataset_paths(dataset_dir: Path) -> DatasetPaths:
    """The paths of the data set in ``dataset_dir``, or in its only direct subfolder with ``images/``.

    If a conversion or a split was killed there, it is completed first. Raises DatasetError when no folder
    contains ``images/``, or more than one subfolder does.
    """
    root = _dataset_root(dataset_dir)
    recover(root)
    annotations = root / "annotations"
    return DatasetPaths(
        root=root,
        image_dir=root / "images",
        train_json=annotations / "instance_train.json",
        val_json=annotations / "instance_val.json",
        test_json=annotations / "instance_test.json",
    )


def plain_name(file_name: str) -> str:
    """``file_name`` of an image with forward slashes, and with ``.`` and ``..`` resolved."""
    return posixpath.normpath(file_name.replace("\\", "/"))


def _dataset_root(dataset_dir: Path) -> Path:
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: there is no such folder. Set Global.dataset_dir to the data set.")
    if (dataset_dir / "images").is_dir():
        return dataset_dir
    nested = sorted(child for child in dataset_dir.iterdir() if (child / "images").is_dir())
    if not nested:
        raise DatasetError(
            f"{dataset_dir}: no folder 'images' in it or in a direct subfolder. Expected images/ and "
            "annotations/. Set Global.dataset_dir to the data set."
        )
    if len(nested) > 1:
        names = ", ".join(child.name for child in nested)
        raise DatasetError(
            f"{dataset_dir}: contains several data sets ({names}). Set Global.dataset_dir to one of them."
        )
    return nested[0]
