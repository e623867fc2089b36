"""Preparation of a data set before the check: convert, split, or write in another format."""

from pathlib import Path

from paddlex_seg.data.findings import Finding
from paddlex_seg.data.preparation.convert import convert_dataset, write_dataset_as
from paddlex_seg.data.preparation.divide import divide_dataset
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError


def prepare(
    dataset_dir: Path, output_dir: Path, convert: ConvertSettings, split: SplitSettings
) -> list[Finding]:
    """Convert and split the data set in ``dataset_dir``. Returns the findings of the conversion.

    Raises ConfigError for settings that contradict each other or the data, and DatasetError when there is
    nothing to convert or to split.
    """
    split.require_valid()
    if not convert.enable:
        if split.enable:
            divide_dataset(dataset_dir, split)
        return []
    source, target = convert.src_dataset_type, convert.dst_dataset_type
    if target == "COCO":
        return convert_dataset(dataset_dir, source, split)
    if source not in (None, "COCO"):
        raise ConfigError(
            f"CheckDataset.convert: {source} cannot be converted to {target} in one run. Convert to COCO "
            f"first (without dst_dataset_type), then from COCO to {target} (without src_dataset_type)."
        )
    if split.enable:
        divide_dataset(dataset_dir, split)
    return write_dataset_as(target, dataset_dir, output_dir / "check_dataset" / target)
