"""The content of ``check_dataset_result.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from paddlex_seg.data.checking.check import CheckReport
from paddlex_seg.data.checking.statistics import class_table, image_table, size_table
from paddlex_seg.data.coco.describe import describe_data


def check_result(
    report: CheckReport, samples: Mapping[str, Sequence[str]], histogram: str | None, page: str
) -> dict[str, Any]:
    """The whole result. ``samples`` (by split), ``histogram`` and ``page`` are file paths."""
    images = image_table(report.shapes)
    return {
        "check_pass": not report.number_of("error"),
        "attributes": {
            "num_classes": len(report.train.categories),
            "train_samples": len(report.train.images),
            "train_sample_paths": list(samples["train"]),
            "val_samples": len(report.val.images),
            "val_sample_paths": list(samples["val"]),
            "train_annotations": len(report.train.annotations),
            "val_annotations": len(report.val.annotations),
            "class_counts": class_table(report.shapes),
            "object_sizes": size_table(report.shapes),
            "images": images,
            "pictures": {split: _with_earlier_keys(row) for split, row in images.items()},
        },
        "analysis": {"histogram": histogram, "report": page},
        "dataset_path": report.paths.root.resolve().name,
        "show_type": "image",
        "dataset_type": "COCOInstSegDataset",
        "data": describe_data(report.paths.root, train=report.train, val=report.val),
        "finding_counts": dict(report.counts),
        "findings": [asdict(finding) for finding in report.findings],
    }


def _with_earlier_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the image table with the keys of earlier versions added. To be removed in the next release."""
    return {**row, "pictures": row["images"], "objects_per_picture": row["objects_per_image"]}
