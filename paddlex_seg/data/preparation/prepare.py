"""What can be done to a data set before it is checked: convert, split, write in another format."""

from pathlib import Path

from paddlex_seg.data.findings import Finding
from paddlex_seg.data.preparation.convert import convert_dataset, write_dataset_as
from paddlex_seg.data.preparation.divide import divide_dataset
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError


def prepare(
    dataset_dir: Path, output_dir: Path, convert: ConvertSettings, split: SplitSettings
) -> list[Finding]:
    """Convert and split the data set in ``dataset_dir`` as told; gives back what conversion found.

    Raises ConfigError for settings that contradict each other or the data, and DatasetError when there is
    nothing to convert or to split.
    """
    split.require_sound()
    if not convert.enable:
        if split.enable:
            divide_dataset(dataset_dir, split)
        return []
    source, target = convert.src_dataset_type, convert.dst_dataset_type
    if target == "COCO":
        return convert_dataset(dataset_dir, source, split)
    if source not in (None, "COCO"):
        raise ConfigError(
            f"CheckDataset.convert: from {source} to {target} takes two runs: to COCO "
            "(leave dst_dataset_type out), then on."
        )
    if split.enable:
        divide_dataset(dataset_dir, split)
    return write_dataset_as(target, dataset_dir, output_dir / "check_dataset" / target)
