"""Preparation of a data set before the check: convert, split, or write in another format."""

from pathlib import Path

from paddlex_seg.data.preparation.convert import Prepared, convert_dataset, write_dataset_as
from paddlex_seg.data.preparation.divide import divide_dataset
from paddlex_seg.data.preparation.new_place import new_place
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError


def prepare(dataset_dir: Path, output_dir: Path, convert: ConvertSettings, split: SplitSettings) -> Prepared:
    """Convert and split the data set in ``dataset_dir``. Returns where it then is, with findings.

    Raises ConfigError for settings that contradict each other or the data, and DatasetError when there is
    nothing to convert or to split.
    """
    split.require_valid()
    if not convert.enable:
        return Prepared(_split(dataset_dir, output_dir, convert, split))
    source, target = convert.src_dataset_type, convert.dst_dataset_type
    if target == "COCO":
        return convert_dataset(dataset_dir, output_dir, convert, split)
    if source not in (None, "COCO"):
        raise ConfigError(
            f"CheckDataset.convert: {source} cannot be converted to {target} in one run. Convert to COCO "
            f"first (without dst_dataset_type), then from COCO to {target} (without src_dataset_type)."
        )
    dataset_dir = _split(dataset_dir, output_dir, convert, split)
    found = write_dataset_as(target, dataset_dir, output_dir / "check_dataset" / target)
    return Prepared(dataset_dir, tuple(found))


def _split(dataset_dir: Path, output_dir: Path, convert: ConvertSettings, split: SplitSettings) -> Path:
    if not split.enable:
        return dataset_dir
    return divide_dataset(dataset_dir, split, new_place(output_dir, convert.dst_dir))
