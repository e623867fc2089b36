"""The identity of the annotations of a run, for weights and result files."""

from pathlib import Path
from typing import Any

from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.structures import CocoFile


def describe_data(dataset_dir: Path, **files: CocoFile) -> dict[str, Any]:
    """Folder, and for each annotation file by split: number of images and objects, and SHA-256."""
    return {"path": str(dataset_dir), **describe_annotations(**files)}


def describe_annotations(**files: CocoFile) -> dict[str, Any]:
    """`describe_data` without paths: the identity of data that may have been moved."""
    return {
        split: {
            "images": len(coco.images),
            "objects": len(coco.annotations),
            "sha256": sha256_of(coco.path) if coco.path.is_file() else None,
        }
        for split, coco in files.items()
    }
