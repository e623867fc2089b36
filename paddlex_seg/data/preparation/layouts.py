"""The files of a prepared data set: annotation files, list files, and folders of folds."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.layouts.recognise import own_annotations
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.files.publish import fresh_folder
from paddlex_seg.structures import BANDS_FILE, CocoFile

SPLITS = ("train", "val", "test")


def existing_annotations(root: Path) -> dict[str, Path]:
    """The existing annotation files, by split."""
    return own_annotations(root)


def annotation_files(root: Path, splits: Mapping[str, CocoFile]) -> dict[Path, bytes | Path | None]:
    """The content of the new annotation files. None: a file of an earlier split that the new split lacks."""
    files: dict[Path, bytes | Path | None] = {
        root / "annotations" / f"instance_{name}.json": coco_to_json(coco).encode()
        for name, coco in splits.items()
    }
    return {root / "annotations" / f"instance_{name}.json": None for name in SPLITS} | files


def list_files(
    root: Path, splits: Mapping[str, CocoFile], lines: Mapping[str, str]
) -> dict[Path, bytes | Path | None]:
    """A list file for each split; ``lines`` has the line of each image, by ``file_name``."""
    return {
        root / f"{name}_anno_list.txt": "".join(
            f"{lines[record.file_name]}\n" for record in coco.images if record.file_name in lines
        ).encode()
        for name, coco in splits.items()
    }


def write_folds(root: Path, folds: Sequence[Mapping[str, CocoFile]], folder: Path | None = None) -> None:
    """Write the data sets ``1``, ``2`` ... into ``folder``, which share the images of ``root``, atomically.

    folder: None is ``folds`` in ``root``.
    """
    images = "../../images" if folder is None else str((root / "images").resolve())
    with fresh_folder(folder or root / "folds") as new:
        for number, parts in enumerate(folds, start=1):
            annotations = new / str(number) / "annotations"
            annotations.mkdir(parents=True)
            for name, coco in parts.items():
                (annotations / f"instance_{name}.json").write_text(coco_to_json(coco), encoding="utf-8")
            for name in (BANDS_FILE, ERRORS_FILE):
                if (root / name).is_file():
                    write_bytes(new / str(number) / name, (root / name).read_bytes())
            _share_images(root / "images", new / str(number) / "images", up=images)


def _share_images(source: Path, target: Path, up: str) -> None:
    """Provide the image folder as ``target``: a symbolic link to the path ``up``, or a copy."""
    try:
        os.symlink(up, target, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target)
